//! Every encoding, its limit at the edge, and bodies that lie.

use std::io::Write;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use bytes::Bytes;

use super::{Budget, Encoding, PERMIT_BYTES, read};
use crate::refusal::Reason;

fn pack(encoding: Encoding, plain: &[u8]) -> Vec<u8> {
    let level = flate2::Compression::default();
    match encoding {
        Encoding::Identity => plain.to_vec(),
        Encoding::Gzip => {
            let mut writer = flate2::write::GzEncoder::new(Vec::new(), level);
            writer.write_all(plain).unwrap();
            writer.finish().unwrap()
        }
        Encoding::Deflate => {
            let mut writer = flate2::write::ZlibEncoder::new(Vec::new(), level);
            writer.write_all(plain).unwrap();
            writer.finish().unwrap()
        }
        Encoding::Zstd => zstd::encode_all(plain, 3).unwrap(),
        Encoding::Snappy => snap::raw::Encoder::new().compress_vec(plain).unwrap(),
    }
}

const ALL: [Encoding; 5] = [
    Encoding::Identity,
    Encoding::Gzip,
    Encoding::Deflate,
    Encoding::Zstd,
    Encoding::Snappy,
];

fn decode(encoding: Encoding, packed: Vec<u8>, max: usize) -> Result<Bytes, Reason> {
    let mut share = Budget::new(64 << 20).share();
    encoding
        .decode(packed.into(), max, &mut share)
        .map_err(|refusal| refusal.reason)
}

#[test]
fn every_encoding_comes_back_and_stops_at_its_limit() {
    let plain: Vec<u8> = (0..100_000u32).map(|i| (i / 7) as u8).collect();
    for encoding in ALL {
        let packed = pack(encoding, &plain);
        assert_eq!(
            decode(encoding, packed.clone(), plain.len()).unwrap(),
            plain,
            "{encoding:?}"
        );
        let over = decode(encoding, packed, plain.len() - 1);
        assert_eq!(over, Err(Reason::TooLarge), "{encoding:?}");
    }
}

#[test]
fn deflate_is_taken_without_its_envelope_too() {
    let mut writer = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    writer.write_all(b"lines and lines").unwrap();
    let raw = writer.finish().unwrap();
    assert_eq!(
        decode(Encoding::Deflate, raw, 100).unwrap(),
        "lines and lines"
    );
}

#[test]
fn damage_is_a_bad_request() {
    for encoding in [Encoding::Gzip, Encoding::Zstd, Encoding::Snappy] {
        let packed = pack(encoding, &[7; 1000]);
        for cut in 1..packed.len() {
            let got = decode(encoding, packed[..cut].to_vec(), 2000);
            assert_eq!(got, Err(Reason::Bad), "{encoding:?} cut at {cut}");
        }
    }
    assert_eq!(decode(Encoding::Snappy, Vec::new(), 10), Err(Reason::Bad));
    // Five bytes that claim four gigabytes.
    let lie = vec![0xff, 0xff, 0xff, 0xff, 0x0f];
    assert_eq!(decode(Encoding::Snappy, lie, usize::MAX), Err(Reason::Bad));
}

#[test]
fn a_bomb_stops_at_the_budget() {
    let bomb = pack(Encoding::Zstd, &vec![0; 16 << 20]);
    assert!(bomb.len() < 4096, "the test needs a bomb");
    let budget = Budget::new(1 << 20);
    let mut share = budget.share();
    let refusal = Encoding::Zstd
        .decode(bomb.into(), 1 << 30, &mut share)
        .unwrap_err();
    assert_eq!(refusal.reason, Reason::Busy);
    drop(share);
    budget.share().grow_to(1 << 20).unwrap();
}

#[test]
fn a_share_is_given_back() {
    let budget = Budget::new(2 * PERMIT_BYTES);
    let mut first = budget.share();
    first.grow_to(1).unwrap();
    first.grow_to(PERMIT_BYTES).unwrap();
    let mut second = budget.share();
    second.grow_to(PERMIT_BYTES).unwrap();
    assert!(first.grow_to(PERMIT_BYTES + 1).is_err());
    drop(second);
    first.grow_to(PERMIT_BYTES + 1).unwrap();
}

#[test]
fn encodings_by_name() {
    for (name, expect) in [
        ("gzip", Ok(Some(Encoding::Gzip))),
        ("GZIP", Ok(Some(Encoding::Gzip))),
        ("snappy", Ok(Some(Encoding::Snappy))),
        ("zstd", Ok(Some(Encoding::Zstd))),
        ("deflate", Ok(Some(Encoding::Deflate))),
        ("identity", Ok(Some(Encoding::Identity))),
        ("", Ok(None)),
        ("br", Err(Reason::UnsupportedMedia)),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(name));
        assert_eq!(
            Encoding::of(&headers).map_err(|refusal| refusal.reason),
            expect,
            "{name}"
        );
    }
    assert_eq!(Encoding::of(&HeaderMap::new()), Ok(None));
}

#[tokio::test]
async fn reading_stops_at_the_limit() {
    let budget = Budget::new(1 << 20);
    let headers = HeaderMap::new();
    let payload = read(Body::from("0123456789"), &headers, 10, &budget)
        .await
        .unwrap();
    assert_eq!(payload.bytes, "0123456789");
    let refusal = read(Body::from("0123456789"), &headers, 9, &budget)
        .await
        .unwrap_err();
    assert_eq!(refusal.reason, Reason::TooLarge);
    assert_eq!(
        refusal.text,
        "request body too large: 10 bytes, limit: 9 bytes"
    );
    let mut claims = HeaderMap::new();
    claims.insert(header::CONTENT_LENGTH, HeaderValue::from_static("11"));
    let refusal = read(Body::empty(), &claims, 10, &budget).await.unwrap_err();
    assert_eq!(
        refusal.reason,
        Reason::TooLarge,
        "the header alone is enough"
    );
}
