//! What a request would cost, and what would be locked for it.

use std::io::{self, Write};

use farebox_channel::message::{OfferedRate, OfferedRates};
use farebox_client::{Costs, PayError, Quotation, Record, Stage};
use reqwest::{Method, Url};
use serde::Serialize;

use super::super::exit::{Exit, Failure, is_failure};
use super::super::span;

/// What `--dry-run` finds out. Members may be added.
#[derive(Serialize)]
pub(super) struct Report {
    url: String,
    method: String,
    /// The code that the program ends with, and its name.
    exit_code: u8,
    exit: &'static str,
    /// The status without a payment: 402 where one is asked for.
    status: u16,
    #[serde(flatten)]
    terms: Option<Terms>,
    /// What would keep this client from paying.
    refusals: Vec<Refusal>,
}

/// What is asked for, and what would be done.
#[derive(Serialize)]
struct Terms {
    price_msat: u64,
    price_holds_secs: Option<u32>,
    rates: Option<Rates>,
    network: &'static str,
    kinds: Vec<&'static str>,
    capacity_min_sat: u64,
    capacity_max_sat: u64,
    lifetime_min_secs: u32,
    lifetime_max_secs: u32,
    first_payment_sat: u64,
    confirmations: u32,
    /// The channel that would pay, and what it has left.
    channel: Option<String>,
    channel_left_msat: Option<u64>,
    /// The channel whose opening was cut off and would go on, or the address that somebody was asked to
    /// pay for one and would be asked again.
    begun: Option<String>,
    asked: Option<String>,
    /// What another channel would lock, for how long, and until when in Unix seconds.
    would_lock_sat: Option<u64>,
    would_lock_secs: Option<u32>,
    would_expire_at: Option<u64>,
}

#[derive(Serialize)]
struct Refusal {
    #[serde(skip)]
    end: Exit,
    exit_code: u8,
    exit: &'static str,
    reason: String,
}

/// What an answer costs that is charged while it passes.
#[derive(Serialize)]
struct Rates {
    answer_msat: u64,
    bytes: Option<Rate>,
    events: Option<Rate>,
    messages: Option<Rate>,
    millis: Option<Rate>,
    request_bytes: Option<Rate>,
    request_messages: Option<Rate>,
}

#[derive(Serialize)]
struct Rate {
    msat: u64,
    per: u64,
}

impl Report {
    pub(super) fn new(url: &Url, method: &Method, quotation: Quotation) -> Self {
        let Quotation { status, costs } = quotation;
        let refusals: Vec<Refusal> = match &costs {
            Some(costs) => costs.refusals.iter().map(Refusal::new).collect(),
            None => Vec::new(),
        };
        let end = match (&costs, refusals.first()) {
            (_, Some(refusal)) => refusal.end,
            (None, None) if is_failure(status) => Exit::Service,
            (_, None) => Exit::Done,
        };
        Self {
            url: url.to_string(),
            method: method.to_string(),
            exit_code: end.code(),
            exit: end.name(),
            status: status.as_u16(),
            terms: costs.map(Terms::new),
            refusals,
        }
    }

    /// Prints it. Fails as the payment would.
    pub(super) fn print(&self, is_json: bool) -> Result<(), Failure> {
        let mut stdout = io::stdout();
        let printed = if is_json {
            let json = serde_json::to_string(self).map_err(|error| Failure::of(&error))?;
            writeln!(stdout, "{json}")
        } else {
            write!(stdout, "{}", self.words())
        };
        printed.map_err(|error| Failure::of(&error))?;
        let failure = match (self.refusals.first(), &self.terms) {
            (Some(refusal), _) => {
                Failure::new(refusal.end, format!("it would not be paid: {}", refusal.reason))
            }
            (None, None) if self.exit_code != 0 => {
                Failure::new(Exit::Service, format!("the service answered {}", self.status))
            }
            (None, _) => return Ok(()),
        };
        // JSON has said it, and a person reads why it would fail.
        Err(if is_json { failure.told() } else { failure })
    }

    fn words(&self) -> String {
        let mut lines = match &self.terms {
            None => vec![("price".to_owned(), "nothing is asked for".to_owned())],
            Some(terms) => terms.lines(),
        };
        let refusals = self.refusals.iter().map(|refusal| refusal.reason.clone());
        lines.extend(refusals.map(|reason| ("would fail".to_owned(), reason)));
        lines.iter().map(|(name, value)| format!("{name}: {value}\n")).collect()
    }
}

