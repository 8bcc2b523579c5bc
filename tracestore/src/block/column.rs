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

pub(crate) enum Probe<'a> {
    Equal(&'a [ValueRef<'a>]),
    Where(&'a dyn Fn(ValueRef<'_>) -> bool),
}

impl ColumnReader {
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
