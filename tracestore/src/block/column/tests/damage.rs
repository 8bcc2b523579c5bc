//! One example of each way in which columns are stored: its bytes, and what becomes of them when
//! they are damaged.

use super::*;

/// Numbers that look random but are the same everywhere.
fn scattered(n: u64) -> u64 {
    (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn texts(count: u64, text: impl Fn(u64) -> String) -> Values {
    Values::Plain((0..count).map(|n| text(n).into_bytes()).collect())
}

/// Pages of 40 values, with one that is empty.
fn ends(values: &Values) -> Vec<u32> {
    let len = values.len() as u32;
    let mut ends = vec![len.min(40); 2];
    ends.extend((80..len).step_by(40));
    ends.push(len);
    ends
}

/// Name, type, values, and how they are stored.
fn examples() -> Vec<(&'static str, Type, Values, u8)> {
    let word = |n: u64| {
        let letter = |place: u64| char::from(b'a' + (scattered(n * 12 + place) >> 59) as u8 % 26);
        (0..12).map(letter).collect::<String>()
    };
    let service = |n: u64| ["frontend", "front", "cart"][n as usize % 3].to_owned();
    let mixed = |n: u64| match n % 3 {
        0 => format!("t-{}", n % 7),
        1 => format!("10.0.{}.{}", n % 5, n),
        _ => format!("/orders/{}/items/{n}", scattered(n) % 5000),
    };
    vec![
        ("nothing", Type::Int, Values::Numbers(vec![]), NUMBERS),
        (
            "one number",
            Type::Int,
            Values::Numbers(vec![17; 90]),
            DICTIONARY,
        ),
        (
            "numbers",
            Type::Int,
            Values::Numbers((0..90).map(|n| 1000 + scattered(n) % 5000).collect()),
            NUMBERS,
        ),
        (
            "floats",
            Type::Float,
            Values::Numbers((0..90).map(|n| (n as f64 * -1.5).to_bits()).collect()),
            NUMBERS,
        ),
        (
            "codes of numbers",
            Type::Int,
            Values::Numbers((0..90).map(|n| [200, 404, 1 << 40][n % 3]).collect()),
            DICTIONARY,
        ),
        ("services", Type::Str, texts(90, service), DICTIONARY),
        (
            "users",
            Type::Str,
            texts(90, |n| format!("user-{}", scattered(n) % 50_000)),
            TEMPLATES,
        ),
        ("mixed", Type::Str, texts(120, mixed), TEMPLATES),
        ("words", Type::Str, texts(90, word), BLOBS),
        (
            "arrays",
            Type::Array,
            texts(90, |n| format!("\x07\x02\x01{}", word(n))),
            BLOBS,
        ),
    ]
}

#[test]
fn golden_bytes() {
    let expected: &[(&str, &str)] = &[
        ("nothing", "00000000"),
        (
            "one number",
            "01d0050107070059220000030050000051010000140000",
        ),
        (
            "numbers",
            "00d005032050a811ee254da3ba8c5101f00fee2582a6f9d614d814a624a337f28e",
        ),
        (
            "floats",
            "00d005032050818080808080a0cd8001808080808080d0a6400f8e5c535101818080808080d0dd80\
             01808080808080e80796f6dcd814818080808080d8e08001808080808080ac01c31c9641",
        ),
        (
            "codes of numbers",
            "01d00503180500bd77900300280000000000cc0000000038ffffffff0320500002387da42d510100\
             02952f654b1400028eece289",
        ),
        (
            "services",
            "01fe0303180500bd7700000463617274000566726f6e740503656e6403205000028187ce93510100\
             0234e5c2651400028124aaf7",
        ),
        (
            "users",
            "02f306010806757365722df8002000000000000000800000007ab9a19203a001500000571d44293c\
             5101000057d49b96121400001be47700a3",
        ),
        (
            "mixed",
            "02aa0a031f03742df807f82ef82ef82ef8112f6f72646572732ff82f6974656d732ff80020000000\
             00000000a000000096000fca03c0015000027cdfefe5e551010002820199bfb3d350000280014230\
             6004",
        ),
        (
            "words",
            "03b808002000000000000000800000009756d73c03a00150b401e721d5c75101b401aaaca395146a\
             1dc59b36",
        ),
        (
            "arrays",
            "03c60a01032050d901bbfdb4705101d70194a43b4c148301aa429b43",
        ),
    ];
    for (name, kind, values, tag) in examples() {
        let (_, meta) = written(kind, &values, &ends(&values));
        let entry = entry(&meta);
        assert_eq!(entry[0], tag, "{name}");
        // With the checksums of the pages, so that these are pinned too.
        let hex: String = entry.iter().map(|byte| format!("{byte:02x}")).collect();
        let golden = expected.iter().find(|(of, _)| *of == name);
        assert_eq!(golden.map(|golden| golden.1), Some(hex.as_str()), "{name}");
    }
}

/// Reads everything in every way.
fn read_everything(column: &ColumnReader, pages: u32) -> Result<()> {
    let wanted = [
        ValueRef::Str("user-39821"),
        ValueRef::Str("t-3"),
        ValueRef::Str("cart"),
        ValueRef::Int(404),
        ValueRef::Float(-3.0),
        ValueRef::Bytes(b"\x07\x02\x01abc"),
    ];
    let all: [Probe<'_>; 3] = [
        Probe::Equal(&wanted),
        Probe::Range {
            least: 1 << 63 | 1500,
            greatest: 1 << 63 | 3000,
        },
        Probe::Where(&|value| value.bits().is_some_and(|bits| bits % 3 == 0)),
    ];
    let mut found = vec![];
    for probe in &all {
        let prepared = column.prepare(probe)?;
        for page in 0..pages {
            found.clear();
            column.search(page, &prepared, &mut found)?;
            let of = values_of(column, page);
            assert!(found.iter().all(|&position| position < of));
        }
    }
    if let Some(dictionary) = column.dictionary()? {
        let mut codes = vec![];
        for page in 0..pages {
            column.codes(page, &mut codes)?;
        }
        for code in codes {
            dictionary.entry(code)?;
            dictionary.count(code);
        }
    }
    for page in 0..pages {
        let of = values_of(column, page);
        if of > 0 {
            if column.kind().is_number() {
                column.number_at(page, of - 1)?;
            } else {
                column.texts(page, Some(&[of / 2, of - 1]), &mut Texts::default())?;
            }
        }
    }
    column.distinct(&mut |_, _| true)?;
    column.read_all().map(|_| ())
}

#[test]
fn a_damaged_entry_of_the_directory_is_an_error_or_harmless() {
    for (name, kind, values, _) in examples() {
        let ends = ends(&values);
        let (fs, meta) = written(kind, &values, &ends);
        let file = opened(&fs);
        let read = |entry: &[u8]| {
            let mut reader = Reader::new("directory", entry);
            let meta = ColumnMeta::read(&mut reader, ends.len())?;
            let column = ColumnReader::new(&file, kind, Arc::new(meta));
            read_everything(&column, ends.len() as u32)
        };
        let entry = entry(&meta);
        read(&entry).unwrap();
        for at in 0..entry.len() {
            assert!(read(&entry[..at]).is_err(), "{name} cut at {at}");
            for mask in [1, 0x10, 0x80, 0xff] {
                let mut entry = entry.clone();
                entry[at] ^= mask;
                if let Err(error) = read(&entry) {
                    assert_eq!(
                        error.kind(),
                        trine_storage::Kind::Corrupt,
                        "{name} {at} {mask}"
                    );
                }
            }
        }
    }
}

/// Damage that no checksum tells, because it is right.
#[test]
fn damaged_pages_are_errors_or_harmless() {
    let scratch = SimFs::new();
    scratch.create_dir_all(Path::new("blocks")).unwrap();
    let crc = |bytes: &[u8]| {
        let mut sink = SealedWriter::create(&scratch, Path::new(PATH), KIND).unwrap();
        sink.page(bytes).unwrap().crc
    };
    for (name, kind, values, _) in examples() {
        let ends = ends(&values);
        let (fs, meta) = written(kind, &values, &ends);
        let stored = |encoding: &Encoding| match encoding {
            Encoding::Numbers | Encoding::Rows => vec![],
            Encoding::Dictionary { stored, .. } => vec![stored.clone()],
            Encoding::Templates { stored, filter, .. } => vec![stored.clone(), filter.clone()],
            Encoding::Blobs { filter } => vec![filter.clone()],
        };
        let of_column = stored(&meta.encoding)
            .into_iter()
            .filter_map(|stored| match stored {
                Stored::Page(page) => Some(page),
                Stored::Inline(_) => None,
            });
        let of_pages = meta.pages.iter().map(|page| page.place);
        let all: Vec<PageRef> = of_column
            .chain(of_pages)
            .filter(|page| page.len > 0)
            .collect();
        for page in all {
            let bytes = opened(&fs).read(&[page]).unwrap().remove(0);
            for at in 0..bytes.len() {
                let mask = [1, 0x10, 0x80, 0xff][at % 4];
                let mut damaged = bytes.to_vec();
                damaged[at] ^= mask;
                let offset = page.offset as usize + at;
                fs.corrupt(Path::new(PATH), offset, mask);
                let right = PageRef {
                    crc: crc(&damaged),
                    ..page
                };
                let mut meta = meta.clone();
                for meta in &mut meta.pages {
                    if meta.place == page {
                        meta.place = right;
                    }
                }
                match &mut meta.encoding {
                    Encoding::Numbers | Encoding::Rows => {}
                    Encoding::Dictionary { stored, .. } => repaired(stored, page, right),
                    Encoding::Templates { stored, filter, .. } => {
                        repaired(stored, page, right);
                        repaired(filter, page, right);
                    }
                    Encoding::Blobs { filter } => repaired(filter, page, right),
                }
                let column = ColumnReader::new(&opened(&fs), kind, Arc::new(meta));
                if let Err(error) = read_everything(&column, ends.len() as u32) {
                    assert_eq!(error.kind(), trine_storage::Kind::Corrupt, "{name} {at}");
                    assert!(
                        !error.to_string().contains("checksum"),
                        "{name} {at}: {error}"
                    );
                }
                fs.corrupt(Path::new(PATH), offset, mask);
            }
        }
    }
}

fn repaired(stored: &mut Stored, page: PageRef, right: PageRef) {
    if *stored == Stored::Page(page) {
        *stored = Stored::Page(right);
    }
}
