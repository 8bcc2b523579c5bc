//! Bins: the part of a distribution that is entropy-coded. A binary tree splits the numbers from
//! 0 to a power of two into ranges that are powers of two wide; a number is coded as its bin and
//! its offset in the bin. The integer columns write and read the tree in front of their pages.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::iter::Peekable;
use std::slice::Iter;

use super::bits::{BitReader, BitWriter};

/// The most bins of one column, so that the number of a bin fits a byte.
pub(super) const BINS_MAX: usize = 256;
/// The greatest logarithm of the number of states.
pub(super) const STATES_LOG_MAX: u32 = 11;
/// Cells of a histogram in one octave, as a power of two: this many for long columns.
const CELLS_LOG_MAX: u32 = 6;
/// And for short ones.
const CELLS_LOG_MIN: u32 = 3;
/// What a bin costs in the header, about.
const BIN_BITS: f32 = 9.0;
/// What it is worth in bits to build one state less when a run is opened.
const STATE_BITS: f32 = 0.04;

/// One bin: the numbers from `lower` on, `1 << bits` of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bin {
    /// The least number.
    pub(super) lower: u64,
    /// The bits of an offset, 0 to 64.
    pub(super) bits: u32,
    /// How many of the `1 << log` states are its own; none when it is empty.
    pub(super) states: u32,
}

/// The bins of a column, in ascending order and without gaps.
#[derive(Debug, Default)]
pub(super) struct Bins {
    /// The logarithm of the number of states.
    pub(super) log: u32,
    /// All numbers are below `1 << width`.
    pub(super) width: u32,
    /// The bins themselves.
    pub(super) list: Vec<Bin>,
}

/// Cells that are finest near zero: so many in each octave, as a power of two, and in as many
/// numbers below the first octave.
#[derive(Debug, Clone, Copy)]
struct Grid(u32);

impl Grid {
    /// The cell that `number` is in.
    #[inline]
    fn cell(self, number: u64) -> usize {
        let shift = (u64::BITS - number.leading_zeros()).saturating_sub(self.0 + 1);
        let octaves = u64::from(shift) << self.0;
        usize::try_from(octaves + (number >> shift)).unwrap_or(0)
    }

    /// How many bits wide the octaves below `1 << width` are; first comes what is below them.
    fn octaves(self, width: u32) -> impl Iterator<Item = u32> {
        std::iter::once(self.0).chain(self.0..width)
    }

    /// How many cells there are in one octave.
    fn octave_cells(self) -> usize {
        1 << self.0
    }

    /// How many cells there are in all.
    fn cells(self) -> usize {
        (65 - self.0 as usize) << self.0
    }
}

/// How often numbers occur.
#[derive(Debug)]
pub(super) struct Histogram {
    grid: Grid,
    cells: Vec<u32>,
    total: u32,
    max: u64,
}

impl Histogram {
    /// Counts `numbers`.
    pub(super) fn new(numbers: impl ExactSizeIterator<Item = u64>) -> Self {
        // As fine as the square root of the rows: finer cells would only show chance.
        let log = u32::try_from(numbers.len() | 1).map_or(u32::BITS, u32::ilog2) / 2;
        let grid = Grid(log.clamp(CELLS_LOG_MIN, CELLS_LOG_MAX));
        let mut histogram = Self {
            grid,
            cells: vec![0; grid.cells()],
            total: 0,
            max: 0,
        };
        for number in numbers {
            histogram.max |= number;
            histogram.total += 1;
            if let Some(cell) = histogram.cells.get_mut(grid.cell(number)) {
                *cell += 1;
            }
        }
        histogram
    }

    /// The best bins, and what the column costs with them in bits.
    pub(super) fn bins(&self) -> (Bins, f32) {
        let mut penalty = BIN_BITS;
        loop {
            let tree = Tree::new(self, penalty);
            let mut list = Vec::new();
            let mut counts = Vec::new();
            let mut lower = 0u64;
            tree.leaves(&mut |bits, count| {
                list.push(Bin {
                    lower,
                    bits,
                    states: 0,
                });
                counts.push(count);
                lower = lower.wrapping_add(1u64.checked_shl(bits).unwrap_or(0));
            });
            if list.len() <= BINS_MAX {
                let mut bins = Bins {
                    log: 0,
                    width: tree.width,
                    list,
                };
                let cost = bins.assign_states(&counts, self.total);
                return (bins, cost);
            }
            penalty *= 2.0;
        }
    }
}

/// A node of the tree while it is being chosen.
#[derive(Debug, Clone, Copy, Default)]
struct Node {
    count: u32,
    cost: f32,
    split: bool,
}

/// The cheapest tree: for each node it is known whether to split it costs less than not to.
#[derive(Debug)]
struct Tree {
    grid: Grid,
    width: u32,
    /// The nodes inside of each octave as a heap: 1 is the root, 2n and 2n+1 are the children of n.
    octaves: Vec<Vec<Node>>,
    /// The node of all numbers up to the end of each octave.
    chain: Vec<Node>,
}