impl Terms {
    fn new(costs: Costs) -> Self {
        let Costs { offer, channel, begun, asked, capacity, lifetime, .. } = costs;
        let until = lifetime.map(|lifetime| span::now().saturating_add(lifetime.get().into()));
        let left = |record: &Record| match &record.stage {
            Stage::Open(purse) => Some(purse.left().get()),
            Stage::Funded(_) | Stage::Held(_) | Stage::Closing(..) => None,
        };
        Self {
            price_msat: offer.price.get(),
            price_holds_secs: offer.price_holds.map(|span| span.get()),
            rates: offer.rates.map(Rates::new),
            network: offer.network.to_core_arg(),
            kinds: offer.kinds.iter().map(|kind| kind.as_str()).collect(),
            capacity_min_sat: offer.capacity.start().get(),
            capacity_max_sat: offer.capacity.end().get(),
            lifetime_min_secs: offer.lifetime.start().get(),
            lifetime_max_secs: offer.lifetime.end().get(),
            first_payment_sat: offer.first_payment.get(),
            confirmations: offer.confirmations,
            channel: channel.as_ref().map(|record| record.outpoint().to_string()),
            channel_left_msat: channel.as_ref().and_then(left),
            begun: begun.map(|record| record.outpoint().to_string()),
            asked: asked.map(|invoice| invoice.address.to_string()),
            would_lock_sat: capacity.map(|capacity| capacity.get()),
            would_lock_secs: lifetime.map(|lifetime| lifetime.get()),
            would_expire_at: until,
        }
    }

    fn lines(&self) -> Vec<(String, String)> {
        let line = |name: &str, value: String| (name.to_owned(), value);
        let mut lines = vec![line("price", format!("{} msat", self.price_msat))];
        if let Some(secs) = self.price_holds_secs {
            lines.push(line("holds for", span::words(secs.into())));
        }
        lines.extend(self.rates.iter().flat_map(Rates::lines));
        if let (Some(channel), Some(left)) = (&self.channel, self.channel_left_msat) {
            lines.push(line(
                "paid through",
                format!("channel {channel}, which has {left} msat left"),
            ));
        }
        if let Some(channel) = &self.begun {
            let words = format!("channel {channel}, whose opening was cut off");
            lines.push(line("goes on with", words));
        }
        if let Some(address) = &self.asked {
            lines.push(line("goes on with", format!("a channel that {address} is paid for")));
        }
        if let (Some(sat), Some(secs), Some(until)) =
            (self.would_lock_sat, self.would_lock_secs, self.would_expire_at)
        {
            let (secs, until) = (span::words(secs.into()), span::date(until));
            lines.push(line("would lock", format!("{sat} sat in a new channel")));
            lines.push(line("at most for", format!("{secs}, until {until}")));
            lines.push(line("first payment", format!("{} sat", self.first_payment_sat)));
            lines.push(line("confirmations", self.confirmations.to_string()));
        }
        let Self { capacity_min_sat, capacity_max_sat, .. } = self;
        let spans = [self.lifetime_min_secs, self.lifetime_max_secs];
        let [shortest, longest] = spans.map(|secs| span::words(secs.into()));
        lines.push(line("kinds offered", self.kinds.join(", ")));
        let capacities = format!("{capacity_min_sat} to {capacity_max_sat} sat");
        lines.push(line("capacities offered", capacities));
        lines.push(line("lifetimes offered", format!("{shortest} to {longest}")));
        lines.push(line("network", self.network.to_owned()));
        lines
    }
}

impl Refusal {
    fn new(error: &PayError) -> Self {
        let exit = Exit::of(error);
        Self { end: exit, exit_code: exit.code(), exit: exit.name(), reason: error.to_string() }
    }
}

impl Rates {
    fn new(rates: OfferedRates) -> Self {
        let rate = |rate: Option<OfferedRate>| {
            rate.map(|rate| Rate { msat: rate.price().get(), per: rate.units() })
        };
        Self {
            answer_msat: rates.answer.get(),
            bytes: rate(rates.bytes),
            events: rate(rates.events),
            messages: rate(rates.messages),
            millis: rate(rates.millis),
            request_bytes: rate(rates.request_bytes),
            request_messages: rate(rates.request_messages),
        }
    }

    fn lines(&self) -> Vec<(String, String)> {
        let units = [
            ("bytes", &self.bytes),
            ("events", &self.events),
            ("messages", &self.messages),
            ("ms", &self.millis),
            ("bytes sent", &self.request_bytes),
            ("messages sent", &self.request_messages),
        ];
        let rates = units.into_iter().filter_map(|(unit, rate)| Some((unit, rate.as_ref()?)));
        let mut lines = vec![("each answer".to_owned(), format!("{} msat", self.answer_msat))];
        lines.extend(rates.map(|(unit, Rate { msat, per })| {
            ("what passes".to_owned(), format!("{msat} msat for {per} {unit}"))
        }));
        lines
    }
}
