//! The load: one thread that keeps connections busy, or sends at a steady rate.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use crate::Outcome;
use crate::connection::{Answer, Connection};
use crate::requests::Requests;

/// How many connections are looked at at a time.
const EVENTS: usize = 256;
/// What the timer's events are called. Those of connections have the connection's number.
const TIMER: u64 = u64::MAX;
/// How long nothing may come in while something is under way.
const STALL: Duration = Duration::from_secs(10);

/// What load is to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) connections: usize,
    /// How many requests to send in a second, or each at once after an answer.
    pub(crate) rate: Option<f64>,
    pub(crate) warm_up: Duration,
    pub(crate) window: Duration,
}

/// What came of it in the window.
#[derive(Debug)]
pub(crate) struct Measured<S> {
    pub(crate) elapsed: Duration,
    /// The time of each answer in microseconds, the shortest first.
    pub(crate) times: Vec<u32>,
    /// How many bytes have come in.
    pub(crate) bytes: u64,
    /// What was looked up before and after the window.
    pub(crate) before: S,
    pub(crate) after: S,
}

impl Load {
    /// Sends requests, and looks something up before and after the window.
    pub(crate) fn run<S>(
        &self,
        requests: &mut Requests<'_>,
        mut look: impl FnMut() -> Outcome<S>,
    ) -> Outcome<Measured<S>> {
        let mut clients = Clients::connect(self, requests)?;
        clients.run_until(Instant::now() + self.warm_up)?;
        clients.times.clear();
        let (before, read) = (look()?, clients.bytes());
        let began = Instant::now();
        clients.run_until(began + self.window)?;
        let elapsed = began.elapsed();
        let mut times = std::mem::take(&mut clients.times);
        let (after, bytes) = (look(), clients.bytes() - read);
        clients.drain()?;
        // What was refused says more than what it led to.
        clients.judge()?;
        times.sort_unstable();
        Ok(Measured { elapsed, times, bytes, before, after: after? })
    }
}

/// All connections of a run.
struct Clients<'a, 'b> {
    poll: OwnedFd,
    /// Wakes a steady sender. What `epoll` itself waits is whole milliseconds.
    timer: OwnedFd,
    events: Vec<epoll::Event>,
    connections: Vec<Connection>,
    /// Those without a request under way, the longest idle first.
    idle: VecDeque<usize>,
    requests: &'a mut Requests<'b>,
    /// The time between two requests, and when the next one is to be sent.
    pace: Option<(Duration, Instant)>,
    times: Vec<u32>,
    /// How many answers had another status than 200, and the first of them.
    refused: u32,
    first_refused: Option<String>,
    last_answer: Instant,
}

impl<'a, 'b> Clients<'a, 'b> {
    fn connect(load: &Load, requests: &'a mut Requests<'b>) -> Outcome<Self> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
        let timer_event = epoll::EventData::new_u64(TIMER);
        epoll::add(&poll, &timer, timer_event, epoll::EventFlags::IN | epoll::EventFlags::ET)?;
        let mut connections = Vec::new();
        for index in 0..load.connections {
            let connection = Connection::open(load.address)?;
            let index = epoll::EventData::new_u64(u64::try_from(index)?);
            epoll::add(&poll, &connection.stream, index, epoll::EventFlags::IN)?;
            connections.push(connection);
        }
        let now = Instant::now();
        Ok(Self {
            poll,
            timer,
            events: Vec::with_capacity(EVENTS),
            connections,
            idle: (0..load.connections).collect(),
            requests,
            pace: load.rate.map(|rate| (Duration::from_secs_f64(1.0 / rate), now)),
            times: Vec::with_capacity(1 << 20),
            refused: 0,
            first_refused: None,
            last_answer: now,
        })
    }

    fn bytes(&self) -> u64 {
        self.connections.iter().map(|connection| connection.bytes).sum()
    }

    /// Sends and reads until a time.
    fn run_until(&mut self, end: Instant) -> Outcome<()> {
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            self.send_due(now)?;
            if let Some((_, next)) = self.pace
                && !self.idle.is_empty()
            {
                self.wake_in(next.saturating_duration_since(now))?;
            }
            self.read_for(end - now)?;
        }
    }

    /// Sends no more, and reads the answers that are still to come.
    fn drain(&mut self) -> Outcome<()> {
        while self.idle.len() < self.connections.len() {
            self.pace = Some((STALL, Instant::now() + 2 * STALL));
            self.read_for(STALL)?;
        }
        Ok(())
    }

    /// Says what was refused.
    fn judge(&self) -> Outcome<()> {
        match &self.first_refused {
            Some(first) => {
                Err(format!("{} answers were not 200. The first:\n{first}", self.refused).into())
            }
            None => Ok(()),
        }
    }

    /// Sends what is due on the connections that are idle.
    ///
    /// A steady sender that found no idle connection is late. Its time counts from when it should
    /// have sent.
    fn send_due(&mut self, now: Instant) -> Outcome<()> {
        while let Some(&index) = self.idle.front() {
            let began = match &mut self.pace {
                Some((_, next)) if *next > now => return Ok(()),
                Some((interval, next)) => std::mem::replace(next, *next + *interval),
                None => now,
            };
            self.idle.pop_front();
            let request = self.requests.next(index)?;
            self.connections[index].send(&request, began)?;
        }
        Ok(())
    }

    /// Sets the timer. A time of 0 would stop it.
    fn wake_in(&self, time: Duration) -> Outcome<()> {
        let it_value = Timespec::try_from(time.max(Duration::from_nanos(1)))?;
        let it_interval = Timespec::try_from(Duration::ZERO)?;
        let once = Itimerspec { it_interval, it_value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }

    /// Waits for answers or the timer, and reads the answers that are there.
    fn read_for(&mut self, wait: Duration) -> Outcome<()> {
        let wait = Timespec::try_from(wait.min(STALL))?;
        self.events.clear();
        match epoll::wait(&self.poll, spare_capacity(&mut self.events), Some(&wait)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let events = std::mem::take(&mut self.events);
        for event in events.iter().filter(|event| event.data.u64() != TIMER) {
            self.read(usize::try_from(event.data.u64())?)?;
        }
        self.events = events;
        let is_waiting = self.idle.len() < self.connections.len();
        if is_waiting && self.last_answer.elapsed() > STALL {
            self.judge()?;
            return Err("no answer comes in any more".into());
        }
        Ok(())
    }

    /// Reads from a connection, and sends the next request where that is due.
    fn read(&mut self, index: usize) -> Outcome<()> {
        let connection = &mut self.connections[index];
        let answer = match connection.read() {
            Ok(Some(answer)) => answer,
            Ok(None) => return Ok(()),
            Err(error) => {
                self.judge()?;
                return Err(error);
            }
        };
        let now = Instant::now();
        self.times.push(u32::try_from((now - connection.began).as_micros())?);
        if let Answer::Other(words) = answer {
            self.refused += 1;
            self.first_refused.get_or_insert(words);
        }
        self.idle.push_back(index);
        self.last_answer = now;
        self.send_due(now)
    }
}
