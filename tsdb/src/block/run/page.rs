//! Pages: up to 2,048 numbers of an integer column, each coded as a bin and an offset in the bin.
//! The bins are coded with asymmetric numerals (tANS): four states take turns, so that four
//! numbers are decoded at once. State bits are read from the front of a page, offsets from its
//! back.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::cell::Cell;

use super::bins::{BINS_MAX, Bin, Bins, CellMap};
use super::bits::{BitWriter, load};

/// Rows of a page; the last one of a column may hold fewer.
pub(super) const PAGE_ROWS: usize = 2048;
/// States that take turns.
const LANES: usize = 4;

/// The order of the states: which bin each one belongs to.
fn spread(bins: &Bins, mut put: impl FnMut(usize, usize)) {
    let mask = (1usize << bins.log) - 1;
    let step = ((mask >> 1) + (mask >> 3) + 3) | 1;
    let mut state = 0;
    for (at, bin) in bins.list.iter().enumerate() {
        for _ in 0..bin.states {
            put(state, at);
            state = (state + step) & mask;
        }
    }
}

/// How the offsets of a column are read: as few loads as the widest one allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Offsets {
    /// There are none: each bin is one number.
    None,
    /// Four come from one load.
    Four,
    /// Two come from one load.
    Two,
    /// One comes from one load.
    One,
    /// One may need two loads.
    Wide,
}

const NONE: u8 = Offsets::None as u8;
const FOUR: u8 = Offsets::Four as u8;
const TWO: u8 = Offsets::Two as u8;
const ONE: u8 = Offsets::One as u8;
const WIDE: u8 = Offsets::Wide as u8;

/// What is known of a state: four fields.
#[derive(Debug, Clone, Copy, Default)]
struct Entry(u64);

impl Entry {
    fn new(bits: u32, base: u32, bin: u32, offset_bits: u32) -> Self {
        let mask = (1u64 << bits) - 1;
        Self(
            u64::from(bits)
                | u64::from(offset_bits) << 8
                | u64::from(bin) << 16
                | u64::from(base) << 32
                | mask << 48,
        )
    }
    /// How many state bits are read.
    #[inline(always)]
    fn bits(self) -> usize {
        (self.0 & 0xff) as u8 as usize
    }
    /// How many bits the offset has.
    #[inline(always)]
    fn offset_bits(self) -> usize {
        (self.0 >> 8 & 0x7f) as u8 as usize
    }
    #[inline(always)]
    fn bin(self) -> usize {
        (self.0 >> 16 & 0xff) as u8 as usize
    }
    /// The next state, when `word` begins with the state bits.
    #[inline(always)]
    fn next(self, word: u64) -> u64 {
        (self.0 >> 32 & 0xffff) + (word & self.0 >> 48)
    }
}

/// The tables that pages of one column are decoded with.
#[derive(Debug)]
pub(super) struct Decoder {
    log: u32,
    offsets: Offsets,
    /// There until it is dropped.
    tables: Option<Box<Tables>>,
}

/// The room of a decoder. A thread keeps that of the last one for the next: columns are many, and
/// often only a few rows of each are wanted.
#[derive(Debug)]
struct Tables {
    owners: Vec<u8>,
    states: Vec<Entry>,
    lowers: [u64; BINS_MAX],
}

thread_local! {
    static SPARE: Cell<Option<Box<Tables>>> = const { Cell::new(None) };
}

impl Drop for Decoder {
    fn drop(&mut self) {
        SPARE.set(self.tables.take());
    }
}

impl Decoder {
    /// The tables for `bins`, which [`Bins::read`] has checked; all numbers come out larger by
    /// `shift`.
    pub(super) fn new(bins: &Bins, shift: i64) -> Self {
        let used = bins.list.iter().filter(|bin| bin.states > 0);
        let offsets = match used.map(|bin| bin.bits).max().unwrap_or(0) {
            0 => Offsets::None,
            1..=14 => Offsets::Four,
            15..=28 => Offsets::Two,
            29..=56 => Offsets::One,
            _ => Offsets::Wide,
        };
        let mut tables = SPARE.take().unwrap_or_else(|| {
            Box::new(Tables {
                owners: Vec::new(),
                states: Vec::new(),
                lowers: [0; BINS_MAX],
            })
        });
        let Tables {
            owners,
            states,
            lowers,
        } = &mut *tables;
        let mut next = [0u32; BINS_MAX];
        for ((bin, lower), next) in bins.list.iter().zip(lowers).zip(&mut next) {
            *lower = bin.lower.wrapping_add(shift.cast_unsigned());
            *next = bin.states;
        }
        owners.clear();
        owners.resize(1 << bins.log, 0);
        spread(bins, |state, at| {
            if let Some(slot) = owners.get_mut(state) {
                *slot = u8::try_from(at).unwrap_or(0);
            }
        });
        states.clear();
        for owner in owners {
            let at = usize::from(*owner);
            let (Some(next), Some(bin)) = (next.get_mut(at), bins.list.get(at)) else {
                break;
            };
            let bits = bins.log - (*next).max(1).ilog2();
            let base = (*next << bits).wrapping_sub(1 << bins.log);
            *next += 1;
            states.push(Entry::new(bits, base, u32::from(*owner), bin.bits));
        }
        Self {
            log: bins.log,
            offsets,
            tables: Some(tables),
        }
    }

