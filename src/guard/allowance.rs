//! What clients have free: so many requests in each span of time.
//!
//! Spans begin for all clients at the same time, so that a count is forgotten with its span.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::address::ClientKey;
use crate::routes::Allowance;

/// The greatest number of clients that have something free in one span. Whoever comes later pays:
/// otherwise one client with many addresses would have everything free.
const CLIENTS_MAX: usize = 100_000;

/// The greatest number of them that share the first 48 bits of an IPv6 address. Whoever has a
/// network has that much easily (RFC 6177), and would be all clients otherwise.
const NETWORK_MAX: u32 = 256;

/// What the clients of one route have used of their allowance.
#[derive(Debug)]
pub(crate) struct Allowances {
    allowance: Allowance,
    since: Instant,
    used: Mutex<Used>,
}

/// What was used in one span.
#[derive(Debug, Default)]
struct Used {
    span: u64,
    requests: HashMap<ClientKey, u32>,
    /// How many clients of each IPv6 network are among them.
    networks: HashMap<u64, u32>,
}

impl Used {
    /// Takes the first request of a newcomer, and tells whether there was room for it.
    fn admit(&mut self, client: ClientKey) -> bool {
        if self.requests.len() >= CLIENTS_MAX {
            return false;
        }
        if let ClientKey::V6(half) = client {
            let known = self.networks.entry(half >> 16).or_default();
            if *known >= NETWORK_MAX {
                return false;
            }
            *known = known.saturating_add(1);
        }
        self.requests.insert(client, 1);
        true
    }
}

impl Allowances {
    /// Gives each client an allowance, from `now` on.
    pub(crate) fn new(allowance: Allowance, now: Instant) -> Self {
        Self { allowance, since: now, used: Mutex::default() }
    }

    /// Returns the allowance.
    pub(crate) const fn allowance(&self) -> Allowance {
        self.allowance
    }

    /// Takes a request of a client's allowance, and tells whether there was one left.
    pub(crate) fn take(&self, client: ClientKey, now: Instant) -> bool {
        let span = u64::from(self.allowance.span.get()).max(1);
        let span = now.saturating_duration_since(self.since).as_secs().div_euclid(span);
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        // A request that began before the border may come to it after one that began behind it.
        if used.span < span {
            *used = Used { span, ..Used::default() };
        }
        if let Some(requests) = used.requests.get_mut(&client) {
            let is_left = *requests < self.allowance.requests;
            if is_left {
                *requests = requests.saturating_add(1);
            }
            return is_left;
        }
        self.allowance.requests > 0 && used.admit(client)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    use farebox_channel::Seconds;

    use super::*;

    fn client(number: u32) -> ClientKey {
        IpAddr::from(Ipv4Addr::from_bits(number)).into()
    }

    fn allowances(requests: u32) -> (Allowances, Instant) {
        let start = Instant::now();
        let allowance = Allowance { requests, span: Seconds::new(60) };
        (Allowances::new(allowance, start), start)
    }

    #[test]
    fn each_client_has_its_own_allowance_and_it_comes_back() {
        let (allowances, start) = allowances(2);
        let at = |secs| start + Duration::from_secs(secs);
        assert!(allowances.take(client(1), at(0)) && allowances.take(client(1), at(59)));
        assert!(!allowances.take(client(1), at(59)));
        assert!(allowances.take(client(2), at(59)));
        assert!(allowances.take(client(1), at(60)));
    }

    #[test]
    fn a_request_that_began_before_a_border_gives_nobody_another_allowance() {
        let (allowances, start) = allowances(1);
        let at = |secs| start + Duration::from_secs(secs);
        assert!(allowances.take(client(1), at(60)));
        assert!(!allowances.take(client(1), at(59)), "another worker comes to it later");
        assert!(!allowances.take(client(1), at(60)));
        assert!(allowances.take(client(1), at(120)));
    }

    #[test]
    fn a_flood_from_one_network_of_ipv6_has_little_free_and_takes_nothing_from_others() {
        let (allowances, start) = allowances(2);
        let client = |network: u64, number: u64| ClientKey::V6((network << 16) | number);
        let taken = |network| {
            let numbers = 0..60_000;
            numbers.filter(|number| allowances.take(client(network, *number), start)).count()
        };
        assert_eq!(taken(1), NETWORK_MAX as usize);
        assert_eq!(taken(2), NETWORK_MAX as usize);
        assert!(allowances.take(client(1, 0), start), "what was given is kept");
        let again = start + Duration::from_secs(60);
        assert!(allowances.take(client(1, 59_999), again), "and it comes back");
    }

    #[test]
    fn a_flood_of_addresses_has_little_free_and_takes_nothing_from_others() {
        let (allowances, start) = allowances(2);
        assert!(allowances.take(client(0), start));
        let served = (1..=200_000).filter(|number| allowances.take(client(*number), start)).count();
        assert_eq!(served, CLIENTS_MAX - 1);
        assert!(allowances.take(client(0), start), "what was given is kept");
    }
}
