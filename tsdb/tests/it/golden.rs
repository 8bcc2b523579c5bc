//! The bytes of a part and of a block with four samples (`FORMAT.md`, "Part" and "Block"). Files hold
//! no time and nothing random; only their names and the catalog do.

use trine_storage::TimeRange;
use trine_storage::sim::SimFs;
use trine_tsdb::Tsdb;

use crate::disk::{answer, blocks, read};
use crate::store::{open, put};

/// Bytes in hexadecimal and what they are.
type Golden = [(&'static str, &'static str)];

/// How a file comes to be, its level, its bytes.
type Written = (fn(&Tsdb), u8, &'static Golden);

const PART: &Golden = &[
    (
        "5452494e45534541 01000000 74736462",
        "magic, version, kind tsdb",
    ),
    // Byte 16, the only page of chunks. The id of n="b" is the lower one.
    (
        "04 01 d00f 00 05",
        "floats, the last chunk; 1 sample, first 1000, last the same",
    ),
    ("d00f 02 3fe0", "0.5 at 1000"),
    (
        "05 02 d00f d00f 09",
        "floats, another chunk follows; 2 samples, 1000 to 2000",
    ),
    ("d00f 02 3ff0 f8001f40", "1.0 at 1000, 1.0 at 2000"),
    ("04 01 b817 00 04", "the late sample; 1 sample, 1500"),
    ("b817 01 40", "2.0 at 1500"),
    // Byte 53, the only page of definitions: zstd stores so few bytes as they are.
    ("28b52ffd 20 14 a10000", "zstd frame of 20 bytes"),
    ("8080808003 04 016e0162", "id 30000000 is n=\"b\""),
    ("808080800d 04 016e0161", "id d0000000 is n=\"a\""),
    // Byte 82, section 1: definitions.
    ("02 01", "2 definitions in 1 page"),
    (
        "3500000000000000 1d000000 480f5f47 14",
        "at byte 53, 29 bytes; 20 when decompressed",
    ),
    ("00000030 000000d0", "section 2: ids"),
    (
        "00000000 00000000 00000000 0b000000",
        "section 3: page 0 at 0, page 0 at 11",
    ),
    (
        "1000000000000000 25000000 cf97e490",
        "section 4: the page at byte 16, 37 bytes",
    ),
    // Byte 141, the footer.
    ("04000000", "4 sections"),
    ("01000000 5200000000000000 13000000 befcdf23", "section 1"),
    ("02000000 6500000000000000 08000000 3bb5d042", "section 2"),
    ("03000000 6d00000000000000 10000000 54ccba3b", "section 3"),
    ("04000000 7d00000000000000 10000000 70ec65a7", "section 4"),
    (
        "8d00000000000000 54000000 f1839428 803fafcd",
        "footer at 141, 84 bytes, checksums",
    ),
    ("01000000 5452494e45534541", "version, magic"),
];

const BLOCK: &Golden = &[
    (
        "5452494e45534541 01000000 74736462",
        "magic, version, kind tsdb",
    ),
    // Byte 16, the only page.
    (
        "05 00 d00f e807",
        "timestamps 0: linear, first 1000, step 500",
    ),
    ("00 00 07", "n=\"a\": floats, timestamps 0"),
    (
        "01 0a 03 03 00 10 0a",
        "decimals 0; 1, 2, 1 coded with order 2",
    ),
    ("04 00 d00f 00", "timestamps 1: linear, first 1000, step 0"),
    ("00 01 03", "n=\"b\": floats, timestamps 1"),
    ("00 3fe0", "constant 0.5"),
    // Byte 43, section 1: the frozen index.
    (
        "01000000 02000000 03000000 01000000 02000000",
        "version, 2 sets, 3 symbols, 1 name, 2 values",
    ),
    (
        "03000000 00000000 07000000",
        "3 bytes of text, none of postings, 7 of sets",
    ),
    ("01000000 02000000 03000000 61626e", "a, b, n"),
    (
        "02000000 00000000 ffffffff",
        "name n, values from 0, every place",
    ),
    ("00000000 01000000", "values a, b"),
    ("00000080 01000080", "only place 0, only place 1"),
    ("00000000", "the first group of sets"),
    ("00 00 01 00 00", "nothing kept, 1 label: n, a"),
    ("01 01", "the last label differs: the next value"),
    (
        "00000000 06000000 00000000 15000000",
        "section 2: page 0 at 6, page 0 at 21",
    ),
    (
        "00000000 00000000 03000000",
        "section 3: page 0 at 0, 3 timestamps",
    ),
    ("00000000 10000000 01000000", "page 0 at 16, 1 timestamp"),
    (
        "1000000000000000 1b000000 3ae2538a",
        "section 4: the page at byte 16, 27 bytes",
    ),
    // Byte 185, the footer.
    ("04000000", "4 sections"),
    ("01000000 2b00000000000000 56000000 fc78e47f", "section 1"),
    ("02000000 8100000000000000 10000000 18494164", "section 2"),
    ("03000000 9100000000000000 18000000 9c280e4e", "section 3"),
    ("04000000 a900000000000000 10000000 14204682", "section 4"),
    (
        "b900000000000000 54000000 76844a2c 155cf431",
        "footer at 185, 84 bytes, checksums",
    ),
    ("01000000 5452494e45534541", "version, magic"),
];

fn check(file: &[u8], golden: &Golden) {
    let mut offset = 0;
    for (digits, what) in golden {
        let digits: String = digits.split(' ').collect();
        let end = file.len().min(offset + digits.len() / 2);
        let found: String = file[offset..end]
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(found, digits, "byte {offset}: {what}");
        offset = end;
    }
    assert_eq!(offset, file.len(), "bytes follow");
}

fn store() -> (SimFs, Tsdb) {
    let fs = SimFs::new();
    let db = open(&fs);
    let rows = [
        ("n=a", 1_000, 1.0),
        ("n=a", 2_000, 1.0),
        ("n=b", 1_000, 0.5),
        ("n=a", 1_500, 2.0),
    ];
    assert_eq!(put(&db, &rows).stored, 4);
    (fs, db)
}

#[test]
fn golden_bytes_of_a_part_and_a_block() {
    let (fs, db) = store();
    let expected = answer(&db, &[], TimeRange::ALL).unwrap();
    let written: [Written; 2] = [
        (|db| db.flush().unwrap(), 0, PART),
        // Beside the block there is a part with the definitions.
        (|db| db.compact().unwrap(), 5, BLOCK),
    ];
    for (write, level, golden) in written {
        write(&db);
        let files = blocks(&fs);
        let (_, path) = files.iter().find(|(of, _)| *of == level).unwrap();
        check(&read(&fs, path), golden);
        assert_eq!(answer(&db, &[], TimeRange::ALL).unwrap(), expected);
    }
}