impl Tree {
    /// The cheapest tree when each bin costs `penalty` bits.
    fn new(histogram: &Histogram, penalty: f32) -> Self {
        let width = u64::BITS - histogram.max.leading_zeros();
        let total_log = (histogram.total as f32).log2();
        let bin = |count: u32, bits: u32| match count {
            0 => penalty,
            _ => count as f32 * (bits as f32 + total_log - (count as f32).log2()) + penalty,
        };
        let parent = |left: Node, right: Node, bits: u32| {
            let count = left.count + right.count;
            let whole = bin(count, bits);
            let split = left.cost + right.cost < whole;
            let cost = if split { left.cost + right.cost } else { whole };
            Node { count, cost, split }
        };
        let grid = histogram.grid;
        let mut tree = Self {
            grid,
            width,
            octaves: Vec::new(),
            chain: Vec::new(),
        };
        let cells = histogram.cells.chunks_exact(grid.octave_cells());
        for (octave, cells) in grid.octaves(width).zip(cells) {
            let cell = |&count: &u32| Node {
                count,
                cost: bin(count, octave - grid.0),
                split: false,
            };
            let mut heap = vec![Node::default(); cells.len()];
            heap.extend(cells.iter().map(cell));
            for at in (1..cells.len()).rev() {
                let level = u32::try_from(at).map_or(0, u32::ilog2);
                let children = heap.get(2 * at..).and_then(<[Node]>::first_chunk);
                let Some(node) = children.map(|&[left, right]| parent(left, right, octave - level))
                else {
                    continue;
                };
                if let Some(slot) = heap.get_mut(at) {
                    *slot = node;
                }
            }
            let root = heap.get(1).copied().unwrap_or_default();
            tree.chain.push(match tree.chain.last() {
                Some(&below) => parent(below, root, octave + 1),
                None => root,
            });
            tree.octaves.push(heap);
        }
        tree
    }

    /// Gives the bits and the count of all leaves, in ascending order.
    fn leaves(&self, give: &mut impl FnMut(u32, u32)) {
        // The chain is split from its top down to this octave.
        let whole = self.chain.iter().rposition(|node| !node.split).unwrap_or(0);
        for (at, (bits, heap)) in self
            .grid
            .octaves(self.width)
            .zip(&self.octaves)
            .enumerate()
            .skip(whole)
        {
            if at > 0 && at == whole {
                let count = self.chain.get(at).map_or(0, |node| node.count);
                give(bits + 1, count);
            } else {
                // Fewer numbers than an octave has cells are below a node inside of the heap.
                let depth = bits.saturating_sub(self.width);
                Self::walk(heap, 1 << depth, bits - depth, give);
            }
        }
    }

    /// Gives the leaves below node `at`, which is `bits` wide.
    fn walk(heap: &[Node], at: usize, bits: u32, give: &mut impl FnMut(u32, u32)) {
        let Some(node) = heap.get(at) else { return };
        if node.split {
            Self::walk(heap, 2 * at, bits.saturating_sub(1), give);
            Self::walk(heap, 2 * at + 1, bits.saturating_sub(1), give);
        } else {
            give(bits, node.count);
        }
    }
}

/// The number of the bin for each cell.
#[derive(Debug)]
pub(super) struct CellMap(Vec<u8>);

impl CellMap {
    /// The number of the bin that holds `number`.
    #[inline]
    pub(super) fn find(&self, number: u64) -> usize {
        let cell = Grid(CELLS_LOG_MAX).cell(number);
        self.0.get(cell).copied().map_or(0, usize::from)
    }
}

impl Bins {
    /// Chooses the number of states and gives each bin its share; the cost of the column in bits.
    fn assign_states(&mut self, counts: &[u32], total: u32) -> f32 {
        let used = counts.iter().filter(|&&count| count > 0).count();
        let offsets: f32 = self
            .list
            .iter()
            .zip(counts)
            .map(|(bin, &count)| bin.bits as f32 * count as f32)
            .sum();
        if used <= 1 {
            for (bin, &count) in self.list.iter_mut().zip(counts) {
                bin.states = u32::from(count > 0);
            }
            return offsets;
        }
        let mut best: Option<(f32, u32, Vec<u32>)> = None;
        let least = used.next_power_of_two().ilog2().max(1);
        for log in least..=STATES_LOG_MAX {
            let shares = shares(counts, total, log);
            let mut cost = STATE_BITS * (1u32 << log) as f32;
            for (&count, &share) in counts.iter().zip(&shares) {
                cost += (log + 1) as f32;
                if count > 0 {
                    cost += count as f32 * (log as f32 - (share as f32).log2());
                }
            }
            if best.as_ref().is_none_or(|(least, ..)| cost < *least) {
                best = Some((cost, log, shares));
            }
        }
        let Some((cost, log, shares)) = best else {
            return f32::MAX;
        };
        self.log = log;
        for (bin, share) in self.list.iter_mut().zip(shares) {
            bin.states = share;
        }
        cost + offsets
    }

