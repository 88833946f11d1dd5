//! A worker: a thread with connections of its own, that shares nothing with others while it serves.
//!
//! A task that stays on its thread wakes nobody else: that is why there is one runtime for each
//! core, and not one for all (ADR 10).

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use farebox_chain::Bitcoind;
use farebox_ledger::Post;
use farebox_middleware::Cashier;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::booth::Seat;
use super::door::Door;
use super::stream::{Socket, Watched};
use super::streams::Streams;
use super::vitals::{Patience, TICK, Ward};
use crate::config::Limits;
use crate::guard::Held;
use crate::guard::address::{Peer, Scheme};
use crate::watcher::Watcher;

/// How much of one body a client may send before any of it is passed on, with HTTP/2. So much memory
/// at most waits for each request under way.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The greatest window there is (RFC 9113 §6.9.1): room for 8,191 bodies.
const WINDOW_MAX: u32 = (1 << 31) - 1;

/// How long clients may take to hear why their answers end, once the gateway waits no longer for them.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// How long what is charged may take from then on to be settled.
const SETTLING: Duration = Duration::from_secs(5);
/// How often it is looked whether what was waited for has come.
const LOOK: Duration = Duration::from_millis(20);
/// How long a worker may take to end, beyond what requests may take to end.
pub(super) const GRACE: Duration = LAST_WORDS.saturating_add(SETTLING);

/// A connection that was accepted and has a place.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// Its socket, that no runtime has yet.
    pub(crate) socket: std::net::TcpStream,
    /// Who has connected.
    pub(crate) peer: Peer,
    /// Its place.
    pub(crate) held: Held,
}

/// A thread that serves connections.
#[derive(Debug)]
pub(crate) struct Worker {
    /// No more wait there than connections have places.
    arrivals: mpsc::UnboundedSender<(Arrival, Counted)>,
    load: Arc<AtomicUsize>,
    thread: JoinHandle<bool>,
}

/// What a worker takes payments with: the answers that come to it, and the cashier that waits for them.
#[derive(Debug)]
pub(crate) struct Till {
    /// What its runtime carries.
    pub(crate) post: Post,
    /// The cashier of that post.
    pub(crate) cashier: Cashier<Watcher<Bitcoind>>,
}

impl Worker {
    /// Starts a worker. It ends once it is dismissed, its connections have ended, and what they were
    /// charged is settled.
    pub(crate) fn start(
        seat: Arc<Seat>,
        till: Till,
        draining: watch::Receiver<bool>,
    ) -> io::Result<Self> {
        let (arrivals, accepted) = mpsc::unbounded_channel();
        let load = Arc::new(AtomicUsize::new(0));
        let index = seat.booth().worker;
        let Till { post, cashier } = till;
        // While no task has anything to do, nobody here is about to pay.
        let hand = Arc::new(cashier.hand());
        let resting = Arc::clone(&hand);
        let hall = Hall { seat, ward: Ward::default(), cashier, draining };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .on_thread_park(move || resting.rest())
            .on_thread_unpark(move || hand.work())
            .enable_all()
            .build()?;
        let thread = thread::Builder::new().name(format!("farebox-{index}")).spawn(move || {
            runtime.spawn(post.carry());
            runtime.block_on(hall.work(accepted))
        })?;
        Ok(Self { arrivals, load, thread })
    }

    /// Returns how many connections it has.
    pub(crate) fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    /// Hands a connection over.
    pub(crate) fn take(&self, arrival: Arrival) {
        // It counts from here on: the next one must not go to the same worker for want of a count.
        let counted = Counted::new(&self.load);
        // It has ended only if it is not wanted any more.
        let _ended = self.arrivals.send((arrival, counted));
    }

    /// Gives it no more connections, and has it end. Returns its thread, which tells whether its
    /// requests have ended in time.
    pub(crate) fn dismiss(self) -> JoinHandle<bool> {
        self.thread
    }
}

/// What a worker works with.
struct Hall {
    seat: Arc<Seat>,
    ward: Ward,
    cashier: Cashier<Watcher<Bitcoind>>,
    draining: watch::Receiver<bool>,
}

