//! How many entries and bytes there are by stream, metadata and bucket: from headers where they say
//! it, from timestamps and lengths otherwise. Lines and metadata are unpacked only where the
//! request has conditions on them or splits by them.

use std::collections::HashMap;
use std::ops::AddAssign;
use std::sync::Arc;

use roaring::RoaringBitmap;
use trine_storage::{Error, Labels, Result, TimeRange};

use super::place::{Condition, OpenPlace};
use super::unpacked::Unpacked;
use super::{Scan, Units, Worker};
use crate::block::format::{ChunkHeader, LEVEL, Run};
use crate::request::{Batch, CountBatch, Counts, Measure};

/// Numbers that are held before they are given.
const HELD_MAX: usize = 64 << 10;
/// After this many chunks control is given back, whatever was found, when entries are looked at ...
const CHUNKS_MAX: usize = 32;
/// ... and when only headers are.
const HEADERS_MAX: usize = 4096;
/// The numbers that are added to, found by stream, group and bucket: so many, a power of two.
const RECENT: usize = 1024;

/// Iterator over the numbers that a request asks for, or over one part of them.
#[derive(Debug)]
pub(crate) struct CountScan {
    units: Arc<Units>,
    worker: Worker,
    /// `None` for one that holds everything.
    buckets: Option<Buckets>,
    /// Entries are counted in any case.
    measure: Measure,
    /// As [`Counts::by`].
    by: Vec<String>,
    /// Of which place the numbers are.
    place: usize,
    /// A chunk of another place, which comes next.
    taken: Option<(usize, usize)>,
    numbers: Vec<Number>,
    /// Places in `numbers`, by a hash of the key.
    recent: Vec<u32>,
    groups: Vec<Labels>,
    group_codes: HashMap<Labels, u32>,
}

/// How much there is of something.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Amount {
    pub(crate) entries: u64,
    /// Of their lines; 0 where they are not measured.
    pub(crate) bytes: u64,
}

/// Where the buckets of [`Counts`] lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Buckets {
    start: i64,
    width_ns: i64,
}

/// What tells how many entries of a run there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// None of them count.
    Nothing,
    /// The header: all of them count, in this bucket.
    Header(u32),
    /// Timestamps.
    Times,
    /// Each of them has to be looked at.
    Rows,
}

#[derive(Debug, Clone, Copy)]
struct Number {
    stream: u32,
    group: u32,
    bucket: u32,
    amount: Amount,
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        self.entries += other.entries;
        self.bytes += other.bytes;
    }
}

/// The timestamps that lie in some bucket of the request.
///
/// # Errors
/// [`Kind::Invalid`](trine_storage::Kind::Invalid) for buckets that are too many or have no width.
pub(crate) fn counted_range(request: &Counts) -> Result<TimeRange> {
    let buckets = match request.range.end.checked_sub(request.range.start) {
        _ if request.bucket_ns < 1 => None,
        Some(width) => u32::try_from(width / request.bucket_ns).ok(),
        None => None,
    };
    if buckets.is_none() {
        return Err(Error::invalid(format!(
            "buckets of {} ns do not divide the range from {} to {} into less than 2^32 parts",
            request.bucket_ns, request.range.start, request.range.end
        )));
    }
    let first = request.range.start.saturating_add(1);
    Ok(TimeRange::new(first, request.range.end))
}

impl Buckets {
    /// Those of a request.
    pub(crate) fn of(request: &Counts) -> Self {
        Self {
            start: request.range.start,
            width_ns: request.bucket_ns,
        }
    }

    /// The bucket of a timestamp in the range, and the times in it; there is but one where they are not
    /// told apart.
    fn bucket(buckets: Option<Self>, timestamp: i64) -> (u32, TimeRange) {
        let Some(Self { start, width_ns }) = buckets else {
            return (0, TimeRange::ALL);
        };
        let after = timestamp.saturating_sub(start).saturating_sub(1);
        let bucket = u32::try_from(after / width_ns).unwrap_or(u32::MAX);
        let end_of = |buckets: i64| start.saturating_add(width_ns.saturating_mul(buckets));
        let first = end_of(i64::from(bucket)).saturating_add(1);
        let last = end_of(i64::from(bucket) + 1);
        (bucket, TimeRange::inclusive(first, last))
    }
}

