//! The part of the parser that reads character classes and escapes: `[a-z]`, `[:alpha:]`, `\d`,
//! `\pL`, `\x{41}`.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::super::syntax::{self, Class, Node};
use super::Parser;
use crate::error::Result;

impl Parser<'_> {
    /// At a `[`.
    pub(super) fn class(&mut self) -> Result<Class> {
        let start = self.pos;
        self.bump();
        let mut class = Class {
            fold: self.flags.fold,
            ..Class::default()
        };
        if self.peek() == Some('^') {
            self.bump();
            class.negated = true;
        }
        // A `]` is a literal when it comes first.
        let mut first = true;
        while first || self.peek() != Some(']') {
            first = false;
            if self.posix_class(&mut class)? || self.named_escape(&mut class)? {
                continue;
            }
            let item = self.pos;
            let low = self.class_char(start)?;
            let mut high = low;
            let rest = self.rest();
            if rest.len() >= 2 && rest.starts_with('-') && !rest.starts_with("-]") {
                self.bump();
                high = self.class_char(start)?;
                if high < low {
                    let range = self.text(item, self.pos);
                    return Err(self.refuse("invalid character class range", range));
                }
            }
            class.add(low, high);
        }
        self.bump();
        Ok(class)
    }

    /// One character of the class that began at `start`.
    fn class_char(&mut self, start: usize) -> Result<u32> {
        let here = self.pos;
        match self.bump() {
            None => {
                let class = self.text(start, self.whole.len());
                Err(self.refuse("missing closing ]", class))
            }
            Some('\\') => self.escape(here),
            Some(c) => Ok(u32::from(c)),
        }
    }

    /// Takes `[:name:]` or `[:^name:]` if that is what follows.
    fn posix_class(&mut self, class: &mut Class) -> Result<bool> {
        let Some(inside) = self.rest().strip_prefix("[:") else {
            return Ok(false);
        };
        let Some((name, _)) = inside.split_once(":]") else {
            return Ok(false);
        };
        let start = self.pos;
        self.pos += name.len() + 4;
        let (negated, name) = match name.strip_prefix('^') {
            Some(name) => (true, name),
            None => (false, name),
        };
        let Some(ranges) = posix_ranges(name) else {
            let excerpt = self.text(start, self.pos);
            return Err(self.refuse("invalid character class range", excerpt));
        };
        add_named(class, ranges, negated);
        Ok(true)
    }

    /// Takes `\d`, `\s`, `\w`, their negations, `\pN`, `\p{Greek}` or `\P..` if one follows.
    pub(super) fn named_escape(&mut self, class: &mut Class) -> Result<bool> {
        let Some(rest) = self.rest().strip_prefix('\\') else {
            return Ok(false);
        };
        let Some(letter) = rest.chars().next() else {
            return Ok(false);
        };
        let ranges: &[(u8, u8)] = match letter {
            'd' | 'D' => DIGIT,
            // Unlike POSIX's space it has no vertical tab.
            's' | 'S' => &[(b'\t', b'\n'), (b'\x0c', b'\r'), (b' ', b' ')],
            'w' | 'W' => WORD,
            'p' | 'P' => return self.property(class, letter == 'P').map(|()| true),
            _ => return Ok(false),
        };
        self.pos += 2;
        add_named(class, ranges, letter.is_ascii_uppercase());
        Ok(true)
    }

    /// At `\p` or `\P`.
    fn property(&mut self, class: &mut Class, mut negated: bool) -> Result<()> {
        const WHAT: &str = "invalid character class range";
        let start = self.pos;
        self.pos += 2;
        let name_start = self.pos;
        let mut name = match self.bump() {
            Some('{') => {
                let Some((name, _)) = self.rest().split_once('}') else {
                    return Err(self.refuse(WHAT, self.text(start, self.whole.len())));
                };
                self.pos += name.len() + 1;
                name
            }
            _ => self.text(name_start, self.pos),
        };
        if let Some(positive) = name.strip_prefix('^') {
            (name, negated) = (positive, !negated);
        }
        let letter = if negated { 'P' } else { 'p' };
        match property(name) {
            Some(Property::Query(query)) => class.parts.push(format!("\\{letter}{{{query}}}")),
            Some(Property::Surrogates) if negated => class.add(0, u32::from(char::MAX)),
            Some(Property::Surrogates) => {}
            None => return Err(self.refuse(WHAT, self.text(start, self.pos))),
        }
        Ok(())
    }

    /// After the `\` at `start`: the code point that the escape stands for.
    pub(super) fn escape(&mut self, start: usize) -> Result<u32> {
        let Some(c) = self.bump() else {
            return Err(self.refuse("trailing backslash at end of expression", ""));
        };
        let code = match c {
            '0'..='7' => self.octal(c),
            'x' => self.hexadecimal(),
            'a' => Some(0x07),
            'f' => Some(0x0c),
            'n' => Some(0x0a),
            'r' => Some(0x0d),
            't' => Some(0x09),
            'v' => Some(0x0b),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Some(u32::from(c)),
            _ => None,
        };
        code.ok_or_else(|| self.refuse("invalid escape sequence", self.text(start, self.pos)))
    }

    /// After the first octal digit. One digit alone other than zero would be a back-reference.
    fn octal(&mut self, first: char) -> Option<u32> {
        let mut code = first.to_digit(8)?;
        let mut digits = 1;
        while digits < 3
            && let Some(digit) = self.peek().and_then(|c| c.to_digit(8))
        {
            self.bump();
            code = code * 8 + digit;
            digits += 1;
        }
        (first == '0' || digits > 1).then_some(code)
    }

    /// After `\x`: two digits, or any number of them in braces.
    fn hexadecimal(&mut self) -> Option<u32> {
        let first = self.bump()?;
        if first != '{' {
            let second = self.bump();
            return Some(first.to_digit(16)? * 16 + second?.to_digit(16)?);
        }
        let mut code = None;
        loop {
            match self.bump()? {
                '}' => return code,
                c => {
                    let next = code.unwrap_or(0) * 16 + c.to_digit(16)?;
                    if next > u32::from(char::MAX) {
                        return None;
                    }
                    code = Some(next);
                }
            }
        }
    }
}

