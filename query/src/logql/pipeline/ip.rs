//! Addresses and ranges of them: `ip("…")` in line filters and label filters.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest text of an address: an IPv6 address that ends as IPv4.
const ADDRESS_BYTES_MAX: usize = 45;

/// The shortest text of an IPv4 and of an IPv6 address.
const IPV4_BYTES_MIN: usize = 7;
const IPV6_BYTES_MIN: usize = 2;

/// What `ip("…")` matches: all addresses of one kind between two, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::logql) struct IpRange {
    first: IpAddr,
    last: IpAddr,
}

impl IpRange {
    /// Reads an address, a CIDR block or `first-last`.
    ///
    /// # Errors
    /// When it is none.
    pub(in crate::logql) fn parse(text: &str) -> Result<Self, String> {
        if let Some(range) = Self::block(text).or_else(|| Self::between(text)) {
            return Ok(range);
        }
        match text.parse::<IpAddr>() {
            Ok(address) => Ok(Self {
                first: address,
                last: address,
            }),
            Err(_) => Err(format!("ip: invalid pattern: {}", reason(text))),
        }
    }

    fn block(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
        let length: u32 = length.parse().ok().filter(|_| digits)?;
        let (first, last) = match address.parse::<IpAddr>().ok()? {
            IpAddr::V4(address) => {
                let host = u32::MAX.checked_shr(length).unwrap_or(0);
                let bits = u32::from(address);
                (length <= 32).then(|| {
                    let ends = (bits & !host, bits | host);
                    (Ipv4Addr::from(ends.0).into(), Ipv4Addr::from(ends.1).into())
                })?
            }
            IpAddr::V6(address) => {
                let host = u128::MAX.checked_shr(length).unwrap_or(0);
                let bits = u128::from(address);
                (length <= 128).then(|| {
                    let ends = (bits & !host, bits | host);
                    (Ipv6Addr::from(ends.0).into(), Ipv6Addr::from(ends.1).into())
                })?
            }
        };
        Some(Self { first, last })
    }

    fn between(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-')?;
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        let range = Self { first, last };
        (first.is_ipv4() == last.is_ipv4() && first <= last).then_some(range)
    }

    fn contains(&self, address: IpAddr) -> bool {
        // Addresses of one kind compare by their numbers; all of IPv4 come before all of IPv6.
        address.is_ipv4() == self.first.is_ipv4() && (self.first..=self.last).contains(&address)
    }

    /// Whether some address that the text holds is in the range.
    pub(in crate::logql) fn is_in(&self, text: &[u8]) -> bool {
        let is_v4 = self.first.is_ipv4();
        let (mark, least) = if is_v4 {
            (b'.', IPV4_BYTES_MIN)
        } else {
            (b':', IPV6_BYTES_MIN)
        };
        let belongs = |byte: u8| match byte {
            b'.' | b'0'..=b'9' => true,
            b':' | b'a'..=b'f' | b'A'..=b'F' => !is_v4,
            _ => false,
        };
        // Each run of characters of addresses around one of the marks is looked at once.
        let mut from = 0;
        while let Some(found) = text.get(from..).and_then(|rest| memchr::memchr(mark, rest)) {
            let at = from + found;
            let before = text.get(from..at).unwrap_or_default();
            let start = at
                - before
                    .iter()
                    .rev()
                    .take_while(|byte| belongs(**byte))
                    .count();
            let after = text.get(at..).unwrap_or_default();
            let end = at + after.iter().take_while(|byte| belongs(**byte)).count();
            let run = text.get(start..end).unwrap_or_default();
            if run.len() >= least && self.is_in_run(run) {
                return true;
            }
            from = end;
        }
        false
    }

    fn is_in_run(&self, run: &[u8]) -> bool {
        let address = std::str::from_utf8(run).ok().and_then(whole_address);
        address.is_some_and(|address| self.contains(address))
    }
}

fn whole_address(text: &str) -> Option<IpAddr> {
    (text.len() <= ADDRESS_BYTES_MAX)
        .then(|| text.parse().ok())
        .flatten()
}

/// What is wrong with a text that is no range, as Go says it.
fn reason(text: &str) -> String {
    if text.contains('/') {
        return format!("netip.ParsePrefix({text:?}): no IP");
    }
    format!("ParseAddr({text:?}): unable to parse IP")
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;

    use super::IpRange;

    #[test]
    fn ranges_of_all_kinds() {
        let check = |range: &str, text: &str, expect: bool| {
            let range_of = IpRange::parse(range).unwrap();
            assert_eq!(range_of.is_in(text.as_bytes()), expect, "{range} in {text}");
        };
        check("192.168.0.1", "from 192.168.0.1 to x", true);
        check("192.168.0.1", "from 192.168.0.1:80", true);
        check("192.168.0.1", "from 192.168.0.11", false);
        check("192.168.0.1", "addr=192.168.0.1,", true);
        check("10.0.0.0/8", "[10.255.255.255]", true);
        check("10.0.0.0/8", "11.0.0.0", false);
        check("::1", "at ::1", true);
        check("::1", "at 192.168.0.1", false);
        check("2001:db8::/32", "at 2001:db8::5, port 5", true);
        check("2001:db8::1-2001:db8::8", "2001:db8::9", false);
        check("0.0.0.0/0", "1.2.3", false);
    }

    #[test]
    fn wrong_ranges() {
        for range in [
            "",
            "x",
            "1.2.3.4/33",
            "::1/129",
            "1.0.0.2-1.0.0.1",
            "1.2.3.4-::1",
            "1.2.3.4/",
        ] {
            let error = IpRange::parse(range).unwrap_err();
            assert!(error.starts_with("ip: invalid pattern"), "{range}: {error}");
        }
    }

    proptest! {
        #[test]
        fn blocks_hold_what_their_first_bits_say(base: u32, other: u32, length in 0u32..=32) {
            let text = format!("{}/{length}", Ipv4Addr::from(base));
            let mask = if length == 0 { 0 } else { u32::MAX << (32 - length) };
            let address = IpAddr::V4(Ipv4Addr::from(other));
            let range = IpRange::parse(&text).unwrap();
            prop_assert_eq!(range.contains(address), base & mask == other & mask);
            let own = format!("x {} y", Ipv4Addr::from(base));
            prop_assert!(range.is_in(own.as_bytes()));
            let line = format!("src={address} ok");
            prop_assert_eq!(range.is_in(line.as_bytes()), range.contains(address));
        }
    }
}
