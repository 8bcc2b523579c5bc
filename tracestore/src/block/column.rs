//! Columns of values in pages: a plain form of them.

use std::sync::{Arc, OnceLock};

use trine_storage::Result;
use trine_storage::codec::{Reader, put_bytes, put_u64, put_varint};
use trine_storage::sealed::{PageRef, SealedFile, SealedWriter};

use super::values::{Texts, Type, ValueRef, Values};

#[derive(Debug, Clone, Default)]
pub(crate) struct ColumnMeta {
    pages: Vec<(PageRef, u32)>,
    values: u64,
    raw_bytes: u64,
}

impl ColumnMeta {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.values);
        put_varint(out, self.raw_bytes);
        put_varint(out, self.pages.len() as u64);
        for (page, count) in &self.pages {
            page.put(out);
            put_varint(out, (*count).into());
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self> {
        let values = reader.varint()?;
        let raw_bytes = reader.varint()?;
        let count = reader.count(17)?;
        let mut pages = Vec::with_capacity(count);
        for _ in 0..count {
            let page = PageRef::read(reader)?;
            pages.push((page, reader.varint()? as u32));
        }
        Ok(Self {
            pages,
            values,
            raw_bytes,
        })
    }

    pub(crate) fn values(&self) -> u64 {
        self.values
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.pages.iter().map(|(page, _)| u64::from(page.len)).sum()
    }

    pub(crate) fn raw_bytes(&self) -> u64 {
        self.raw_bytes
    }
}

pub(crate) fn write(
    sink: &mut SealedWriter,
    _kind: Type,
    values: &Values,
    page_ends: &[u32],
) -> Result<ColumnMeta> {
    let mut meta = ColumnMeta {
        values: values.len() as u64,
        ..ColumnMeta::default()
    };
    let mut start = 0usize;
    for &end in page_ends {
        let end = end as usize;
        let mut raw = Vec::new();
        match values {
            Values::Numbers(numbers) => numbers[start..end]
                .iter()
                .for_each(|n| put_u64(&mut raw, *n)),
            Values::Coded { codes, dictionary } => codes[start..end]
                .iter()
                .for_each(|code| put_bytes(&mut raw, dictionary.get(*code as usize))),
            Values::Plain(texts) => (start..end).for_each(|at| put_bytes(&mut raw, texts.get(at))),
        }
        meta.raw_bytes += raw.len() as u64;
        let page = sink.page(&raw)?;
        meta.pages.push((page, (end - start) as u32));
        start = end;
    }
    Ok(meta)
}

#[derive(Debug)]
pub(crate) struct ColumnReader {
    file: SealedFile,
    kind: Type,
    meta: Arc<ColumnMeta>,
    _dictionary: OnceLock<()>,
}

/// A test of single values.
pub(crate) type Passes = Arc<dyn Fn(ValueRef<'_>) -> bool + Send + Sync>;

pub(crate) enum Probe<'a> {
    Equal(&'a [ValueRef<'a>]),
    Range { least: u64, greatest: u64 },
    Where(Passes),
}

pub(crate) enum Prepared {
    Nothing,
    Everything,
    Where(Passes),
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Prepared")
    }
}

#[derive(Debug, Default)]
pub(crate) struct Dictionary {
    texts: Texts,
    numbers: Vec<u64>,
    counts: Vec<u32>,
    kind: Option<Type>,
}

impl Dictionary {
    pub(crate) fn len(&self) -> usize {
        self.counts.len()
    }

    pub(crate) fn count(&self, code: u32) -> u32 {
        self.counts[code as usize]
    }

    pub(crate) fn read<'s>(&self, code: u32, scratch: &'s mut Vec<u8>) -> Result<ValueRef<'s>> {
        scratch.clear();
        Ok(match self.kind {
            Some(Type::Str) => {
                scratch.extend_from_slice(self.texts.get(code as usize));
                ValueRef::Str(std::str::from_utf8(scratch).unwrap_or_default())
            }
            Some(Type::Array | Type::Other) | None => {
                scratch.extend_from_slice(self.texts.get(code as usize));
                ValueRef::Bytes(scratch)
            }
            Some(kind) => of_bits(kind, self.numbers[code as usize]),
        })
    }
}

fn of_bits(kind: Type, bits: u64) -> ValueRef<'static> {
    match kind {
        Type::Float => ValueRef::Float(f64::from_bits(bits)),
        Type::Bool => ValueRef::Bool(bits != 0),
        _ => ValueRef::Int(bits.cast_signed()),
    }
}