fn add_named(class: &mut Class, ranges: &[(u8, u8)], negated: bool) {
    let mut named = Class {
        negated,
        ..Class::default()
    };
    for &(low, high) in ranges {
        named.add(u32::from(low), u32::from(high));
    }
    if negated {
        // Case folding comes before the negation, so the negated class stays one unit.
        class.parts.push(syntax::emit(&Node::Class(named)));
    } else {
        class.ranges.append(&mut named.ranges);
    }
}

const DIGIT: &[(u8, u8)] = &[(b'0', b'9')];
const WORD: &[(u8, u8)] = &[(b'0', b'9'), (b'A', b'Z'), (b'_', b'_'), (b'a', b'z')];

fn posix_ranges(name: &str) -> Option<&'static [(u8, u8)]> {
    Some(match name {
        "alnum" => &[(b'0', b'9'), (b'A', b'Z'), (b'a', b'z')],
        "alpha" => &[(b'A', b'Z'), (b'a', b'z')],
        "ascii" => &[(0, 0x7f)],
        "blank" => &[(b'\t', b'\t'), (b' ', b' ')],
        "cntrl" => &[(0, 0x1f), (0x7f, 0x7f)],
        "digit" => DIGIT,
        "graph" => &[(b'!', b'~')],
        "lower" => &[(b'a', b'z')],
        "print" => &[(b' ', b'~')],
        "punct" => &[(b'!', b'/'), (b':', b'@'), (b'[', b'`'), (b'{', b'~')],
        "space" => &[(b'\t', b'\r'), (b' ', b' ')],
        "upper" => &[(b'A', b'Z')],
        "word" => WORD,
        "xdigit" => &[(b'0', b'9'), (b'A', b'F'), (b'a', b'f')],
        _ => return None,
    })
}

enum Property {
    /// What stands in Rust's braces.
    Query(String),
    /// The code points that no text holds.
    Surrogates,
}

/// Looks up a Unicode general category or script. Rust's engine knows more properties than RE2
/// does, so the name must be one of these two kinds. As in Go since 1.25, letter case, spaces,
/// `_` and `-` do not matter.
fn property(name: &str) -> Option<Property> {
    /// The scripts whose whole name has four letters; other names of four letters are ISO 15924
    /// codes, which only Rust knows.
    const FOUR_LETTERS: [&str; 9] = [
        "ahom", "cham", "kawi", "lisu", "miao", "modi", "newa", "thai", "toto",
    ];
    let plain: String = name
        .chars()
        .filter(|c| !matches!(c, ' ' | '_' | '-'))
        .map(|c| c.to_ascii_lowercase())
        .collect();
    if matches!(&*plain, "cs" | "surrogate") {
        return Some(Property::Surrogates);
    }
    // Rust drops a leading `is`, Go does not know it.
    if plain.is_empty()
        || plain.starts_with("is")
        || !plain.bytes().all(|b| b.is_ascii_alphanumeric())
    {
        return None;
    }
    let known = |kind: &str| {
        let query = format!("{kind}={plain}");
        regex::Regex::new(&format!("\\p{{{query}}}"))
            .ok()
            .map(|_| Property::Query(query))
    };
    let script = plain.len() != 4 || FOUR_LETTERS.contains(&&*plain);
    known("gc").or_else(|| script.then(|| known("sc")).flatten())
}
