//! What is left of HTTP once a client and a service have agreed on a WebSocket (RFC 6455): bytes both
//! ways.
//!
//! The gateway reads the heads of the frames along the way, so that it knows what to count and where
//! it may put in a close frame of its own. A piece goes by the [`Toll`] before it is sent: there, and
//! nowhere else, it is decided what passes, and it waits there until it is paid.

mod frames;
mod toll;
mod way;

use std::future::Future;
use std::time::Duration;

use farebox_middleware::Problem;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use frames::Side;
pub(crate) use toll::Toll;
use way::{End, Way};

/// How long each of both steps of an end may take: to send what is on its way, and to wait until both
/// sides have hung up.
const GRACE: Duration = Duration::from_secs(2);

/// Why the gateway ends a tunnel by itself, as a close frame says it (RFC 6455 §7.4).
#[derive(Debug)]
struct Stop {
    code: u16,
    reason: String,
}

impl Stop {
    /// The gateway stops.
    fn stopping() -> Self {
        Self { code: 1001, reason: "the gateway stops".to_owned() }
    }

    /// Nothing has moved for too long.
    fn idle(pause: Duration) -> Self {
        let reason = format!("nothing was sent either way for {} s", pause.as_secs());
        Self { code: 1001, reason }
    }

    /// It is not paid any further.
    fn unpaid(problem: &Problem) -> Self {
        Self { code: 1008, reason: format!("{}: {}", problem.kind.name(), problem.detail) }
    }

    /// One side does not speak as it should.
    fn malformed(from: Side, malformed: frames::Malformed) -> Self {
        Self { code: 1002, reason: format!("the {} has sent {malformed}", from.name()) }
    }
}

/// Why a tunnel ends.
#[derive(Debug)]
enum Ended {
    /// A side has hung up, or cannot be reached.
    By(Side),
    /// The gateway ends it.
    Stopped(Stop),
}

impl Ended {
    fn of(from: Side, end: End) -> Self {
        match end {
            End::HungUp | End::Broken(_) => Self::By(from),
            End::Malformed(malformed) => Self::Stopped(Stop::malformed(from, malformed)),
            End::Unpaid(problem) => Self::Stopped(Stop::unpaid(&problem)),
        }
    }
}

/// A tunnel that both sides have agreed on.
#[derive(Debug)]
pub(crate) struct Tunnel {
    /// The client's connection, once the agreement was sent.
    pub(crate) client: OnUpgrade,
    /// The service's connection.
    pub(crate) service: OnUpgrade,
    /// How long there may be silence in both ways.
    pub(crate) pause: Duration,
}

impl Tunnel {
    /// Passes on what both sides send, until one of them hangs up, or until `stopped`. Tells whether it
    /// has ended well: not where the client has left without a word.
    pub(crate) async fn run(self, toll: &Toll, stopped: impl Future<Output = ()> + Send) -> bool {
        let (client, service) = match tokio::try_join!(self.client, self.service) {
            Ok((client, service)) => (TokioIo::new(client), TokioIo::new(service)),
            Err(error) => {
                tracing::debug!(%error, "there was no tunnel in the end");
                return false;
            }
        };
        let (from_client, to_client) = tokio::io::split(client);
        let (from_service, to_service) = tokio::io::split(service);
        let mut up = Way::new(Side::Client, (from_client, to_service), toll);
        let mut down = Way::new(Side::Service, (from_service, to_client), toll);
        let ended = tokio::select! {
            end = up.run() => Ended::of(Side::Client, end),
            end = down.run() => Ended::of(Side::Service, end),
            problem = toll.unpaid() => Ended::Stopped(Stop::unpaid(&problem)),
            () = toll.standstill(self.pause) => Ended::Stopped(Stop::idle(self.pause)),
            () = stopped => Ended::Stopped(Stop::stopping()),
        };
        tracing::debug!(?ended, "a tunnel ends");
        match &ended {
            Ended::Stopped(stop) => {
                let stopping = async { tokio::join!(up.stop(stop), down.stop(stop)) };
                // Who does not take it in time is hung up on.
                let _late = timeout(GRACE, stopping).await;
            }
            Ended::By(side) => {
                let (over, other) = match side {
                    Side::Client => (&mut up, &mut down),
                    Side::Service => (&mut down, &mut up),
                };
                let passing = async {
                    over.hang_up().await;
                    // There may be an answer to the last words.
                    other.run().await
                };
                let _late = timeout(GRACE, passing).await;
            }
        }
        let _late = timeout(GRACE, async { tokio::join!(up.end(), down.end()) }).await;
        !matches!(ended, Ended::By(Side::Client)) || up.has_closed() || down.has_closed()
    }
}