    /// Decodes the first numbers of a page into `numbers`; the page holds `rows` in all. Nothing
    /// when the page is damaged in a way that shows.
    pub(super) fn decode(&self, page: &[u8], rows: usize, numbers: &mut [i64]) -> Option<()> {
        match self.offsets {
            Offsets::None => self.decode_as::<NONE>(page, rows, numbers),
            Offsets::Four => self.decode_as::<FOUR>(page, rows, numbers),
            Offsets::Two => self.decode_as::<TWO>(page, rows, numbers),
            Offsets::One => self.decode_as::<ONE>(page, rows, numbers),
            Offsets::Wide => self.decode_as::<WIDE>(page, rows, numbers),
        }
    }

    fn decode_as<const OFFSETS: u8>(
        &self,
        page: &[u8],
        rows: usize,
        numbers: &mut [i64],
    ) -> Option<()> {
        let tables = self.tables.as_deref()?;
        let state_mask = (1u64 << self.log) - 1;
        let end = page.len() * 8;
        let mut front = 0usize;
        let mut back = end;
        let mut lanes = [0u64; LANES];
        for state in lanes.iter_mut().take(rows) {
            *state = load(page, front >> 3) >> (front & 7) & state_mask;
            front += self.log as usize;
        }
        // The last number of each lane has no successor and so no state bits.
        let steps = rows.saturating_sub(LANES) / LANES;
        let whole = (steps * LANES).min(numbers.len() & !(LANES - 1));
        let (head, tail) = numbers.split_at_mut_checked(whole)?;
        for group in head.as_chunks_mut::<LANES>().0 {
            let entries = lanes.map(|state| tables.entry(state));
            let mut word = load(page, front >> 3) >> (front & 7);
            for (state, entry) in lanes.iter_mut().zip(entries) {
                *state = entry.next(word);
                word >>= entry.bits();
            }
            let [a, b, c, d] = entries;
            front += a.bits() + b.bits() + c.bits() + d.bits();
            *group = entries.map(|entry| tables.lower(entry));
            let [to_a, to_b, to_c, to_d] = group;
            match OFFSETS {
                NONE => {}
                FOUR => {
                    back = back.wrapping_sub(
                        a.offset_bits() + b.offset_bits() + c.offset_bits() + d.offset_bits(),
                    );
                    let mut word = load(page, back >> 3) >> (back & 7);
                    for (to, entry) in [(to_d, d), (to_c, c), (to_b, b), (to_a, a)] {
                        add_low(to, word, entry);
                        word >>= entry.offset_bits();
                    }
                }
                TWO => {
                    for (to, entry, to_next, next) in [(to_a, a, to_b, b), (to_c, c, to_d, d)] {
                        back = back.wrapping_sub(entry.offset_bits() + next.offset_bits());
                        let word = load(page, back >> 3) >> (back & 7);
                        add_low(to_next, word, next);
                        add_low(to, word >> next.offset_bits(), entry);
                    }
                }
                _ => {
                    for (to, entry) in group.iter_mut().zip(entries) {
                        add_one::<OFFSETS>(to, page, entry, &mut back);
                    }
                }
            }
        }
        for (row, to) in (whole..).zip(tail) {
            let state = lanes.get_mut(row % LANES)?;
            let entry = tables.entry(*state);
            *to = tables.lower(entry);
            add_one::<WIDE>(to, page, entry, &mut back);
            if row + LANES < rows {
                *state = entry.next(load(page, front >> 3) >> (front & 7));
                front += entry.bits();
            }
        }
        (front <= back && back <= end).then_some(())
    }
}

impl Tables {
    #[inline(always)]
    fn entry(&self, state: u64) -> Entry {
        let state = (state & 0xffff) as u16 as usize;
        self.states.get(state).copied().unwrap_or_default()
    }

    #[inline(always)]
    fn lower(&self, entry: Entry) -> i64 {
        self.lowers
            .get(entry.bin())
            .copied()
            .unwrap_or(0)
            .cast_signed()
    }
}

