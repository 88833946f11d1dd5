//! Limits on what strangers may ask of the gateway: who they are, how often, and how much at once.
//!
//! Nothing here waits, knows of sockets or reads a body. A limit that is reached is a [`Problem`].

pub(crate) mod address;
pub(crate) mod allowance;
pub(crate) mod concurrency;
pub(crate) mod rate;

use std::num::NonZeroU32;
use std::time::Instant;

use farebox_middleware::{Problem, ProblemKind};

use crate::config::Limits;
use address::{ClientKey, Peer};
use concurrency::{Full, InFlight, Slot, Total, TotalSlot};
use rate::{Buckets, Wait};

/// All limits of a gateway, shared by its threads.
#[derive(Debug)]
pub(crate) struct Guards {
    connections: Total,
    connections_by_client: InFlight<ClientKey>,
    requests: Total,
    requests_by_client: InFlight<ClientKey>,
    openings_by_client: InFlight<ClientKey>,
    openings: Buckets,
    unpaid: Buckets,
    false_payments: Buckets,
}

impl Guards {
    /// Sets the limits up.
    pub(crate) fn new(limits: &Limits, now: Instant) -> Self {
        Self {
            connections: Total::new(limits.connections),
            connections_by_client: InFlight::new(limits.connections_per_client),
            requests: Total::new(limits.requests),
            requests_by_client: InFlight::new(limits.requests_per_client),
            openings_by_client: InFlight::new(limits.openings_at_once),
            openings: Buckets::new(limits.openings, now),
            unpaid: Buckets::new(limits.unpaid, now),
            false_payments: Buckets::new(limits.unpaid, now),
        }
    }

    /// Takes a connection. Those of a trusted proxy count among all only, since many clients share
    /// them.
    ///
    /// # Errors
    /// [`Full`] when there are too many; there is nobody to answer yet.
    pub(crate) fn connection(&self, peer: &Peer) -> Result<Held, Full> {
        let among_all = self.connections.enter()?;
        if peer.is_trusted() {
            return Ok(Held { _among_all: among_all, _of_client: None });
        }
        let of_client = self.connections_by_client.enter(peer.address().into())?;
        Ok(Held { _among_all: among_all, _of_client: Some(of_client) })
    }

    /// Takes a request of a client.
    ///
    /// # Errors
    /// `too-many-requests` when too many of the client are under way, and `overloaded` when too
    /// many are in all.
    pub(crate) fn request(&self, client: ClientKey) -> Result<Held, Problem> {
        // The client first: one that has too many of its own is not told that others do.
        let of_client = self.requests_by_client.enter(client).map_err(|Full| {
            too_many("too many requests of this address are under way", Wait::SHORTEST)
        })?;
        let among_all = self.requests.enter().map_err(|Full| {
            let detail = "the gateway has as many requests under way as it takes; try again later";
            Problem::new(ProblemKind::Overloaded, detail)
        })?;
        Ok(Held { _among_all: among_all, _of_client: Some(of_client) })
    }

    /// Takes a step of a client that is no payment.
    ///
    /// # Errors
    /// `too-many-requests` when too many are under way, or the client asks too often.
    pub(crate) fn opening(
        &self,
        client: ClientKey,
        now: Instant,
    ) -> Result<Slot<ClientKey>, Problem> {
        let slot = self.openings_by_client.enter(client).map_err(|Full| {
            let detail = "too many steps of this address are under way";
            too_many(detail, Wait::SHORTEST)
        })?;
        let taken = self.openings.take(client, now);
        taken.map_err(|wait| too_many("this address asks for steps too often", wait))?;
        Ok(slot)
    }

    /// Counts a request without a payment, which is answered 402 or with the price list, or with
    /// what this returns.
    ///
    /// # Errors
    /// `too-many-requests` when the client has asked so too often.
    pub(crate) fn unpaid(&self, client: ClientKey, now: Instant) -> Result<(), Problem> {
        let counted = count(&self.unpaid, client, now);
        counted.map_err(|wait| too_many("this address asks too often without paying", wait))
    }

    /// Tells whether a price may be asked that nobody has asked yet. Nothing is counted: the request is,
    /// once it is known what it costs.
    ///
    /// # Errors
    /// `too-many-requests` when the client is over one of its limits, whatever it asks for: who it is
    /// would be known only after its price.
    pub(crate) fn question(&self, client: ClientKey, now: Instant) -> Result<(), Problem> {
        let buckets = [&self.unpaid, &self.false_payments, &self.openings];
        let over = buckets.into_iter().find_map(|buckets| buckets.check(client, now).err());
        over.map_or(Ok(()), |wait| Err(too_many("this address asks for too many prices", wait)))
    }

