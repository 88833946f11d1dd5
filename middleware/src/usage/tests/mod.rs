mod events;
mod json;
mod laws;

use http::header::{CONTENT_ENCODING, HeaderName};
use http::{HeaderMap, HeaderValue};

use super::{UsageReader, UsageSource};

fn json(path: &str) -> UsageSource {
    UsageSource::Json(path.parse().unwrap())
}

fn event(path: &str) -> UsageSource {
    UsageSource::Event(path.parse().unwrap())
}

/// Reads a body that comes in these pieces.
fn read<'d>(source: &UsageSource, pieces: impl IntoIterator<Item = &'d [u8]>) -> Option<u64> {
    let mut reader = UsageReader::new(source, &HeaderMap::new());
    pieces.into_iter().for_each(|piece| reader.read(piece));
    reader.units()
}

/// Reads a body that comes as one, byte by byte, and cut anywhere in two.
fn units(source: &UsageSource, body: impl AsRef<[u8]>) -> Option<u64> {
    let body = body.as_ref();
    let units = read(source, [body]);
    assert_eq!(read(source, body.chunks(1)), units, "byte by byte");
    for cut in 0..body.len() {
        assert_eq!(read(source, <[&[u8]; 2]>::from(body.split_at(cut))), units, "cut at {cut}");
    }
    units
}

fn fields(name: &HeaderName, values: &[&'static str]) -> HeaderMap {
    let values = values.iter().map(|value| (name.clone(), HeaderValue::from_static(value)));
    let mut fields = HeaderMap::new();
    for (name, value) in values {
        fields.append(name, value);
    }
    fields
}

const FIELD: HeaderName = HeaderName::from_static("x-units");

#[test]
fn a_field_of_the_head_says_the_units() {
    for (values, expected) in [
        (&["12"][..], Some(12)),
        (&[" 12.5\t"], Some(13)),
        (&["7", "8"], Some(8)),
        (&["-1"], None),
        (&["a lot"], None),
        (&[], None),
    ] {
        let mut reader = UsageReader::new(&UsageSource::Header(FIELD), &fields(&FIELD, values));
        assert_eq!(reader.units(), expected, "{values:?}");
        reader.read(b"99");
        reader.trailers(&fields(&FIELD, &["99"]));
        assert_eq!(reader.units(), expected, "{values:?}");
    }
}

#[test]
fn a_field_of_the_trailers_says_the_units() {
    let mut reader = UsageReader::new(&UsageSource::Trailer(FIELD), &fields(&FIELD, &["99"]));
    assert_eq!(reader.units(), None);
    reader.read(b"99");
    assert_eq!(reader.units(), None);
    reader.trailers(&fields(&FIELD, &["12"]));
    assert_eq!(reader.units(), Some(12));
}

#[test]
fn nothing_is_read_of_an_encoded_body() {
    let (json, event) = (json("used"), event("used"));
    let bodies = [(&json, &b"{\"used\":5}"[..]), (&event, b"data: {\"used\":5}\n\n")];
    for (source, body) in bodies {
        for (codings, expected) in [
            (&[][..], Some(5)),
            (&["identity"], Some(5)),
            (&["Identity", " identity , identity"], Some(5)),
            (&[""], Some(5)),
            (&["gzip"], None),
            (&["identity, br"], None),
            (&["identity", "zstd"], None),
        ] {
            let mut reader = UsageReader::new(source, &fields(&CONTENT_ENCODING, codings));
            reader.read(body);
            assert_eq!(reader.units(), expected, "{codings:?}");
        }
    }
    // A field says the same whatever the body is.
    let mut head = fields(&FIELD, &["5"]);
    head.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    assert_eq!(UsageReader::new(&UsageSource::Header(FIELD), &head).units(), Some(5));
}

#[test]
fn only_what_reads_the_body_needs_it_unencoded() {
    assert!(json("used").reads_body() && event("used").reads_body());
    assert!(!UsageSource::Header(FIELD).reads_body());
    assert!(!UsageSource::Trailer(FIELD).reads_body());
}
