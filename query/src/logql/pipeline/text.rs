//! Turns bytes of a line into text for labels, for the parsers.

/// What stands for bytes that are not UTF-8 (and for the character that others put there).
const REPLACEMENT: char = ' ';

/// Appends `bytes` as text; each that is not UTF-8 becomes a space.
pub(super) fn push_lossy(text: &mut String, bytes: &[u8]) {
    if bytes.is_ascii()
        && let Ok(ascii) = std::str::from_utf8(bytes)
    {
        text.push_str(ascii);
        return;
    }
    for chunk in bytes.utf8_chunks() {
        let valid = chunk.valid();
        if valid.contains('\u{fffd}') {
            text.extend(
                valid
                    .chars()
                    .map(|c| if c == '\u{fffd}' { REPLACEMENT } else { c }),
            );
        } else {
            text.push_str(valid);
        }
        text.extend(chunk.invalid().iter().map(|_| REPLACEMENT));
    }
}

/// Appends a key in the characters that a label name may have: blanks around it go, others
/// become `_`, and a digit at the front of a name gets a `_` before it.
pub(super) fn push_sanitized(name: &mut String, key: &[u8], at_front: bool) {
    let key = key.trim_ascii();
    if at_front && key.first().is_some_and(u8::is_ascii_digit) {
        name.push('_');
    }
    for chunk in key.utf8_chunks() {
        let keep = |c: char| c.is_ascii_alphanumeric() || c == '_';
        name.extend(chunk.valid().chars().map(|c| if keep(c) { c } else { '_' }));
        name.extend(chunk.invalid().iter().map(|_| '_'));
    }
}
