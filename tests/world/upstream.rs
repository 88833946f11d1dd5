//! The service behind the paywall: it serves, fails, breaks off, and knows what it has served.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use farebox_channel::gateway::Channel;
use farebox_middleware::PaidUpload;
use http::{Request, Response};
use http_body::{Body, Frame};
use tower_service::Service;

use crate::books::{Books, ChargeId, Fate, Truth};
use crate::chain::SharedChain;
use crate::disk::Disk;
use crate::life::Life;

/// The field that tells which visit a request is.
pub(crate) const VISIT: &str = "world-visit";
/// The field in which the service reports what it has used.
pub(crate) const USED: &str = "world-used";

/// The service of one gateway process.
#[derive(Clone, Debug)]
pub(crate) struct Upstream {
    /// What is true.
    pub(crate) books: Books,
    /// The gateway's disk, to see what is saved.
    pub(crate) disk: Disk,
    /// The chain, to see what was handed out.
    pub(crate) chain: SharedChain,
    /// Whether the gateway lives.
    pub(crate) life: Life,
}

/// The service is not there, or breaks off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the service is gone")]
pub(crate) struct Gone;

/// An answer's body, piece by piece.
#[derive(Debug, Default)]
pub(crate) struct Pieces(VecDeque<Result<Bytes, Gone>>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Gone;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Gone>>> {
        Poll::Ready(self.0.pop_front().map(|piece| piece.map(Frame::data)))
    }
}

impl Service<Request<PaidUpload<String>>> for Upstream {
    type Response = Response<Pieces>;
    type Error = Gone;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Pieces>, Gone>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<PaidUpload<String>>) -> Self::Future {
        let visit = request.headers()[VISIT].to_str().unwrap().parse().unwrap();
        if !self.life.is_alive() {
            return Box::pin(async { Err(Gone) });
        }
        self.take_in(visit, &request);
        let books = self.books.clone();
        Box::pin(async move {
            poll_fn(|_| {
                if books.open().visits[&visit].is_held { Poll::Pending } else { Poll::Ready(()) }
            })
            .await;
            let fate = books.open().visits[&visit].fate;
            answer(fate)
        })
    }
}

impl Upstream {
    /// Checks what must be true before a request is served, and counts it.
    fn take_in(&self, number: u64, request: &Request<PaidUpload<String>>) {
        let mut truth = self.books.open();
        let told =
            request.headers().keys().any(|name| name.as_str().starts_with("payment-channel-"));
        if told {
            truth.broken.push("a payment field never reaches the service behind".to_owned());
        }
        truth.visits.get_mut(&number).unwrap().has_arrived = true;
        if request.uri().path() == "/free" {
            return;
        }
        if let Err(law) = self.check(number, &truth) {
            truth.broken.push(law);
        }
        truth.count(number);
    }

    /// Nothing is served on unsaved money, nor after a settlement was handed out.
    fn check(&self, number: u64, truth: &Truth) -> Result<(), String> {
        let visit = &truth.visits[&number];
        let channel = visit.channel.ok_or("nothing is served for nothing")?;
        let page =
            truth.pages.get(&channel).ok_or("nothing is served on a channel that nobody has")?;
        let record = self.disk.channel(channel);
        let Some(Channel::Open(open)) = record else {
            return Err("nothing is served but on an open channel".to_owned());
        };
        if self.chain.look().handed.contains(&channel) {
            return Err("nothing is served after a settlement was handed out".to_owned());
        }
        let id = visit.charge_id(number);
        let others: u64 =
            page.charges.iter().filter(|(other, _)| **other != id).map(|(_, msat)| msat).sum();
        let (paid, spent) = (open.account.payment.paid().to_msat().get(), open.account.spent.get());
        if spent + page.forgotten_msat < others + visit.price || paid < spent {
            return Err(format!(
                "nothing is served on unsaved money: paid {paid} msat, spent {spent} msat, served \
                 {others} msat before this request for {} msat",
                visit.price
            ));
        }
        Ok(())
    }
}

impl crate::books::Visit {
    /// Returns what the visit is charged for.
    fn charge_id(&self, number: u64) -> ChargeId {
        self.name.clone().map_or(ChargeId::Visit(number), ChargeId::Named)
    }
}

impl Truth {
    /// Counts a request as served, as far as its charge will stay.
    fn count(&mut self, number: u64) {
        let visit = self.visits[&number].clone();
        let Some(page) = visit.channel.and_then(|channel| self.pages.get_mut(&channel)) else {
            return;
        };
        let id = visit.charge_id(number);
        match visit.fate {
            Fate::Answer => page.charges.insert(id, visit.price),
            Fate::Use(msat) => page.charges.insert(id, visit.price.min(msat)),
            Fate::Fail | Fate::Gone | Fate::Break => page.charges.remove(&id),
        };
    }
}

/// Answers a request.
fn answer(fate: Fate) -> Result<Response<Pieces>, Gone> {
    let whole = || Pieces([Ok(Bytes::from_static(b"served"))].into());
    let respond = |status| Response::builder().status(status);
    match fate {
        Fate::Answer => Ok(respond(200).body(whole()).unwrap()),
        Fate::Use(msat) => Ok(respond(200).header(USED, msat).body(whole()).unwrap()),
        Fate::Fail => Ok(respond(500).body(whole()).unwrap()),
        Fate::Gone => Err(Gone),
        Fate::Break => {
            let pieces = [Ok(Bytes::from_static(b"ser")), Err(Gone)];
            Ok(respond(200).body(Pieces(pieces.into())).unwrap())
        }
    }
}
