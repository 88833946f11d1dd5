//! The post: letters are delivered, lost and doubled, and what becomes of them is counted.

use farebox_channel::gateway::ATTEMPT_LIFETIME;
use farebox_channel::message::PayRequest;
use farebox_channel::wire::Field;

use super::World;
use crate::books::{Fate, Visit};
use crate::gateway::{Driven, PAID};
use crate::lies::{self, Lie};
use crate::net::{Answer, Letter, Parcel};

impl World {
    /// Any letter arrives, or is lost, or arrives and will do so again.
    pub(super) async fn deliver_any(&mut self) {
        if self.scene.net.is_empty() {
            return self.act();
        }
        // What waits longest arrives soon, but not always first.
        let index = self.scene.rng.index(self.scene.net.len().min(6));
        let letter = self.scene.net.remove(index);
        let kind = if matches!(letter, Letter::Request(_)) { "request" } else { "answer" };
        match self.scene.rng.below(24) {
            0 => return self.scene.mark(&format!("{kind} lost")),
            1 => {
                self.scene.mark(&format!("{kind} duplicated"));
                self.scene.net.push(letter.clone());
            }
            _ => {}
        }
        match letter {
            Letter::Request(parcel) => self.deliver(parcel).await,
            Letter::Answer { client, ticket, mut answer } => {
                let is_fib = self.has_fibs && self.scene.rng.one_in(10);
                let fib = if is_fib { lies::fib(&mut answer, &mut self.scene) } else { None };
                self.scene.log.note(format!(
                    "client {client} is answered {ticket}: {} {} {}",
                    answer.status,
                    answer.problem().unwrap_or(""),
                    fib.map_or(String::new(), |fib| format!("{fib:?}")),
                ));
                self.clients[client].receive(ticket, &answer, fib, &mut self.scene);
            }
        }
    }

    /// The gateway takes a request.
    async fn deliver(&mut self, parcel: Parcel) {
        if !self.house.is_running() {
            return self.scene.mark("request lost");
        }
        let number = self.scene.ticket();
        let visit = self.visit(&parcel);
        self.scene.log.note(format!("the gateway takes {} as visit {number}", parcel.ticket));
        self.scene.books.open().visits.insert(number, visit);
        let driven = self.house.deliver(number, &parcel).await;
        self.answered(number, &parcel, driven);
    }

    /// Rolls what the service behind does with a request.
    fn visit(&mut self, parcel: &Parcel) -> Visit {
        let field = |name: &str| parcel.fields.iter().find(|(other, _)| other == name);
        let price = parcel.path.strip_prefix(PAID).and_then(|price| price.parse().ok());
        let pay = field(PayRequest::NAME)
            .and_then(|(_, value)| PayRequest::decode(value.as_bytes()).ok());
        let fate = match self.scene.rng.below(20) {
            0 => Fate::Fail,
            1 => Fate::Gone,
            2 => Fate::Break,
            3 | 4 => Fate::Use(self.scene.rng.within(0..=price.unwrap_or(0))),
            _ => Fate::Answer,
        };
        Visit {
            channel: pay.map(|pay| pay.channel),
            at: self.scene.now,
            price: price.unwrap_or(0),
            name: field("idempotency-key").map(|(_, name)| name.clone()),
            fate,
            is_held: self.scene.rng.one_in(8),
            has_arrived: false,
        }
    }

    /// Notes what became of a request.
    fn answered(&mut self, number: u64, parcel: &Parcel, driven: Driven<Answer>) {
        let visit = self.scene.books.open().visits[&number].clone();
        self.note_name(&visit);
        let answer = match driven {
            Driven::Held => return self.scene.mark("request held by the service"),
            Driven::Died => return self.scene.mark("gateway killed"),
            Driven::Done(answer) => answer,
        };
        self.scene.log.note(format!(
            "visit {number} is answered {} {}",
            answer.status,
            answer.problem().unwrap_or("")
        ));
        let is_taken = visit.has_arrived || (answer.status == 200 && visit.price == 0);
        // A gateway that has lost its record takes the payout script that it is shown next.
        let is_new = self.has_losses && parcel.lie == Some(Lie::OtherPayout);
        let is_lie = |lie: &Lie| !lie.may_be_taken() && is_taken && !is_new;
        if let Some(lie) = parcel.lie.filter(is_lie) {
            self.scene.broken.push(format!("a lie buys nothing: {lie:?}"));
        }
        if visit.has_arrived {
            self.served(&visit, &answer);
        }
        let (client, ticket) = (parcel.client, parcel.ticket);
        self.scene.net.push(Letter::Answer { client, ticket, answer });
    }

    /// Notes when the service behind has seen a name first. One that was seen too long ago is
    /// forgotten, and buys another answer.
    fn note_name(&self, visit: &Visit) {
        let (Some(channel), Some(name)) = (visit.channel, &visit.name) else { return };
        let mut truth = self.scene.books.open();
        let Some(page) = truth.pages.get_mut(&channel).filter(|_| visit.has_arrived) else {
            return;
        };
        let first = *page.named_at.entry(name.clone()).or_insert(visit.at);
        if first + u64::from(ATTEMPT_LIFETIME.get()) <= visit.at {
            page.named_at.insert(name.clone(), visit.at);
            page.answers.remove(name);
        }
    }

    /// Counts what the service behind has answered.
    fn served(&mut self, visit: &Visit, answer: &Answer) {
        self.scene.coverage.note(match visit.fate {
            Fate::Answer => "served",
            Fate::Use(_) => "service used less",
            Fate::Fail => "service failed",
            Fate::Gone => "service was gone",
            Fate::Break => "service broke off",
        });
        let is_answer = answer.status == 200 && answer.is_whole;
        let (Some(channel), Some(name)) = (visit.channel, &visit.name) else { return };
        let mut truth = self.scene.books.open();
        if let Some(page) = truth.pages.get_mut(&channel).filter(|_| is_answer) {
            *page.answers.entry(name.clone()).or_default() += 1;
        }
        let is_again = |it: &Visit| it.has_arrived && it.name.as_ref() == Some(name);
        let is_again = truth.visits.values().filter(|it| is_again(it)).count() > 1;
        drop(truth);
        if is_answer && is_again {
            self.scene.mark("served again for its name");
        }
    }

    /// The service behind goes on with a request.
    pub(super) async fn resume(&mut self) {
        let held = self.house.held();
        if held.is_empty() {
            return self.act();
        }
        let number = self.scene.rng.pick(&held);
        self.scene.log.note(format!("the service goes on with visit {number}"));
        let (parcel, driven) = self.house.resume(number).await;
        self.answered(number, &parcel, driven);
    }
}