/// Adds the offset in the lowest bits of `word`, of at most 56 bits.
#[inline(always)]
fn add_low(to: &mut i64, word: u64, entry: Entry) {
    let offset = word & ((1u64 << (entry.offset_bits() & 63)) - 1);
    *to = to.wrapping_add(offset.cast_signed());
}

/// Adds the offset that ends at bit `back`.
#[inline(always)]
fn add_one<const OFFSETS: u8>(to: &mut i64, page: &[u8], entry: Entry, back: &mut usize) {
    let bits = entry.offset_bits();
    *back = back.wrapping_sub(bits);
    let (at, shift) = (*back >> 3, *back & 7);
    let word = load(page, at) >> shift;
    if OFFSETS != WIDE || bits <= 56 {
        add_low(to, word, entry);
        return;
    }
    // Nine bytes: the shift by 64 in two steps, for it is none when `shift` is zero.
    let word = word | load(page, at.wrapping_add(8)) << (63 - shift) << 1;
    let offset = word & (u64::MAX >> (64 - bits.min(64)));
    *to = to.wrapping_add(offset.cast_signed());
}

/// The tables that pages of one column are encoded with.
#[derive(Debug)]
pub(super) struct Encoder {
    log: u32,
    bins: Vec<EncoderBin>,
    states: Vec<u32>,
    map: CellMap,
    /// State bits of each row of the page, waiting to be written in order.
    pending: Vec<(u32, u32)>,
    /// Offsets of each row of the page.
    offsets: Vec<(u64, u32)>,
}

#[derive(Debug, Clone, Copy)]
struct EncoderBin {
    lower: u64,
    offset_bits: u32,
    share: u32,
    /// State bits when the state is at least `share << bits`, one fewer when it is below.
    bits: u32,
    first: u32,
}

impl Encoder {
    /// The tables for `bins`.
    pub(super) fn new(bins: &Bins) -> Self {
        let mut first = 0;
        let encode = |bin: &Bin| {
            let start = first;
            first += bin.states;
            EncoderBin {
                lower: bin.lower,
                offset_bits: bin.bits,
                share: bin.states,
                bits: bins.log - bin.states.max(1).ilog2(),
                first: start,
            }
        };
        let list: Vec<EncoderBin> = bins.list.iter().map(encode).collect();
        let mut by_state = vec![0usize; 1 << bins.log];
        spread(bins, |state, at| {
            if let Some(slot) = by_state.get_mut(state) {
                *slot = at;
            }
        });
        let mut next: Vec<u32> = list.iter().map(|bin| bin.first).collect();
        let mut states = vec![0u32; 1 << bins.log];
        for (state, at) in (0u32..).zip(by_state) {
            if let Some(next) = next.get_mut(at) {
                if let Some(slot) = states.get_mut(*next as usize) {
                    *slot = state;
                }
                *next += 1;
            }
        }
        Self {
            log: bins.log,
            bins: list,
            states,
            map: bins.cell_map(),
            pending: Vec::with_capacity(PAGE_ROWS),
            offsets: Vec::with_capacity(PAGE_ROWS),
        }
    }

    /// Appends one page of `numbers`.
    pub(super) fn encode(
        &mut self,
        numbers: impl DoubleEndedIterator<Item = u64> + ExactSizeIterator,
        out: &mut Vec<u8>,
    ) {
        let size = 1u32 << self.log;
        let rows = numbers.len();
        let mut lanes: [Option<u32>; LANES] = [None; LANES];
        self.pending.clear();
        self.offsets.clear();
        let mut total = 0usize;
        for (row, number) in (0..rows).rev().zip(numbers.rev()) {
            let Some(bin) = self.bins.get(self.map.find(number)) else {
                continue;
            };
            let Some(lane) = lanes.get_mut(row % LANES) else {
                continue;
            };
            self.offsets
                .push((number.wrapping_sub(bin.lower), bin.offset_bits));
            let place = match *lane {
                None => 0,
                Some(state) => {
                    let state = state + size;
                    let bits = bin.bits - u32::from(state < bin.share << bin.bits);
                    self.pending.push((state & ((1 << bits) - 1), bits));
                    total += bits as usize;
                    (state >> bits) - bin.share
                }
            };
            total += bin.offset_bits as usize;
            *lane = self.states.get((bin.first + place) as usize).copied();
        }
        let mut writer = BitWriter::new(out);
        for state in lanes.into_iter().flatten() {
            writer.put(u64::from(state), self.log);
            total += self.log as usize;
        }
        for &(value, bits) in self.pending.iter().rev() {
            writer.put(u64::from(value), bits);
        }
        let padding = u32::try_from(total.next_multiple_of(8) - total).unwrap_or(0);
        writer.put(0, padding);
        for &(value, bits) in &self.offsets {
            writer.put(value, bits);
        }
        writer.finish();
    }
}