impl Told {
    /// What tells it of a run of a place.
    pub(super) fn of(
        scan: &Scan,
        (number, open): (usize, &OpenPlace),
        run: &Run,
        buckets: Option<Buckets>,
    ) -> Self {
        let range = scan.spec.range;
        if !open.is_selected(run.stream) || !run.range().overlaps(&range) {
            return Self::Nothing;
        }
        let elsewhere = scan.shared_range(number, open, run.stream, run.range());
        let veil = open.veils.of(run.stream);
        if veil.is_some_and(|veil| veil.covers(run.range())) {
            return Self::Nothing;
        }
        if elsewhere.overlaps(&run.range()) || veil.is_some_and(|v| v.touches(run.range())) {
            return Self::Rows;
        }
        let whole = range.contains(run.first) && range.contains(run.last);
        let (bucket, times) = Buckets::bucket(buckets, run.first);
        match whole && times.contains(run.last) {
            true => Self::Header(bucket),
            false => Self::Times,
        }
    }
}

impl Scan {
    /// Whether nothing but streams, times and levels of a place matters.
    pub(super) fn headers_know(&self, open: &OpenPlace) -> bool {
        self.spec.filters.is_empty() && open.conditions.iter().all(Condition::is_of_level)
    }
}

impl CountScan {
    /// What `request` asks for.
    pub(crate) fn new(units: Arc<Units>, request: &Counts) -> Self {
        Self {
            buckets: Some(Buckets::of(request)),
            measure: request.measure,
            by: request.by.clone(),
            ..Self::of_all_times(units)
        }
    }

    /// Everything that the scan finds in one bucket, entries and bytes.
    pub(crate) fn of_all_times(units: Arc<Units>) -> Self {
        let worker = units.scan.worker();
        Self {
            units,
            worker,
            buckets: None,
            measure: Measure::Bytes,
            by: Vec::new(),
            place: 0,
            taken: None,
            numbers: Vec::new(),
            recent: vec![u32::MAX; RECENT],
            groups: vec![Labels::empty()],
            group_codes: HashMap::from([(Labels::empty(), 0)]),
        }
    }

    fn bucket(&self, timestamp: i64) -> (u32, TimeRange) {
        Buckets::bucket(self.buckets, timestamp)
    }

    fn amount(&self, entries: u64, bytes: impl FnOnce() -> u64) -> Amount {
        let bytes = match self.measure {
            Measure::Lines => 0,
            Measure::Bytes => bytes(),
        };
        Amount { entries, bytes }
    }

    fn add(&mut self, stream: u32, group: u32, bucket: u32, amount: Amount) {
        let key = u64::from(stream) << 32 ^ u64::from(group) << 16 ^ u64::from(bucket);
        let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54;
        let recent = &mut self.recent[hash as usize % RECENT];
        if let Some(number) = self.numbers.get_mut(*recent as usize)
            && (number.stream, number.group, number.bucket) == (stream, group, bucket)
        {
            number.amount += amount;
            return;
        }
        *recent = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
        self.numbers.push(Number {
            stream,
            group,
            bucket,
            amount,
        });
    }

    /// Counts a chunk; whether headers told all.
    fn count(&mut self, scan: &Scan, number: usize, chunk: usize) -> Result<bool> {
        let Some(open) = scan.place(number) else {
            return Ok(true);
        };
        let by = self.by.as_slice();
        let headers_know = scan.headers_know(open) && (by.is_empty() || by == [LEVEL]);
        match open.header(chunk).filter(|_| headers_know) {
            Some(header) => self.count_runs(scan, open, header, (number, chunk)),
            None => {
                self.count_rows(scan, open, (number, chunk), |_| true)?;
                Ok(false)
            }
        }
    }

