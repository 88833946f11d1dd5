//! How much of payment fields is read.

use crate::support::{Desk, header};

fn padding(name: &'static str, length: usize) -> (&'static str, String) {
    (name, "a".repeat(length))
}

#[tokio::test]
async fn all_payment_fields_of_a_request_together_stay_under_8_kib() {
    let desk = Desk::open().await;
    let payment = header(&desk.pay(1_000));
    let rest = 8 * 1024 - payment.0.len() - payment.1.len() - 2 * "payment-channel-a".len();
    let half = rest / 2;
    let fields = |last| {
        [payment.clone(), padding("payment-channel-a", half), padding("payment-channel-b", last)]
    };
    let most = desk.send("/x", &fields(rest - half)).await;
    assert_eq!(most.status, 200, "{most:?}");
    let more = desk.send("/x", &fields(rest - half + 1)).await;
    assert_eq!(more.status, 400);
    assert!(more.body.contains("8192 bytes"), "{}", more.body);
}

#[tokio::test]
async fn other_fields_do_not_count_as_payment_fields() {
    let desk = Desk::open().await;
    let fields = [header(&desk.pay(1_000)), padding("x-long", 20_000)];
    assert_eq!(desk.send("/x", &fields).await.status, 200);
}
