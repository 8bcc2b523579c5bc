//! Samples of OTLP that are written as protobuf's own JSON. Tests read them.

/// The JSON of protobuf as OTLP has it: ids in hexadecimal and not in base64, numbers of
/// enumerations and not names.
pub(crate) fn to_otlp(value: &mut serde_json::Value) {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const NAMES: &[(&str, i32)] = &[
        ("SPAN_KIND_INTERNAL", 1),
        ("SPAN_KIND_SERVER", 2),
        ("SPAN_KIND_CLIENT", 3),
        ("SPAN_KIND_PRODUCER", 4),
        ("SPAN_KIND_CONSUMER", 5),
        ("STATUS_CODE_OK", 1),
        ("STATUS_CODE_ERROR", 2),
    ];
    if let Some(list) = value.as_array_mut() {
        list.iter_mut().for_each(to_otlp);
    }
    for (key, value) in value.as_object_mut().into_iter().flatten() {
        let id = value.as_str().filter(|id| id.ends_with('='));
        let name = value
            .as_str()
            .and_then(|name| NAMES.iter().find(|(held, _)| *held == name));
        if let Some((_, number)) = name {
            *value = (*number).into();
        } else if let Some(id) = id.filter(|_| key.ends_with("Id")) {
            let digits = id
                .trim_end_matches('=')
                .chars()
                .map(|c| DIGITS.find(c).unwrap());
            let bits: String = digits.map(|digit| format!("{digit:06b}")).collect();
            let nibbles = bits
                .as_bytes()
                .chunks_exact(8)
                .flat_map(|byte| byte.chunks(4));
            let nibble = |bits: &[u8]| {
                bits.iter()
                    .fold(0, |all, bit| 2 * all + u32::from(bit - b'0'))
            };
            let hex = nibbles.map(|bits| char::from_digit(nibble(bits), 16).unwrap());
            *value = hex.collect::<String>().into();
        } else {
            to_otlp(value);
        }
    }
}