    /// Counts a block's chunk of which nothing but streams, times and levels matters.
    fn count_runs(
        &mut self,
        scan: &Scan,
        open: &OpenPlace,
        header: &ChunkHeader,
        (number, chunk): (usize, usize),
    ) -> Result<bool> {
        let range = scan.spec.range;
        let levels_matter = !self.by.is_empty() || !open.conditions.is_empty();
        let levels = self.levels(open, header);
        let (mut unpacked, mut codes) = (None, None);
        let (mut start, mut looked_at) = (0, Vec::new());
        for (at, run) in header.runs.iter().enumerate() {
            let first = start;
            start += run.rows;
            let bucket = match Told::of(scan, (number, open), run, self.buckets) {
                Told::Nothing => continue,
                Told::Rows => {
                    looked_at.push(run.stream);
                    continue;
                }
                Told::Times => None,
                Told::Header(bucket) => Some(bucket),
            };
            if levels_matter {
                let is_counted = |levels: usize| self.measure == Measure::Lines || levels == 1;
                let counts = header.levels_of(at);
                let counts = counts.filter(|counts| is_counted(counts.len()));
                let Some((counts, bucket)) = counts.zip(bucket) else {
                    if header.levels.is_empty() {
                        looked_at.push(run.stream);
                        continue;
                    }
                    let unpacked = match &mut unpacked {
                        Some(unpacked) => unpacked,
                        none => none.insert(self.unpack(open, number, chunk)?),
                    };
                    let (column, groups) = match &mut codes {
                        Some(codes) => codes,
                        none => {
                            let column = unpacked.level_column(open)?.unwrap_or_default();
                            let of_code = |code| self.level_group(open, column.value(code));
                            let last = u32::try_from(column.len()).unwrap_or(0);
                            let groups: Vec<_> = (0..=last).map(of_code).collect();
                            none.insert((column, groups))
                        }
                    };
                    let of_rows = (column.codes.as_slice(), groups.as_slice());
                    self.count_levels(range, unpacked, run, first as usize, of_rows);
                    continue;
                };
                for (level, rows) in counts {
                    if let Some(&Some(group)) = levels.get(level) {
                        let amount = self.amount(u64::from(rows), || run.line_bytes);
                        self.add(run.stream, group, bucket, amount);
                    }
                }
                continue;
            }
            if let Some(bucket) = bucket {
                let amount = self.amount(u64::from(run.rows), || run.line_bytes);
                self.add(run.stream, 0, bucket, amount);
                continue;
            }
            let unpacked = match &mut unpacked {
                Some(unpacked) => unpacked,
                none => none.insert(self.unpack(open, number, chunk)?),
            };
            self.count_run(range, unpacked, run, first as usize);
        }
        if !looked_at.is_empty() {
            let is_wanted = |stream: u32| looked_at.binary_search(&stream).is_ok();
            self.count_rows(scan, open, (number, chunk), is_wanted)?;
            return Ok(false);
        }
        Ok(unpacked.is_none())
    }

    /// For each level of a chunk the group that it is counted in; `None` for those that do not
    /// count.
    fn levels(&mut self, open: &OpenPlace, header: &ChunkHeader) -> Vec<Option<u32>> {
        let levels = header.levels.iter();
        levels.map(|level| self.level_group(open, level)).collect()
    }

    fn level_group(&mut self, open: &OpenPlace, level: &str) -> Option<u32> {
        let mut conditions = open.conditions.iter();
        if !conditions.all(|condition| condition.matcher.matches(level)) {
            return None;
        }
        if self.by.is_empty() {
            return Some(0);
        }
        // A set of one pair is always well formed.
        let group = Labels::from_pairs([(LEVEL, level)]).unwrap_or_default();
        Some(number_of(&mut self.groups, &mut self.group_codes, group))
    }

    /// Counts the rows of a run, which begin with `first`, bucket by bucket and by level: `codes`
    /// has one for each row of the chunk, `groups` one for each code.
    fn count_levels(
        &mut self,
        range: TimeRange,
        unpacked: &Unpacked,
        run: &Run,
        first: usize,
        (codes, groups): (&[u32], &[Option<u32>]),
    ) {
        let end = first + run.rows as usize;
        let timestamps = unpacked.timestamps().get(first..end).unwrap_or_default();
        let mut from = timestamps.partition_point(|&timestamp| timestamp < range.start);
        let to = timestamps.partition_point(|&timestamp| timestamp < range.end);
        let mut sums = vec![Amount::default(); groups.len()];
        while from < to {
            let (bucket, times) = self.bucket(timestamps[from]);
            let rest = timestamps.get(from..to).unwrap_or_default();
            let rows = rest
                .partition_point(|&timestamp| timestamp < times.end)
                .max(1);
            for row in first + from..first + from + rows {
                let code = codes.get(row).copied().unwrap_or(0);
                let amount = self.amount(1, || {
                    let row = u32::try_from(row).unwrap_or(u32::MAX);
                    unpacked.line_bytes(row..row.saturating_add(1))
                });
                if let Some(sum) = sums.get_mut(code as usize) {
                    *sum += amount;
                }
            }
            for (slot, group) in sums.iter_mut().zip(groups) {
                let sum = std::mem::take(slot);
                if let Some(group) = group.filter(|_| sum.entries > 0) {
                    self.add(run.stream, group, bucket, sum);
                }
            }
            from += rows;
        }
    }

