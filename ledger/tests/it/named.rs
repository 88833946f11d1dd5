//! Requests with a name, which are charged once.

use farebox_channel::gateway::{Channel, Input, Refusal, RequestName};
use farebox_ledger::{Charge, LedgerError};

use crate::support::{Books, msat, now, open, outpoint};

/// A named charge on `channel` from its credit.
fn named(channel: &Channel) -> Charge {
    let name = RequestName { key: [1; 32], request: [2; 32] };
    let payment = channel.account().payment;
    Charge { payment, price: msat(7), name: Some(name), memo: None }
}

#[tokio::test]
async fn a_named_request_is_not_served_again_while_a_reorg_has_its_contract() {
    let books = Books::new();
    let channel = open(1, 2_000);
    let (ledger, watch) = books.open();
    ledger.create(channel.clone()).await.unwrap();
    let first = ledger.pay(outpoint(&channel), now(), named(&channel)).await.unwrap();

    ledger.apply(outpoint(&channel), now(), Input::Unconfirmed).await.unwrap();
    let refused = ledger.pay(outpoint(&channel), now(), named(&channel)).await;
    let confirmed = Input::Confirmed { height: 202, confirmations: 1 };
    ledger.apply(outpoint(&channel), now(), confirmed).await.unwrap();
    let again = ledger.pay(outpoint(&channel), now(), named(&channel)).await;

    assert_eq!(refused, Err(LedgerError::Refused(Refusal::Pending)));
    assert_eq!(again, Ok(first));
    watch.close(ledger);
}
