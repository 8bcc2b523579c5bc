use proptest::prelude::*;

use super::super::numbers::Bounds;
use super::*;

fn split_of(text: &str) -> (Vec<u8>, Vec<u64>) {
    let (mut template, mut slots) = (vec![], vec![]);
    split(text.as_bytes(), &mut template, &mut slots);
    (template, slots)
}

fn joined(template: &[u8], slots: &[u64]) -> Option<Vec<u8>> {
    let mut templates = Templates::default();
    templates.push(template)?;
    let mut out = vec![];
    (templates.slots(0) == Some(slots.len())).then(|| templates.write(0, slots, &mut out))?;
    Some(out)
}

#[test]
fn golden_bytes() {
    let cases: &[(&str, &[u8], &[u64])] = &[
        ("", b"", &[]),
        ("no numbers", b"no numbers", &[]),
        ("user-17", b"user-\xf8", &[17]),
        ("0", b"\xf8", &[0]),
        ("x00y07z0", b"x\xf9\x02y\xf9\x02z\xf8", &[0, 7, 0]),
        ("9999999999999999999", b"\xf8", &[9_999_999_999_999_999_999]),
        ("10000000000000000000", b"10000000000000000000", &[]),
        ("0000000000000000001", b"\xf9\x13", &[1]),
        ("12345678", b"\xf8", &[12_345_678]),
        ("deadbeef", b"deadbeef", &[]),
        ("abcdefab-1", b"abcdefab-\xf8", &[1]),
        ("deadbee7", b"\xfa\x08", &[0xdead_bee7]),
        ("deadbe7", b"deadbe\xf8", &[7]),
        ("Deadbee7", b"Deadbee\xf8", &[7]),
        ("id=00a1b2c3d4e5,", b"id=\xfa\x0c,", &[0x00a1_b2c3_d4e5]),
        (
            "4bf92f3577b34da6a3ce929d0e0e4736",
            b"\xfa\x10\xfa\x10",
            &[0x4bf9_2f35_77b3_4da6, 0xa3ce_929d_0e0e_4736],
        ),
        (
            "x 550e8400-e29b-41d4-a716-446655440000.",
            b"x \xfb.",
            &[0x550e_8400_e29b_41d4, 0xa716_4466_5544_0000],
        ),
        (
            "550e8400-e29b-41d4-a716-4466554400001",
            b"\xfa\x08-e\xf8b-\xf8d\xf8-a\xf8-\xf8",
            &[0x550e_8400, 29, 41, 4, 716, 4_466_554_400_001],
        ),
        (
            "1.2.3.4.5.6.7.8.9",
            b"\xf8.\xf8.\xf8.\xf8.\xf8.\xf8.\xf8.\xf8.9",
            &[1, 2, 3, 4, 5, 6, 7, 8],
        ),
        (
            "1 2 3 4 5 6 7 \u{e9}a1b2c3d4",
            b"\xf8 \xf8 \xf8 \xf8 \xf8 \xf8 \xf8 \xc3\xa9\xfa\x08",
            &[1, 2, 3, 4, 5, 6, 7, 0xa1b2_c3d4],
        ),
    ];
    for (text, template, slots) in cases {
        assert_eq!(
            split_of(text),
            (template.to_vec(), slots.to_vec()),
            "{text}"
        );
        assert_eq!(joined(template, slots).as_deref(), Some(text.as_bytes()));
    }
}

#[test]
fn what_is_no_template_is_refused() {
    let all: &[&[u8]] = &[
        b"\xff",
        b"\xfc",
        b"\xf9",
        b"\xf9\x00",
        b"\xf9\x01",
        b"\xf9\x14",
        b"\xfa",
        b"\xfa\x00",
        b"\xfa\x11",
        &[NUMBER; 9],
        &[UUID; 5],
    ];
    for template in all {
        assert_eq!(Templates::default().push(template), None, "{template:x?}");
    }
}

fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        "[0-9]{1,22}",
        "[0-9a-f]{1,40}",
        "0{1,3}[0-9]{0,3}",
        "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        "[ -/:-@_a-zA-Z]{1,4}",
        any::<String>(),
    ];
    proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

