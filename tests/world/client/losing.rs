//! How a client goes on after a loss: its own, or the gateway's.

use bitcoin::Network;
use farebox_channel::client::{Purse, Recovered};
use farebox_channel::message::{ChannelStatus, PayRequest, StateName};
use farebox_channel::wire::{Field, WELL_KNOWN};
use secp256k1::ecdsa::Signature;

use super::{Asked, Client, Saved, Stage};
use crate::lies::Fib;
use crate::scene::Scene;

impl Client {
    /// Loses its disk, and goes on with an older copy of its channel, or with its key alone.
    pub(crate) fn restore(&mut self, scene: &mut Scene) {
        let Some(saved) = self.shelf.current.clone() else { return };
        let outpoint = saved.contract().outpoint;
        let mut truth = scene.books.open();
        let Some(page) = truth.pages.get_mut(&outpoint).filter(|page| page.is_shown) else {
            return;
        };
        page.is_client_restored = true;
        drop(truth);
        let is_useful = |it: &&Saved| it.refund().is_some() && it.contract().outpoint == outpoint;
        let copies: Vec<Saved> = self.copies.iter().filter(is_useful).cloned().collect();
        let (stage, event) = if copies.is_empty() || scene.rng.one_in(2) {
            (Stage::Lost(saved.contract().clone()), "client restored from its key")
        } else {
            let index = scene.rng.index(copies.len());
            (copies[index].stage.clone(), "client restored from a copy")
        };
        self.crash();
        self.shelf.current = Some(Saved { stage, is_old: true, ..saved });
        scene.mark(event);
    }

    /// Takes what the gateway tells of a channel of which an old copy or only the key is left.
    pub(super) fn catch_up(&mut self, saved: &Saved, told: &ChannelStatus, scene: &mut Scene) {
        match &saved.stage {
            Stage::Lost(_) => match Recovered::verify(told, Network::Regtest, &saved.key) {
                Ok(recovered) => self.ask_for_half(saved, recovered, told.state, scene),
                Err(distrust) => scene.log.note(format!("client {}: {distrust}", self.number)),
            },
            Stage::Open(purse) => match purse.resynchronise(told) {
                Ok(next) => {
                    self.go_on(saved, Purse { pass: told.pass, ..next }, told.state, scene);
                    scene.mark("client caught up");
                }
                Err(distrust) => scene.log.note(format!("client {}: {distrust}", self.number)),
            },
            Stage::Funded(_) | Stage::Held(_) | Stage::Closing(_) => {}
        }
    }

    /// Asks for the gateway's half of a refund once more, where one is needed.
    fn ask_for_half(
        &mut self,
        saved: &Saved,
        recovered: Recovered,
        state: StateName,
        scene: &mut Scene,
    ) {
        match recovered.refund_request() {
            Some(request) => {
                self.mind.recovered = Some(recovered);
                self.step(&request, Asked::Refund, scene);
            }
            None => {
                let purse = recovered.hold(None).unwrap();
                self.go_on(saved, purse, state, scene);
                scene.mark("client recovered from its key");
            }
        }
    }

    /// Completes the refund of a channel of which only the key was left.
    pub(super) fn recover(
        &mut self,
        saved: &Saved,
        signature: Signature,
        fib: Option<Fib>,
        scene: &mut Scene,
    ) {
        let Some(recovered) = self.mind.recovered.clone() else { return };
        let held = recovered.hold(Some(signature));
        scene.note_fib(fib, held.is_err());
        if let Ok(purse) = held {
            // Whether it is still open, its next payment tells.
            self.go_on(saved, purse, StateName::Open, scene);
            scene.mark("client recovered from its key");
        }
    }

    fn go_on(&mut self, saved: &Saved, purse: Purse, state: StateName, scene: &mut Scene) {
        let stage = match state {
            StateName::Open | StateName::Pending => Stage::Open(purse),
            StateName::Late
            | StateName::Closing
            | StateName::WrittenOff
            | StateName::Settled
            | StateName::Lost => Stage::Closing(purse),
        };
        let _alive = self.save(Saved { stage, is_old: false, ..saved.clone() }, scene);
    }

    /// Shows a gateway that was restored the newest payment, and gives up what is left of it.
    pub(super) fn show_newest(&mut self, purse: &Purse, saved: &Saved, scene: &mut Scene) {
        let outpoint = purse.contract().outpoint;
        let paid = purse.payment.paid.to_msat();
        scene.note_agreed(outpoint, paid.get().saturating_sub(purse.spent.get()));
        let next = Purse { spent: paid, ..purse.clone() };
        if !self.save_stage(saved, Stage::Open(next), scene) {
            return;
        }
        scene.note_signed(outpoint, &purse.payment);
        let request = purse.top_up();
        let fields = vec![(PayRequest::NAME.to_owned(), request.encode())];
        let asked = Asked::Pay { price: 0, name: None, is_first: true };
        self.send(WELL_KNOWN.to_owned(), fields, asked, None, scene);
        scene.mark("client shows its newest payment");
    }
}
