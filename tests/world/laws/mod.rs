//! The laws: what holds after every step, whatever has happened.

pub(crate) mod ending;
pub(crate) mod settling;
pub(crate) mod trust;
pub(crate) mod vigil;

use std::collections::BTreeSet;

use bitcoin::transaction::Version;
use bitcoin::{FeeRate, OutPoint, ScriptBuf, Transaction, Txid};
use farebox_channel::gateway::Channel;
use farebox_channel::{Fee, Keyring, Member, Payout, Settlement};

use crate::books::Page;
use crate::chain::ToyChain;
use crate::client::{Client, Saved, Stage};
use crate::disk::Written;
use crate::lies::other_script;
use crate::script::check_spend;

/// A law that is broken, in words.
type Law = Result<(), String>;

/// Millisatoshi in a satoshi.
const MSAT: u64 = 1_000;
/// The greatest dust limit of a payout script, in satoshi.
const DUST: u64 = 546;

/// What was found lawful already and does not change.
#[derive(Debug, Default)]
pub(crate) struct Lawful {
    refunds: BTreeSet<(OutPoint, u8)>,
    spends: BTreeSet<(OutPoint, Txid)>,
}

/// Checks everything that a commit has written.
pub(crate) fn of_written(written: &Written, chain: &ToyChain, keys: &Keyring) -> Law {
    paid_never_falls(written)?;
    spent_is_paid(&written.after)?;
    the_first_payment_is_settled(&written.after)?;
    the_gateway_can_settle(&written.after, chain, keys)
}

/// Paid never falls while a channel is open, and a closing channel never opens again.
fn paid_never_falls(Written { before, after }: &Written) -> Law {
    let Some(before) = before else { return Ok(()) };
    let rank = |channel: &Channel| match channel {
        Channel::Pending(_) | Channel::Late(_) | Channel::Open(_) => 0,
        // A reorg that is deep enough brings the watching back.
        Channel::Closing(_) | Channel::Ended(_) => 1,
    };
    let paid = |channel: &Channel| channel.account().payment.paid();
    if rank(after) < rank(before) {
        return Err(format!("a closing channel never opens again: it is {}", after.name()));
    }
    if paid(before) != paid(after) && rank(before) > 0 {
        let (before, after) = (paid(before), paid(after));
        return Err(format!(
            "what a closing channel settles never changes: {before}, then {after}"
        ));
    }
    if rank(after) == 0 && paid(after) < paid(before) {
        let (before, after) = (paid(before), paid(after));
        return Err(format!("paid never falls while a channel is open: {before}, then {after}"));
    }
    Ok(())
}

/// Spent is no more than paid.
fn spent_is_paid(channel: &Channel) -> Law {
    let account = channel.account();
    if account.spent <= account.payment.paid().to_msat() {
        return Ok(());
    }
    Err(format!("spent ≤ paid: spent {}, paid {}", account.spent, account.payment.paid()))
}

/// The first payment is paid at least, also by a close.
fn the_first_payment_is_settled(channel: &Channel) -> Law {
    let account = channel.account();
    let (paid, least) = (account.payment.paid(), account.least);
    if paid >= least {
        Ok(())
    } else {
        Err(format!("a close settles for {least} at least, not {paid}"))
    }
}

/// The gateway can always settle, from its record and its seed alone.
fn the_gateway_can_settle(channel: &Channel, chain: &ToyChain, keys: &Keyring) -> Law {
    let contract = channel.contract();
    let broken =
        |why: &str| Err(format!("the gateway can always settle {}: {why}", contract.outpoint));
    let Some(output) = chain.output_ever(contract.outpoint) else {
        return broken("there is no such output");
    };
    let own = Payout::new(ScriptBuf::from_bytes([&[0, 20], &[9; 20][..]].concat())).unwrap();
    let member = Member { contract, payment: &channel.account().payment };
    match Settlement::build(&[member], keys, &own, Fee::at(FeeRate::BROADCAST_MIN)) {
        Ok(settlement) => match check_spend(&settlement.transaction, 0, output) {
            Ok(()) => Ok(()),
            Err(why) => broken(why),
        },
        Err(why) => broken(&why.to_string()),
    }
}

/// What was served is spent on record, so that it is paid and can be settled; and no name buys
/// two answers.
pub(crate) fn served_is_spent(record: Option<&Channel>, page: &Page) -> Law {
    let served = page.served_msat();
    let spent = record.map_or(0, |channel| channel.account().spent.get());
    let paid = record.map_or(0, |channel| channel.account().payment.paid().to_msat().get());
    let forgotten = page.forgotten_msat;
    let covered = if page.is_restored { paid + forgotten } else { spent };
    if covered < served {
        return Err(format!(
            "the gateway can always settle for what it has served, but for what was signed since \
             its copy: paid {paid} and spent {spent} msat on record, {forgotten} msat forgotten, \
             served {served} msat"
        ));
    }
    match page.answers.iter().find(|(_, count)| **count > 1) {
        Some((name, count)) => Err(format!("a name never buys two answers: {name} has {count}")),
        None => Ok(()),
    }
}