/// A page of texts, their templates as bytes and how many there are, and the bounds of the codes.
fn page(texts: &[String]) -> (Vec<u8>, Vec<u8>, usize, Bounds) {
    let splits: Vec<_> = texts.iter().map(|text| split_of(text)).collect();
    let mut all: Vec<&[u8]> = splits
        .iter()
        .map(|(template, _)| template.as_slice())
        .collect();
    all.sort_unstable();
    all.dedup();
    let mut stored = vec![];
    put_templates(&mut stored, &all.iter().collect());
    let code = |template: &[u8]| all.binary_search(&template).unwrap() as u32;
    let values = splits
        .iter()
        .map(|(template, slots)| (code(template), slots.as_slice()));
    let bounds = Bounds::of(values.clone().map(|(code, _)| code.into())).unwrap_or_default();
    let mut out = vec![];
    put_page(
        &mut out,
        values,
        bounds,
        &mut std::array::from_fn(|_| vec![9]),
    );
    (out, stored, all.len(), bounds)
}

fn needle(text: &str, templates: &Templates) -> Option<Needle> {
    let (template, slots) = split_of(text);
    let code = templates.find(&template)?;
    Some(Needle { code, slots })
}

#[test]
fn damage_is_an_error_or_harmless() {
    let texts: Vec<String> = (0..30)
        .map(|n| match n % 3 {
            0 => format!("user-{}", n * 1000),
            1 => format!("http://x:{}/?q={}", 8080, n * n),
            _ => "none".to_owned(),
        })
        .collect();
    let (bytes, stored, count, bounds) = page(&texts);
    let read = |bytes: &[u8]| -> Result<()> {
        let templates = Templates::open("test", &stored, count)?;
        let page = TemplatePage::new(("test", 0), bytes, texts.len(), bounds, &templates)?;
        page.search(&[needle("user-9000", &templates).unwrap()], &mut vec![])?;
        let mut out = vec![];
        page.each(Some(&[3, 17]), |_, write| {
            write(&mut out);
            true
        })?;
        page.each(None, |_, write| {
            write(&mut out);
            true
        })
    };
    read(&bytes).unwrap();
    for at in 0..bytes.len() {
        assert!(read(&bytes[..at]).is_err(), "{at}");
        for mask in [1, 0x80, 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] ^= mask;
            if let Err(error) = read(&bytes) {
                assert_eq!(error.kind(), trine_storage::Kind::Corrupt);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn every_text_comes_back(text in text()) {
        let (template, slots) = split_of(&text);
        prop_assert!(slots.len() <= SLOTS_MAX);
        let back = joined(&template, &slots).unwrap();
        prop_assert_eq!(String::from_utf8(back).unwrap(), text);
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn pages_are_read_and_found(
        some in proptest::collection::vec(text(), 1..5),
        same in proptest::collection::vec("user-[0-9]{1,2}|[0-9].[0-9]", 0..60),
        mixed: bool,
        picks in proptest::collection::vec(any::<prop::sample::Index>(), 0..5),
    ) {
        let mut texts = same;
        if mixed {
            texts.extend(some);
        }
        let (bytes, stored, count, bounds) = page(&texts);
        let templates = Templates::open("test", &stored, count).unwrap();
        let page = TemplatePage::new(("test", 0), &bytes, texts.len(), bounds, &templates).unwrap();
        let mut positions: Vec<u32> = picks
            .iter()
            .filter(|_| !texts.is_empty())
            .map(|pick| pick.index(texts.len()) as u32)
            .collect();
        positions.sort_unstable();
        positions.dedup();
        let every: Vec<u32> = (0..texts.len() as u32).collect();
        for (asked, expected) in [(None, &every), (Some(&positions[..]), &positions)] {
            let mut found = vec![];
            page.each(asked, |position, write| {
                let mut text = vec![];
                write(&mut text);
                found.push((position, String::from_utf8(text).unwrap()));
                true
            }).unwrap();
            let expected: Vec<_> =
                expected.iter().map(|&p| (p, texts[p as usize].clone())).collect();
            prop_assert_eq!(found, expected);
        }
        let wanted: Vec<&str> = positions.iter().map(|&p| texts[p as usize].as_str())
            .chain(["user-7", "1.2", "absent"]).collect();
        let mut needles: Vec<Needle> =
            wanted.iter().filter_map(|text| needle(text, &templates)).collect();
        needles.sort_unstable_by_key(|needle| (needle.code, needle.slots.clone()));
        needles.dedup();
        let mut found = vec![];
        page.search(&needles, &mut found).unwrap();
        let expected: Vec<u32> = (0..)
            .zip(&texts)
            .filter(|(_, text)| wanted.contains(&text.as_str()))
            .map(|(position, _)| position)
            .collect();
        prop_assert_eq!(found, expected);
    }
}