impl Hall {
    /// Serves until nothing more comes, and then lets requests end. Tells whether they have in time.
    async fn work(self, mut accepted: mpsc::UnboundedReceiver<(Arrival, Counted)>) -> bool {
        let mut rounds = interval(TICK);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                arrival = accepted.recv() => match arrival {
                    Some((arrival, counted)) => self.admit(arrival, counted),
                    None => break,
                },
                _ = rounds.tick() => self.round(),
            }
        }
        let (begun, patience) = (Instant::now(), self.seat.booth().site.limits.drain_timeout);
        let mut ending = pin!(self.end(begun + patience));
        loop {
            tokio::select! {
                is_in_time = ending.as_mut() => return is_in_time,
                _ = rounds.tick() => self.round(),
            }
        }
    }

    /// Lets requests end until then, and ends what is left. Returns once all that they were charged is
    /// settled, and tells whether they have ended in time.
    ///
    /// A body that is dropped settles by tasks of this runtime, so the runtime has to outlive them. The
    /// requests of other workers are waited for along with them: what is held is known of all together.
    async fn end(&self, deadline: Instant) -> bool {
        let left = async || until(|| self.ward.is_empty()).await;
        let is_in_time = timeout_at(deadline, left()).await.is_ok();
        if !is_in_time {
            self.cashier.stop();
            if timeout_at(deadline + LAST_WORDS, left()).await.is_err() {
                self.ward.end();
            }
        }
        let settled = async {
            left().await;
            until(|| self.cashier.is_idle()).await;
        };
        if timeout_at(deadline + GRACE, settled).await.is_err() {
            tracing::warn!("the gateway stops, and some charges are not settled");
        }
        is_in_time
    }

    fn round(&self) {
        let booth = self.seat.booth();
        let site = &booth.site;
        let Limits { header_timeout, idle_timeout, write_timeout, .. } = site.limits;
        let (head, idle, write) = (header_timeout, idle_timeout, write_timeout);
        self.ward.round(&Patience { head, idle, write });
        for upstream in &site.upstreams {
            upstream.prune(booth.worker);
        }
    }

    fn admit(&self, arrival: Arrival, counted: Counted) {
        let Arrival { socket, peer, held } = arrival;
        let Ok(socket) = TcpStream::from_std(socket) else { return };
        let booth = self.seat.booth();
        let site = &booth.site;
        let vitals = self.ward.admit();
        if peer.is_trusted() {
            vitals.share();
        }
        let tls = site.tls.clone();
        let door = Door {
            seat: Arc::clone(&self.seat),
            vitals: Arc::clone(&vitals),
            peer,
            scheme: if tls.is_some() { Scheme::Https } else { Scheme::Http },
            crossing: Mutex::default(),
        };
        let counted = (counted, held, site.observers.metrics().connection());
        let draining = self.draining.clone();
        let watching = Arc::clone(&vitals);
        let sizes = Sizes::of(&site.limits);
        let task = tokio::spawn(async move {
            let _counted = counted;
            let socket = match tls {
                None => Socket::Plain(socket),
                Some(tls) => match TlsAcceptor::from(tls).accept(socket).await {
                    Ok(stream) => Socket::Tls(Box::new(stream)),
                    Err(error) => return tracing::debug!(%error, "no TLS with a client"),
                },
            };
            speak(Watched::new(socket, watching), door, sizes, draining).await;
        });
        self.ward.watch(vitals, task.abort_handle());
    }
}

/// Speaks HTTP on a connection, until it ends or is to end, and carries on what it has become.
async fn speak(stream: Watched, door: Door, sizes: Sizes, mut draining: watch::Receiver<bool>) {
    let door = Arc::new(door);
    let service = service_fn(|request| Arc::clone(&door).serve(request));
    let mut builder = auto::Builder::new(Streams);
    builder.http1().header_read_timeout(None).max_buf_size(sizes.head);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(sizes.window)
        .max_concurrent_streams(sizes.streams)
        .max_header_list_size(u32::try_from(sizes.head).unwrap_or(u32::MAX));
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = told_beside(&mut draining) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection has ended");
    }
    if let Some(crossing) = door.crossing() {
        crossing.run(told(&mut draining)).await;
    }
}

/// How much a connection may ask for.
#[derive(Clone, Copy)]
struct Sizes {
    /// The length of a request's head, in bytes.
    head: usize,
    /// The requests at the same time, with HTTP/2.
    streams: u32,
    /// What may be sent of all bodies together before any of it is passed on, with HTTP/2: room for
    /// each of them, so that one that a service does not read holds up no other.
    window: u32,
}

impl Sizes {
    fn of(limits: &Limits) -> Self {
        let streams = limits.streams.get();
        let window = STREAM_WINDOW.saturating_mul(streams).min(WINDOW_MAX);
        Self { head: limits.header_bytes, streams, window }
    }
}

/// Waits until something is true.
async fn until(is_true: impl Fn() -> bool) {
    while !is_true() {
        sleep(LOOK).await;
    }
}

/// Waits until the gateway stops.
async fn told(draining: &mut watch::Receiver<bool>) {
    let _told = draining.wait_for(|draining| *draining).await;
}

/// The same, beside a connection that one task polls often. Once that task waits to be woken, all there
/// is to see is whether something has changed.
async fn told_beside(draining: &mut watch::Receiver<bool>) {
    let news = draining.clone();
    let mut told = pin!(told(draining));
    let mut is_waiting = false;
    poll_fn(|context| {
        if is_waiting && news.has_changed().is_ok_and(|has_changed| !has_changed) {
            return Poll::Pending;
        }
        is_waiting = true;
        told.as_mut().poll(context)
    })
    .await;
}

/// A connection that is counted, for as long as this value lives.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