    /// Where to find the bin of a number: each bin is made of whole cells.
    pub(super) fn cell_map(&self) -> CellMap {
        let grid = Grid(CELLS_LOG_MAX);
        let mut map = vec![0; grid.cells()];
        for (at, bin) in self.list.iter().enumerate() {
            let last = bin.lower + u64::MAX.checked_shr(u64::BITS - bin.bits).unwrap_or(0);
            let cells = map.get_mut(grid.cell(bin.lower)..=grid.cell(last));
            cells
                .unwrap_or_default()
                .fill(u8::try_from(at).unwrap_or(u8::MAX));
        }
        CellMap(map)
    }

    /// Writes the bins.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut writer = BitWriter::new(out);
        writer.put(u64::from(self.log), 4);
        writer.put(u64::from(self.width), 7);
        write_shape(&mut writer, &mut self.list.iter().peekable(), self.width);
        let mut rest = 1u64 << self.log;
        for bin in &self.list {
            if rest == 0 {
                break;
            }
            writer.put(u64::from(bin.states), rest.ilog2() + 1);
            rest = rest.saturating_sub(u64::from(bin.states));
        }
        writer.finish();
    }

    /// Reads what [`write`](Self::write) wrote and the number of bytes that it took; nothing when
    /// the bytes are none of ours.
    pub(super) fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut reader = BitReader::new(bytes);
        let log = u32::try_from(reader.take(4)?).ok()?;
        let width = u32::try_from(reader.take(7)?).ok()?;
        if log > STATES_LOG_MAX || width > 64 {
            return None;
        }
        let mut list = Vec::new();
        read_shape(&mut reader, &mut list, width)?;
        let mut lower = 0u64;
        let mut rest = 1u32 << log;
        for bin in &mut list {
            bin.lower = lower;
            lower = lower.wrapping_add(1u64.checked_shl(bin.bits).unwrap_or(0));
            if rest > 0 {
                bin.states = u32::try_from(reader.take(rest.ilog2() + 1)?).ok()?;
                rest = rest.checked_sub(bin.states)?;
            }
        }
        (rest == 0).then_some((Self { log, width, list }, reader.bytes_read()))
    }
}

/// Writes which nodes are split, each before its children. The next leaf of `bins` tells: it is as
/// wide as the node or narrower. A leaf is taken from `bins`.
fn write_shape(writer: &mut BitWriter<'_>, bins: &mut Peekable<Iter<'_, Bin>>, bits: u32) {
    let split = bins.peek().is_some_and(|bin| bin.bits < bits);
    writer.put(u64::from(split), 1);
    if split {
        write_shape(writer, bins, bits - 1);
        write_shape(writer, bins, bits - 1);
    } else {
        bins.next();
    }
}

/// Reads the leaves below a node that is `bits` wide.
fn read_shape(reader: &mut BitReader<'_>, list: &mut Vec<Bin>, bits: u32) -> Option<()> {
    if reader.take(1)? == 0 {
        list.push(Bin {
            lower: 0,
            bits,
            states: 0,
        });
        return (list.len() <= BINS_MAX).then_some(());
    }
    let half = bits.checked_sub(1)?;
    read_shape(reader, list, half)?;
    read_shape(reader, list, half)
}

/// Gives each count its share of `1 << log` states: at least one when it is not zero, and in all
/// exactly as many as there are.
fn shares(counts: &[u32], total: u32, log: u32) -> Vec<u32> {
    let states = 1u32 << log;
    let total = u64::from(total.max(1));
    let mut given = 0u32;
    let mut shares: Vec<u32> = Vec::with_capacity(counts.len());
    for &count in counts {
        let rounded = ((u64::from(count) << log) + total / 2) / total;
        let share = u32::try_from(rounded)
            .unwrap_or(states)
            .max(u32::from(count > 0));
        given += share;
        shares.push(share);
    }
    while given != states {
        // One state more or less where it changes the cost least.
        let more = given < states;
        let change = |count: u32, share: u32| {
            let to = if more {
                share + 1
            } else {
                share.saturating_sub(1)
            };
            if count == 0 || to == 0 {
                return f64::MAX;
            }
            f64::from(count) * (f64::from(share).log2() - f64::from(to).log2())
        };
        let best = counts
            .iter()
            .zip(&mut shares)
            .map(|(&count, share)| (change(count, *share), share))
            .min_by(|a, b| a.0.total_cmp(&b.0));
        let Some((_, share)) = best else { break };
        if more {
            *share += 1;
            given += 1;
        } else {
            *share = share.saturating_sub(1);
            given = given.saturating_sub(1);
        }
    }
    shares
}
