//! The checksum of frames: CRC-32 with Castagnoli's polynomial. `read` calls it.

/// The polynomial, lowest bit first.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// `TABLES[k][b]` is the checksum of the byte `b` followed by `k` zeros.
static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0u32; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg());
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let crc = tables[table - 1][byte];
            tables[table][byte] = (crc >> 8) ^ tables[0][(crc & 0xff) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

/// The checksum of `bytes`, eight of them at a time.
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    let (eights, rest) = bytes.as_chunks::<8>();
    for eight in eights {
        let [a, b, c, d, ..] = *eight;
        let low = crc ^ u32::from_le_bytes([a, b, c, d]);
        let [k, l, m, n] = low.to_le_bytes();
        let [.., w, x, y, z] = *eight;
        crc = TABLES[7][usize::from(k)]
            ^ TABLES[6][usize::from(l)]
            ^ TABLES[5][usize::from(m)]
            ^ TABLES[4][usize::from(n)]
            ^ TABLES[3][usize::from(w)]
            ^ TABLES[2][usize::from(x)]
            ^ TABLES[1][usize::from(y)]
            ^ TABLES[0][usize::from(z)];
    }
    for byte in rest {
        let [low, ..] = crc.to_le_bytes();
        crc = (crc >> 8) ^ TABLES[0][usize::from(low ^ byte)];
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::crc32c;

    /// From RFC 3720, B.4, and the check value of the catalogue of checksums.
    #[test]
    fn known_values() {
        let rising: Vec<u8> = (0..32).collect();
        for (bytes, expect) in [
            (&b""[..], 0),
            (b"123456789", 0xe306_9283),
            (&[0; 32], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&rising, 0x46dd_794e),
        ] {
            assert_eq!(crc32c(bytes), expect, "{bytes:?}");
        }
    }
}
