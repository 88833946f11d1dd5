//! Where a stream that is not paid any further is cut.

use std::time::Duration;

use farebox_middleware::Rates;

use super::stream::{Stream, msat, rate, rates};

/// How the service cuts what it gives makes no difference.
const CUTS: std::ops::Range<usize> = 1..17;

/// A message of gRPC.
fn message(data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap().to_be_bytes();
    [&[0][..], &length, data].concat()
}

#[tokio::test]
async fn a_grpc_stream_that_is_not_paid_ends_between_two_messages_however_it_is_cut() {
    for cut in CUTS {
        let patience = Duration::from_millis(1);
        let rates = Rates { messages: rate(400_000, 1), patience, ..rates() };
        let mut stream = Stream::open("application/grpc", rates).await;
        let given = [message(b"abc"), message(b""), message(b"de")].concat();
        given.chunks(cut).for_each(|piece| stream.give(piece.to_vec()));

        let (body, receipt) = stream.rest().await;

        assert_eq!(body, given[..8 + 5], "in pieces of {cut}");
        assert_eq!(receipt.price, msat(800_000));
    }
}

#[tokio::test]
async fn a_grpc_message_whose_bytes_are_not_all_paid_is_held_back() {
    let patience = Duration::from_millis(1);
    let rates = Rates { bytes: rate(1_000, 1), patience, ..rates() };
    let mut stream = Stream::open("application/grpc", rates).await;
    stream.give([message(&[7; 595]), message(&[7; 595])].concat());

    let (body, receipt) = stream.rest().await;

    assert_eq!(body.len(), 600);
    assert_eq!(receipt.price, msat(600_000));
}

#[tokio::test]
async fn what_a_service_leaves_unfinished_is_passed_on_as_it_is() {
    for cut in CUTS {
        let rates = Rates { messages: rate(400, 1), ..rates() };
        let mut stream = Stream::open("application/grpc", rates).await;
        let given = [&message(b"abc")[..], &[0, 0, 0]].concat();
        given.chunks(cut).for_each(|piece| stream.give(piece.to_vec()));
        stream.end();

        let (body, receipt) = stream.rest().await;

        assert_eq!(body, given, "in pieces of {cut}");
        assert_eq!(receipt.price, msat(400));
    }
}

#[tokio::test]
async fn the_first_event_behind_a_byte_order_mark_is_charged() {
    for cut in CUTS {
        let mut stream =
            Stream::open("text/event-stream", Rates { events: rate(400, 1), ..rates() }).await;
        let given = b"\xEF\xBB\xBFdata: 1\n\ndata: 2\n\n";
        given.chunks(cut).for_each(|piece| stream.give(piece));
        stream.end();

        let (body, receipt) = stream.rest().await;

        assert_eq!(body, given, "in pieces of {cut}");
        assert_eq!(receipt.price, msat(800), "in pieces of {cut}");
    }
}

#[tokio::test]
async fn a_byte_order_mark_stays_before_what_the_gateway_tells() {
    let patience = Duration::from_millis(1);
    let rates = Rates { events: rate(1_200_000, 1), patience, ..rates() };
    let mut stream = Stream::open("text/event-stream", rates).await;
    stream.give("\u{FEFF}data: 1\n\n");
    stream.end();

    let (body, receipt) = stream.rest().await;

    let body = String::from_utf8(body).unwrap();
    assert!(body.starts_with("\u{FEFF}event: payment-channel\n"), "{body}");
    assert!(body.contains("\"state\":\"paused\"") && !body.contains("data: 1"), "{body}");
    assert_eq!(receipt.price, msat(0));
}