pub(crate) fn ordered(kind: Type, bits: u64) -> u64 {
    const SIGN: u64 = 1 << 63;
    match kind {
        Type::Int => bits ^ SIGN,
        Type::Float if bits & SIGN != 0 => !bits,
        Type::Float => bits | SIGN,
        _ => bits,
    }
}

impl ColumnReader {
    /// Every second column has one here.
    pub(crate) fn dictionary(&self) -> Result<Option<Arc<Dictionary>>> {
        if self.meta.values % 2 == 0 {
            return Ok(None);
        }
        let mut dictionary = Dictionary {
            kind: Some(self.kind),
            ..Dictionary::default()
        };
        match self.read_all()? {
            Values::Numbers(mut all) => {
                all.sort_unstable_by_key(|bits| ordered(self.kind, *bits));
                for run in all.chunk_by(|a, b| a == b) {
                    dictionary.numbers.push(run[0]);
                    dictionary.counts.push(run.len() as u32);
                }
            }
            Values::Plain(all) => {
                let mut all: Vec<&[u8]> = all.iter().collect();
                all.sort_unstable();
                for run in all.chunk_by(|a, b| a == b) {
                    dictionary.texts.push(run[0]);
                    dictionary.counts.push(run.len() as u32);
                }
            }
            Values::Coded { .. } => {}
        }
        Ok(Some(Arc::new(dictionary)))
    }

    pub(crate) fn codes(&self, page: usize, out: &mut Vec<u32>) -> Result<()> {
        let dictionary = self.dictionary()?.unwrap_or_default();
        let mut numbers = Vec::new();
        let mut texts = Texts::default();
        if matches!(self.kind, Type::Str | Type::Array | Type::Other) {
            self.texts(page, None, &mut texts)?;
            let all: Vec<&[u8]> = dictionary.texts.iter().collect();
            out.extend(texts.iter().map(|t| all.binary_search(&t).unwrap() as u32));
        } else {
            self.numbers(page, &mut numbers)?;
            let place = |n| dictionary.numbers.iter().position(|m| m == n);
            out.extend(numbers.iter().map(|n| place(n).unwrap() as u32));
        }
        Ok(())
    }

    pub(crate) fn prepare(&self, probe: &Probe<'_>) -> Result<Prepared> {
        if self.meta.values == 0 {
            return Ok(Prepared::Nothing);
        }
        Ok(match probe {
            Probe::Equal([]) => Prepared::Nothing,
            Probe::Range { least, greatest } if least > greatest => Prepared::Nothing,
            Probe::Where(passes) => Prepared::Where(Arc::clone(passes)),
            Probe::Range { least, greatest } => {
                let (least, greatest, kind) = (*least, *greatest, self.kind);
                Prepared::Where(Arc::new(move |value| {
                    let bits = match value {
                        ValueRef::Int(number) => number.cast_unsigned(),
                        ValueRef::Float(number) => number.to_bits(),
                        _ => return false,
                    };
                    (least..=greatest).contains(&ordered(kind, bits))
                }))
            }
            Probe::Equal(values) => {
                let texts: Vec<Vec<u8>> = values
                    .iter()
                    .filter_map(|value| match value {
                        ValueRef::Str(text) => Some(text.as_bytes().to_vec()),
                        ValueRef::Bytes(bytes) => Some(bytes.to_vec()),
                        _ => None,
                    })
                    .collect();
                let numbers: Vec<ValueRef<'static>> = values
                    .iter()
                    .filter_map(|value| match value {
                        ValueRef::Int(number) => Some(ValueRef::Int(*number)),
                        ValueRef::Float(number) => Some(ValueRef::Float(*number)),
                        ValueRef::Bool(truth) => Some(ValueRef::Bool(*truth)),
                        _ => None,
                    })
                    .collect();
                Prepared::Where(Arc::new(move |value| match value {
                    ValueRef::Str(text) => texts.iter().any(|t| t == text.as_bytes()),
                    ValueRef::Bytes(bytes) => texts.iter().any(|t| t == bytes),
                    value => numbers.iter().any(|n| *n == value),
                }))
            }
        })
    }

    pub(crate) fn search(
        &self,
        page: usize,
        prepared: &Prepared,
        out: &mut Vec<u32>,
    ) -> Result<()> {
        let mut at = 0;
        self.each_of(page, &mut |value| {
            let passes = match prepared {
                Prepared::Nothing => false,
                Prepared::Everything => true,
                Prepared::Where(passes) => passes(value),
            };
            if passes {
                out.push(at);
            }
            at += 1;
            true
        })
        .map(|_| ())
    }