    /// Timestamps, and lengths if they are measured.
    fn unpack(&self, open: &OpenPlace, number: usize, chunk: usize) -> Result<Unpacked> {
        let mut unpacked = Unpacked::new(open, number, chunk)?;
        if self.measure == Measure::Bytes {
            unpacked.load_lengths(open)?;
        }
        Ok(unpacked)
    }

    /// Counts the rows of a run, which begin with `first`, bucket by bucket.
    fn count_run(&mut self, range: TimeRange, unpacked: &Unpacked, run: &Run, first: usize) {
        let end = first + run.rows as usize;
        let timestamps = unpacked.timestamps().get(first..end).unwrap_or_default();
        let mut from = timestamps.partition_point(|&timestamp| timestamp < range.start);
        let to = timestamps.partition_point(|&timestamp| timestamp < range.end);
        while from < to {
            let (bucket, times) = self.bucket(timestamps[from]);
            let rest = timestamps.get(from..to).unwrap_or_default();
            let rows = rest.partition_point(|&timestamp| timestamp < times.end);
            let amount = self.amount(rows as u64, || {
                let row = |at: usize| u32::try_from(first + at).unwrap_or(u32::MAX);
                unpacked.line_bytes(row(from)..row(from + rows))
            });
            self.add(run.stream, 0, bucket, amount);
            from += rows.max(1);
        }
    }

    /// Counts the rows of a chunk one by one, those of the streams that are asked for.
    fn count_rows(
        &mut self,
        scan: &Scan,
        open: &OpenPlace,
        (number, chunk): (usize, usize),
        is_wanted: impl Fn(u32) -> bool,
    ) -> Result<()> {
        let Some((mut unpacked, mut rows)) = scan.candidates(number, chunk)? else {
            return Ok(());
        };
        rows.retain(|&row| is_wanted(unpacked.stream(row)));
        scan.retain(&mut self.worker, &mut unpacked, &mut rows)?;
        if rows.is_empty() {
            return Ok(());
        }
        if self.measure == Measure::Bytes {
            unpacked.load_lengths(open)?;
        }
        let groups = self.groups_of(open, &mut unpacked, &rows)?;
        // Neighbours are mostly of one stream, group and bucket.
        let (mut bucket, mut times) = (0, TimeRange::new(0, 0));
        let (mut last, mut sum) = (None, Amount::default());
        for (at, &row) in rows.iter().enumerate() {
            let timestamp = unpacked.timestamp(row);
            if !times.contains(timestamp) {
                (bucket, times) = self.bucket(timestamp);
            }
            let group = groups.get(at).copied().unwrap_or(0);
            let key = (unpacked.stream(row), group, bucket);
            if last != Some(key) {
                if let Some((stream, group, bucket)) = last.replace(key) {
                    self.add(stream, group, bucket, sum);
                }
                sum = Amount::default();
            }
            sum += self.amount(1, || unpacked.line_bytes(row..row + 1));
        }
        if let Some((stream, group, bucket)) = last {
            self.add(stream, group, bucket, sum);
        }
        Ok(())
    }

    /// For each row the group that it belongs to; nothing where numbers are not split.
    fn groups_of(
        &mut self,
        open: &OpenPlace,
        unpacked: &mut Unpacked,
        rows: &[u32],
    ) -> Result<Vec<u32>> {
        if self.by.is_empty() {
            return Ok(Vec::new());
        }
        let (groups, codes) = (&mut self.groups, &mut self.group_codes);
        unpacked.groups(open, &self.by, rows, |group| {
            number_of(groups, codes, group)
        })
    }

    /// The numbers that are held, which are of one place.
    fn take_numbers(&mut self) -> Vec<Number> {
        self.recent.fill(u32::MAX);
        std::mem::take(&mut self.numbers)
    }