    /// Counts a payment of no channel. Whoever pays from the same address is not counted with it,
    /// and neither is whoever asks there without a payment.
    ///
    /// # Errors
    /// `too-many-requests` when the client has sent too many.
    pub(crate) fn false_payment(&self, client: ClientKey, now: Instant) -> Result<(), Problem> {
        let counted = count(&self.false_payments, client, now);
        counted.map_err(|wait| too_many("this address sends too many false payments", wait))
    }
}

/// Tells whether there is a request in a client's bucket, and counts it in any case: whoever goes
/// on asking waits longer.
fn count(buckets: &Buckets, client: ClientKey, now: Instant) -> Result<(), Wait> {
    let checked = buckets.check(client, now);
    buckets.debit(client, now);
    checked
}

/// A place among all and one of the client. Dropped, both are free again.
#[derive(Debug)]
#[must_use = "a place that is dropped is free again"]
pub(crate) struct Held {
    _among_all: TotalSlot,
    _of_client: Option<Slot<ClientKey>>,
}

/// Says that a client asks too much, and when to come back.
fn too_many(detail: &str, wait: Wait) -> Problem {
    let wait_secs = NonZeroU32::new(wait.secs()).unwrap_or(NonZeroU32::MIN);
    let detail = format!("{detail}; try again in {wait_secs} s");
    Problem::new(ProblemKind::TooManyRequests, detail).retry_after(wait_secs)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use http::header::RETRY_AFTER;

    use super::address::TrustedProxies;
    use super::*;

    fn small() -> Limits {
        let most = |most| NonZeroU32::new(most).unwrap();
        Limits {
            connections: most(3),
            connections_per_client: most(2),
            requests: most(3),
            requests_per_client: most(2),
            openings_at_once: most(1),
            openings: rate::Rate { per_sec: most(1), burst: most(3) },
            unpaid: rate::Rate { per_sec: most(1), burst: most(2) },
            ..Limits::default()
        }
    }

    fn client(last: u8) -> ClientKey {
        IpAddr::from([1, 2, 3, last]).into()
    }

    fn kind<T: std::fmt::Debug>(outcome: Result<T, Problem>) -> ProblemKind {
        outcome.unwrap_err().kind
    }

    #[test]
    fn a_client_with_too_much_is_told_so_and_all_together_are_told_otherwise() {
        let guards = Guards::new(&small(), Instant::now());

        let first = guards.request(client(1)).unwrap();
        let _second = guards.request(client(1)).unwrap();
        assert_eq!(kind(guards.request(client(1))), ProblemKind::TooManyRequests);
        let _other = guards.request(client(2)).unwrap();
        assert_eq!(kind(guards.request(client(2))), ProblemKind::Overloaded);

        drop(first);
        let _third = guards.request(client(2)).unwrap();
    }

    #[test]
    fn steps_are_limited_at_once_and_in_time() {
        let start = Instant::now();
        let guards = Guards::new(&small(), start);

        let slot = guards.opening(client(1), start).unwrap();
        assert_eq!(kind(guards.opening(client(1), start)), ProblemKind::TooManyRequests);
        drop(slot);
        for _ in 0..2 {
            drop(guards.opening(client(1), start).unwrap());
        }
        assert_eq!(kind(guards.opening(client(1), start)), ProblemKind::TooManyRequests);
        drop(guards.opening(client(2), start).unwrap());
        drop(guards.opening(client(1), start + Duration::from_secs(1)).unwrap());
    }

    #[test]
    fn whoever_never_pays_is_told_when_to_come_back() {
        let start = Instant::now();
        let guards = Guards::new(&small(), start);
        for _ in 0..2 {
            guards.unpaid(client(1), start).unwrap();
        }

        let problem = guards.unpaid(client(1), start).unwrap_err();
        let response = problem.response();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[RETRY_AFTER], "1");
        assert!(guards.unpaid(client(2), start).is_ok());
        assert!(guards.false_payment(client(1), start).is_ok(), "they are counted apart");
        assert!(guards.unpaid(client(1), start + Duration::from_secs(2)).is_ok());
    }

    #[test]
    fn a_trusted_proxy_has_all_connections_and_a_stranger_its_own() {
        let proxies = TrustedProxies::new(["10.0.0.1/32".parse().unwrap()]);
        let peer = |address: [u8; 4]| proxies.peer(address.into());
        let guards = Guards::new(&small(), Instant::now());

        let stranger = [(); 2].map(|()| guards.connection(&peer([9, 9, 9, 9])).unwrap());
        assert!(guards.connection(&peer([9, 9, 9, 9])).is_err());
        drop(stranger);
        let _proxy = [(); 3].map(|()| guards.connection(&peer([10, 0, 0, 1])).unwrap());
        assert!(guards.connection(&peer([10, 0, 0, 1])).is_err());
    }
}