    fn each_of(&self, page: usize, each: &mut dyn FnMut(ValueRef<'_>) -> bool) -> Result<bool> {
        if page >= self.meta.pages.len() {
            return Ok(true);
        }
        if matches!(self.kind, Type::Str | Type::Array | Type::Other) {
            let mut texts = Texts::default();
            self.texts(page, None, &mut texts)?;
            return Ok(texts.iter().all(|text| match self.kind {
                Type::Str => each(ValueRef::Str(std::str::from_utf8(text).unwrap_or_default())),
                _ => each(ValueRef::Bytes(text)),
            }));
        }
        let mut numbers = Vec::new();
        self.numbers(page, &mut numbers)?;
        Ok(numbers.iter().all(|bits| each(of_bits(self.kind, *bits))))
    }

    pub(crate) fn distinct(&self, each: &mut dyn FnMut(ValueRef<'_>, u64) -> bool) -> Result<()> {
        if let Some(dictionary) = self.dictionary()? {
            let mut scratch = Vec::new();
            for code in 0..dictionary.len() as u32 {
                if !each(
                    dictionary.read(code, &mut scratch)?,
                    dictionary.count(code).into(),
                ) {
                    break;
                }
            }
            return Ok(());
        }
        for page in 0..self.meta.pages.len() {
            if !self.each_of(page, &mut |value| each(value, 1))? {
                break;
            }
        }
        Ok(())
    }

    pub(crate) fn new(file: &SealedFile, kind: Type, meta: Arc<ColumnMeta>) -> Self {
        Self {
            file: file.clone(),
            kind,
            meta,
            _dictionary: OnceLock::new(),
        }
    }

    pub(crate) fn kind(&self) -> Type {
        self.kind
    }

    pub(crate) fn meta(&self) -> &ColumnMeta {
        &self.meta
    }

    fn page(&self, page: usize) -> Result<(bytes::Bytes, u32)> {
        let (page, count) = self.meta.pages[page];
        Ok((self.file.read(&[page])?.pop().unwrap_or_default(), count))
    }

    pub(crate) fn pages(&self) -> usize {
        self.meta.pages.len()
    }

    pub(crate) fn may_have(&self, _page: usize, _least: u64, _greatest: u64) -> bool {
        true
    }

    pub(crate) fn number_at(&self, page: usize, at: usize) -> Result<u64> {
        let mut all = Vec::new();
        self.numbers(page, &mut all)?;
        Ok(all[at])
    }

    pub(crate) fn numbers_in(
        &self,
        page: usize,
        at: std::ops::Range<usize>,
        out: &mut Vec<u64>,
    ) -> Result<()> {
        if at.is_empty() {
            return Ok(());
        }
        let mut all = Vec::new();
        self.numbers(page, &mut all)?;
        out.extend_from_slice(&all[at]);
        Ok(())
    }

    pub(crate) fn numbers(&self, page: usize, out: &mut Vec<u64>) -> Result<()> {
        let (bytes, count) = self.page(page)?;
        let mut reader = Reader::new("column", &bytes);
        for _ in 0..count {
            out.push(reader.u64()?);
        }
        Ok(())
    }

    pub(crate) fn texts(
        &self,
        page: usize,
        positions: Option<&[u32]>,
        out: &mut Texts,
    ) -> Result<()> {
        if page >= self.meta.pages.len() {
            return Ok(());
        }
        let (bytes, count) = self.page(page)?;
        let mut reader = Reader::new("column", &bytes);
        for at in 0..count {
            let text = reader.bytes()?;
            if positions.is_none_or(|wanted| wanted.binary_search(&at).is_ok()) {
                out.push(text);
            }
        }
        Ok(())
    }

    pub(crate) fn read_all(&self) -> Result<Values> {
        let is_text = matches!(self.kind, Type::Str | Type::Array | Type::Other);
        if is_text {
            let mut texts = Texts::default();
            (0..self.meta.pages.len()).try_for_each(|page| self.texts(page, None, &mut texts))?;
            Ok(Values::Plain(texts))
        } else {
            let mut numbers = Vec::new();
            (0..self.meta.pages.len()).try_for_each(|page| self.numbers(page, &mut numbers))?;
            Ok(Values::Numbers(numbers))
        }
    }
}
