//! Prices that are asked of a service of the seller's.
//!
//! An [`Asker`] asks for one route: each question once, however many requests wait for its answer,
//! and keeps what it has heard. What clients were told stands in [`Promises`], for all routes and
//! across reloads. Nothing here knows of payments.

mod promises;
mod question;
mod recent;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use farebox_channel::Msat;
use reqwest::redirect;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::observe::metrics::AskMetrics;
use crate::routes::Ask;
use crate::tls::{TlsError, Trust};
pub(crate) use promises::Promises;
use question::{AskError, Said};
pub(crate) use question::{Key, Question};
use recent::Recent;

/// The greatest number of questions that the service has at once.
const AT_ONCE_MAX: usize = 64;
/// The greatest number of questions under way: what is asked beyond that has no answer.
const UNDER_WAY_MAX: usize = 1_024;
/// For how long nothing more is asked for a request that has got no price.
const REST: Duration = Duration::from_secs(1);
/// How often it is logged at most that there is no price.
const QUIET: Duration = Duration::from_secs(10);
/// How long an unused connection is kept.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// What is known of a request's price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It costs so much; nothing means that it is free.
    Price(Msat),
    /// The service gives no price. It has given this one before.
    Down(Option<Msat>),
}

/// Who asks for the prices of one route.
#[derive(Debug)]
pub(crate) struct Asker {
    route: Box<str>,
    ask: Ask,
    trust: Trust,
    http: reqwest::Client,
    book: Mutex<Book>,
    places: Semaphore,
    metrics: Arc<AskMetrics>,
    /// Where questions are asked, so that none ends with the worker or the client that has come first.
    runtime: Handle,
    /// When it was last logged that there is no price.
    logged: Mutex<Option<Instant>>,
}

/// What is known, and what is being asked.
#[derive(Debug, Default)]
struct Book {
    known: Recent<Known>,
    under_way: HashMap<Key, Waiting>,
}

/// How the answer to a question is waited for.
type Waiting = watch::Receiver<Option<Answer>>;

/// What is known for one request.
#[derive(Clone, Copy, Debug)]
struct Known {
    answer: Answer,
    /// Until when nothing is asked anew.
    until: Instant,
}

/// What a book has for a request.
enum Found {
    Answer(Answer),
    UnderWay(Waiting),
    Nothing,
}

impl Asker {
    /// Makes what asks for a route's prices, on the runtime that it is made on.
    ///
    /// # Errors
    /// [`TlsError`] when there is nothing to verify the service by.
    pub(crate) fn new(
        route: &str,
        ask: Ask,
        trust: Trust,
        metrics: Arc<AskMetrics>,
    ) -> Result<Self, TlsError> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(trust.config().as_ref().clone())
            .redirect(redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .pool_idle_timeout(IDLE_MAX)
            .build()
            .map_err(|error| TlsError::Client(error.to_string()))?;
        Ok(Self {
            route: route.into(),
            ask,
            trust,
            http,
            book: Mutex::default(),
            places: Semaphore::new(AT_ONCE_MAX),
            metrics,
            runtime: Handle::current(),
            logged: Mutex::default(),
        })
    }

    /// Tells whether it asks as another one would.
    pub(crate) fn asks_like(&self, ask: &Ask, trust: &Trust) -> bool {
        self.ask == *ask && self.trust == *trust
    }

    /// Returns what it asks by.
    pub(crate) const fn ask(&self) -> &Ask {
        &self.ask
    }

    /// Returns what a request costs, as far as the service says. Where that is not known and not asked
    /// yet, `may_ask` is looked at first.
    ///
    /// # Errors
    /// That of `may_ask`.
    pub(crate) async fn answer<E>(
        self: &Arc<Self>,
        question: &Question,
        may_ask: impl FnOnce() -> Result<(), E>,
    ) -> Result<Answer, E> {
        // Not within the match, which would keep the book locked.
        let found = self.book().find(&question.key, Instant::now());
        let mut waiting = match found {
            Found::Answer(answer) => return Ok(answer),
            Found::UnderWay(waiting) => waiting,
            Found::Nothing => {
                may_ask()?;
                match self.begin(question) {
                    Ok(waiting) => waiting,
                    Err(answer) => return Ok(answer),
                }
            }
        };
        // Whoever asks is gone without an answer only when the gateway stops.
        let told = waiting.wait_for(Option::is_some).await;
        Ok(told.ok().and_then(|told| *told).unwrap_or(Answer::Down(None)))
    }