    /// Gives the numbers that are held.
    fn give(&mut self) -> Result<CountBatch> {
        let numbers = self.take_numbers();
        let scan = &*self.units.scan;
        let mut batch = CountBatch {
            groups: self.groups.clone(),
            ..CountBatch::default()
        };
        if self.groups.len() > HELD_MAX {
            self.groups.truncate(1);
            self.group_codes.retain(|_, code| *code == 0);
        }
        let mut codes: HashMap<u32, u32> = HashMap::new();
        for number in numbers {
            let code = match codes.get(&number.stream) {
                Some(&code) => code,
                None => {
                    let Some(open) = scan.place(self.place) else {
                        break;
                    };
                    batch.streams.push(open.labels(number.stream)?);
                    let code = u32::try_from(batch.streams.len() - 1).unwrap_or(u32::MAX);
                    codes.insert(number.stream, code);
                    code
                }
            };
            batch.stream.push(code);
            batch.group.push(number.group);
            batch.bucket.push(number.bucket);
            batch.count.push(match self.measure {
                Measure::Lines => number.amount.entries,
                Measure::Bytes => number.amount.bytes,
            });
        }
        Ok(batch)
    }

    /// All that there is of each stream, in label order.
    pub(crate) fn by_stream(mut self) -> Result<Vec<(Labels, Amount)>> {
        let (mut sums, mut place) = (Vec::new(), 0);
        while let Some(filled) = self.fill() {
            filled?;
            if place != self.place {
                place = self.place;
                add_up(&mut sums);
            }
            let mut numbers = self.take_numbers();
            numbers.sort_unstable_by_key(|number| number.stream);
            let codes: RoaringBitmap = numbers.iter().map(|number| number.stream).collect();
            let Some(open) = self.units.scan.place(self.place) else {
                continue;
            };
            let of_streams = numbers.chunk_by(|a, b| a.stream == b.stream);
            for ((_, labels), numbers) in open.labels_of(&codes)?.into_iter().zip(of_streams) {
                let mut sum = Amount::default();
                numbers.iter().for_each(|number| sum += number.amount);
                sums.push((labels, sum));
            }
        }
        add_up(&mut sums);
        Ok(sums)
    }

    /// Counts until enough was done or another place comes; `None` when nothing is left.
    fn fill(&mut self) -> Option<Result<()>> {
        let units = Arc::clone(&self.units);
        let scan = &*units.scan;
        let (mut chunks, mut headers) = (0, 0);
        while chunks < CHUNKS_MAX && headers < HEADERS_MAX && self.numbers.len() < HELD_MAX {
            if let Some(error) = scan.take_error() {
                return Some(Err(error));
            }
            let Some((place, chunk)) = self.taken.take().or_else(|| units.take()) else {
                if let Some(error) = scan.take_error() {
                    return Some(Err(error));
                }
                if self.numbers.is_empty() {
                    return None;
                }
                break;
            };
            if place != self.place && !self.numbers.is_empty() {
                self.taken = Some((place, chunk));
                break;
            }
            self.place = place;
            match self.count(scan, place, chunk) {
                Ok(true) => headers += 1,
                Ok(false) => chunks += 1,
                Err(error) => return Some(Err(error)),
            }
        }
        Some(Ok(()))
    }
}

/// Sorts by stream and leaves one sum of each. What is sorted already, as that of a block is, is
/// only merged.
fn add_up(sums: &mut Vec<(Labels, Amount)>) {
    sums.sort_by(|(a, _), (b, _)| a.cmp(b));
    sums.dedup_by(|(other, amount), (labels, sum)| {
        let same = other == labels;
        if same {
            *sum += *amount;
        }
        same
    });
}

/// The number of a group; a new one gets the next.
fn number_of(groups: &mut Vec<Labels>, codes: &mut HashMap<Labels, u32>, group: Labels) -> u32 {
    *codes.entry(group).or_insert_with_key(|group| {
        groups.push(group.clone());
        u32::try_from(groups.len() - 1).unwrap_or(u32::MAX)
    })
}

impl Iterator for CountScan {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        let filled = self.fill()?;
        Some(filled.and_then(|()| self.give()).map(Batch::Counts))
    }
}
