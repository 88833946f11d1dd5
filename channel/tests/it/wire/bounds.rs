//! Times that are none, wishes without one, and keys of a gateway that are none.

use farebox_channel::message::{
    ContractRequest, OpenRequest, PayRequest, RefundRequest, StatusReply, TermsReply, WatchRequest,
};
use farebox_channel::wire::{Fault, Field};

use super::examples::{PAY, examples};
use super::malformed::{fault, named};

#[test]
fn an_expiry_that_is_a_height_negative_or_too_late_is_refused_in_every_field() {
    for value in
        ["-1", "0", "1", "800000", "499999999", "2147483648", "4294967295", "4294967296", "1e9"]
    {
        for refused in [
            fault::<TermsReply>(2, "expiry", Some(value)),
            fault::<RefundRequest>(3, "expiry", Some(value)),
            fault::<WatchRequest>(5, "expiry", Some(value)),
            fault::<ContractRequest>(7, "expiry", Some(value)),
        ] {
            assert!(refused.is_some(), "{value}");
        }
    }
}

#[test]
fn a_wish_without_a_lifetime_is_refused_and_not_filled_in() {
    for key in ["kind", "key", "capacity", "lifetime"] {
        assert_eq!(fault::<OpenRequest>(1, key, None), Some(Fault::Missing(key)));
    }
}

#[test]
fn an_amount_of_2_to_the_63_is_refused() {
    for value in ["9223372036854775807", "9223372036854775808", "18446744073709551616"] {
        assert!(fault::<PayRequest>(PAY, "paid", Some(value)).is_some(), "{value}");
    }
}

#[test]
fn a_gateways_key_that_is_none_is_refused_by_the_client() {
    let zeros = format!(":{}:", "A".repeat(44));
    for value in [":AAAA:", zeros.as_str(), "\"02\"", "1"] {
        assert!(fault::<TermsReply>(2, "key", Some(value)).is_some(), "{value}");
    }
    let good = examples().swap_remove(12);
    let refused = StatusReply::decode(good.replacen(";key=:", ";key=:AAAA", 1).as_bytes());
    assert_eq!(refused.err().as_ref().and_then(|refused| named(&refused.fault)), Some("key"));
}