    /// Begins to ask, unless somebody has meanwhile.
    ///
    /// # Errors
    /// What is known by now, or what is known where too much is under way.
    fn begin(self: &Arc<Self>, question: &Question) -> Result<Waiting, Answer> {
        let mut book = self.book();
        match book.find(&question.key, Instant::now()) {
            Found::Answer(answer) => return Err(answer),
            Found::UnderWay(waiting) => return Ok(waiting),
            Found::Nothing if book.under_way.len() >= UNDER_WAY_MAX => {
                return Err(Answer::Down(book.last(&question.key)));
            }
            Found::Nothing => {}
        }
        let (tell, waiting) = watch::channel(None);
        book.under_way.insert(question.key, waiting.clone());
        drop(book);
        let (asker, question) = (Arc::clone(self), question.clone());
        self.runtime.spawn(async move {
            let said = asker.ask_in_time(&question).await;
            let answer = asker.note(question.key, &said, Instant::now());
            tell.send_replace(Some(answer));
        });
        Ok(waiting)
    }

    /// Asks, and waits for a place to do so.
    async fn ask_in_time(&self, question: &Question) -> Result<Said, AskError> {
        let asking = async {
            // It is never closed.
            let _place = self.places.acquire().await.ok();
            let began = Instant::now();
            self.metrics.asked();
            let said = question::ask(&self.http, &self.ask, question).await;
            self.metrics.took(began.elapsed());
            said
        };
        let late = |_| AskError::Late(self.ask.timeout);
        let said = timeout(self.ask.timeout, asking).await.map_err(late).flatten();
        if let Err(error) = &said {
            self.metrics.failed();
            self.complain(error);
        }
        said
    }

    /// Keeps what the service has said.
    fn note(&self, key: Key, said: &Result<Said, AskError>, now: Instant) -> Answer {
        let mut book = self.book();
        let (answer, keep) = match said {
            Ok(said) => (Answer::Price(said.price), said.keep),
            Err(_) => (Answer::Down(book.last(&key)), REST),
        };
        let until = now.checked_add(keep).unwrap_or(now);
        book.known.insert(key, Known { answer, until });
        book.under_way.remove(&key);
        answer
    }

    /// Logs that there is no price, but not again and again.
    fn complain(&self, error: &AskError) {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.is_none_or(|logged| logged.elapsed() >= QUIET) {
            *logged = Some(Instant::now());
            let (route, url) = (&*self.route, &self.ask.url);
            tracing::warn!(%route, %url, %error, "a price was asked and not given");
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answer {
    /// Returns the last price that the service has given.
    const fn last(self) -> Option<Msat> {
        match self {
            Self::Price(price) => Some(price),
            Self::Down(last) => last,
        }
    }
}

impl Book {
    /// Returns the last price that the service has given for a request.
    fn last(&mut self, key: &Key) -> Option<Msat> {
        self.known.get(key).and_then(|known| known.answer.last())
    }

    /// Looks for what is known or asked.
    fn find(&mut self, key: &Key, now: Instant) -> Found {
        if let Some(known) = self.known.get(key)
            && now < known.until
        {
            return Found::Answer(known.answer);
        }
        // A question that has ended without a word is asked again.
        match self.under_way.get(key).filter(|waiting| waiting.has_changed().is_ok()) {
            Some(waiting) => Found::UnderWay(waiting.clone()),
            None => Found::Nothing,
        }
    }
}

/// Reads by whom the service that an `ask` names is verified. One that is spoken to without TLS is
/// verified by nobody.
///
/// # Errors
/// [`TlsError`] when it is to be verified, and nothing is known to do it by.
pub(crate) fn trust(ask: &Ask) -> Result<Trust, TlsError> {
    if ask.url.scheme() == Some(&http::uri::Scheme::HTTPS) {
        Trust::load(ask.authorities.as_ref(), b"http/1.1")
    } else {
        Trust::none()
    }
}
