use super::*;
use crate::sim::{Crash, SimFs};

fn catalog(fs: &SimFs) -> Catalog {
    fs.create_dir_all(Path::new("store")).unwrap();
    Catalog::new(Arc::new(fs.clone()), Path::new("store/catalog"))
}

fn document(version: u64) -> Document {
    let meta = BlockMeta {
        id: BlockId::from_bits(u128::from(version)),
        range: TimeRange::new(0, 7),
        rows: 3,
        bytes: 99,
        level: 0,
        sequence: 0,
        created_ms: 1,
        deletes_applied: 0,
    };
    Document {
        version,
        wal_position: 10 * version,
        blocks: vec![meta],
        deletes: Vec::new(),
        ..Document::default()
    }
}

#[test]
fn a_missing_catalog_is_the_empty_one() {
    assert_eq!(catalog(&SimFs::new()).load().unwrap(), Document::default());
}

#[test]
fn versions_follow_one_another() {
    let fs = SimFs::new();
    let catalog = catalog(&fs);
    catalog.swap(&document(1)).unwrap();
    catalog.swap(&document(2)).unwrap();
    assert_eq!(catalog.load().unwrap(), document(2));
    assert_eq!(
        catalog.swap(&document(2)).unwrap_err().kind(),
        Kind::Invalid
    );
    assert_eq!(
        catalog.swap(&document(4)).unwrap_err().kind(),
        Kind::Invalid
    );
}

#[test]
fn a_crash_at_any_point_leaves_the_old_or_the_new_version() {
    for cut in 0..10 {
        for seed in 0..10 {
            let fs = SimFs::new();
            let first = catalog(&fs);
            first.swap(&document(1)).unwrap();
            fs.cut_after(fs.operations() + cut);
            let done = first.swap(&document(2)).is_ok();
            let found = catalog(&fs.crash(Crash::Power, seed)).load().unwrap();
            assert!(
                found == document(2) || (!done && found == document(1)),
                "cut {cut}: {found:?}"
            );
        }
    }
}

#[test]
fn every_flipped_byte_and_every_cut_is_noticed() {
    let bytes = encode(&document(1)).unwrap();
    for offset in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[offset] ^= 1;
        assert!(decode("catalog", &damaged).is_err(), "byte {offset}");
        assert!(
            decode("catalog", &bytes[..offset]).is_err(),
            "cut at {offset}"
        );
    }
}

#[test]
fn a_newer_format_is_refused_by_number() {
    let error = decode("c", b"trine-catalog 2 crc32=00000000\n{}").unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert_eq!(
        error.to_string(),
        "c has format 2, this program reads 1; use the version of trine that wrote it, or a later one"
    );
}

/// The text written down in FORMAT.md, "Catalog".
#[test]
fn golden_text() {
    let text = String::from_utf8(encode(&document(1)).unwrap()).unwrap();
    let (head, json) = text.split_once('\n').unwrap();
    let crc = crc32fast::hash(json.as_bytes());
    assert_eq!(head, format!("trine-catalog 1 crc32={crc:08x}"));
    let compact: serde_json::Value = serde_json::from_str(json).unwrap();
    let expected = r#"{"version":1,"wal_position":10,"blocks":[{"id":"00000000000000000000000001","range":{"start":0,"end":7},"rows":3,"bytes":99,"level":0,"sequence":0,"created_ms":1,"deletes_applied":0}],"deletes":[]}"#;
    assert_eq!(
        compact,
        serde_json::from_str::<serde_json::Value>(expected).unwrap()
    );
}