/// The gateway holds no greater payment than its client has signed and sent.
pub(crate) fn paid_is_signed(record: Option<&Channel>, page: &Page) -> Law {
    let paid = record.map_or(0, |channel| channel.account().payment.paid().get());
    if paid <= page.signed_sat {
        return Ok(());
    }
    Err(format!("paid is signed: {paid} sat on record, {} sat signed", page.signed_sat))
}

/// An honest client signs no more than it has agreed to pay.
pub(crate) fn signed_is_agreed(page: &Page) -> Law {
    let agreed = page.agreed_msat.div_ceil(MSAT);
    let capacity = page.contract.capacity.get();
    let is_whole = page.signed_sat == capacity && capacity < agreed + DUST;
    if page.signed_sat <= agreed || is_whole {
        return Ok(());
    }
    Err(format!(
        "a client signs what it has agreed to: {} sat signed, {agreed} sat agreed",
        page.signed_sat
    ))
}

impl Lawful {
    /// A client that has shown a contract can always get back capacity − paid, from its own disk:
    /// it holds a refund that is valid after T, and knows all that it has signed.
    pub(crate) fn the_client_can_refund(&mut self, client: &Client, page: &Page) -> Law {
        let outpoint = page.contract.outpoint;
        let broken = |why: &str| Err(format!("the client can always refund {outpoint}: {why}"));
        if !page.is_shown {
            return Ok(());
        }
        let saved = client.shelf.current.iter().chain(&client.shelf.old);
        let Some(saved) = saved.into_iter().find(|it| it.contract().outpoint == outpoint) else {
            return broken("it is not on its disk");
        };
        if let Stage::Lost(_) = &saved.stage {
            return Ok(()); // nothing but its key is left, until it has asked the gateway
        }
        if saved.signed().get() < page.signed_sat && !page.is_client_restored {
            return broken("its disk does not know the greatest payment that it has signed");
        }
        if !self.refunds.insert((outpoint, stage_number(saved))) {
            return Ok(());
        }
        let Some(refund) = saved.refund() else { return broken("no refund is held") };
        let rate = FeeRate::BROADCAST_MIN;
        let transaction = match refund.transaction(&page.contract.payout, rate, &saved.key) {
            Ok(transaction) => transaction,
            Err(why) => return broken(&why.to_string()),
        };
        let is_at_expiry =
            transaction.lock_time.to_consensus_u32() == page.contract.terms.expiry.get();
        match check_spend(&transaction, 0, &page.contract.output()) {
            Ok(()) if is_at_expiry => Ok(()),
            Ok(()) => broken("it is not locked until T"),
            Err(why) => broken(why),
        }
    }

    /// Whatever spends a contract pays its client capacity − signed at least, and the gateway what
    /// it has served at least; a refund is mined after T only, which the chain checks.
    pub(crate) fn every_spending_is_just(&mut self, page: &Page, chain: &ToyChain) -> Law {
        let contract = &page.contract;
        let Some(transaction) = chain.spender(contract.outpoint) else { return Ok(()) };
        if !self.spends.insert((contract.outpoint, transaction.compute_txid())) {
            return Ok(());
        }
        if transaction.version != Version(3) {
            let is_at_expiry =
                transaction.lock_time.to_consensus_u32() == contract.terms.expiry.get();
            return if is_at_expiry {
                Ok(())
            } else {
                Err("a refund is locked until T".to_owned())
            };
        }
        let change = change(page, transaction);
        let settled = contract.capacity.get().checked_sub(change);
        let settled = settled.ok_or("a settlement pays no more than the capacity")?;
        if settled > page.signed_sat {
            return Err(format!(
                "the client gets back capacity − paid: {settled} sat settled, {} sat signed",
                page.signed_sat
            ));
        }
        let covered = settled * MSAT + page.forgotten_msat;
        if covered < page.served_msat() && !page.is_settled_unknown {
            return Err(format!(
                "the settled amount is at least what is spent: {settled} sat settled, {} msat served",
                page.served_msat()
            ));
        }
        Ok(())
    }
}

/// Returns what a settlement pays back to the client, in satoshi.
pub(crate) fn change(page: &Page, transaction: &Transaction) -> u64 {
    let at = |it: &bitcoin::TxIn| it.previous_output == page.contract.outpoint;
    let index = transaction.input.iter().position(at).unwrap();
    let output = transaction.output.get(index);
    let payout = page.contract.payout.script();
    // A liar may have signed for another script of its own, after a restore of the gateway.
    let is_own = |script: &ScriptBuf| **script == *payout || *script == other_script();
    let output = output.filter(|it| is_own(&it.script_pubkey));
    output.map_or(0, |output| output.value.to_sat())
}

/// Returns a number for how far a client has come.
const fn stage_number(saved: &Saved) -> u8 {
    match saved.stage {
        Stage::Funded(_) => 0,
        Stage::Held(_) => 1,
        Stage::Open(_) => 2,
        Stage::Closing(_) => 3,
        Stage::Lost(_) => 4,
    }
}
