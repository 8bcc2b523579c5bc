//! Reads a column of a sealed file. Nothing is read before it is asked for; a dictionary is kept
//! once it is, and so is the page that was read last.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use trine_storage::sealed::{PageRef, SealedFile};
use trine_storage::{Error, Result};

use super::super::blob::BlobPage;
use super::super::dictionary::Dictionary;
use super::super::filter;
use super::super::numbers::{Bounds, NumberPage, Wanted, ordered, unordered};
use super::super::presence;
use super::super::template::{Needle, Numbered, TemplatePage, Templates, split};
use super::super::values::{Texts, Type, ValueRef, Values};
use super::{ColumnMeta, Encoding, PAGE_NUMBERS_MAX, PageMeta, Prepared, Probe, Stored, load};

/// Texts are read one by one from a dictionary that has so many times more entries; else all of it
/// is decoded.
const FEW: usize = 32;

/// A column that is read.
#[derive(Debug)]
pub(crate) struct ColumnReader {
    file: SealedFile,
    kind: Type,
    meta: Arc<ColumnMeta>,
    dictionary: OnceLock<Arc<Dictionary>>,
    templates: OnceLock<Templates>,
    filter: OnceLock<Bytes>,
    /// Offset and bytes.
    last: Mutex<Option<(u64, Bytes)>>,
}

impl ColumnReader {
    /// A reader of a column; reads nothing.
    pub(crate) fn new(file: &SealedFile, kind: Type, meta: Arc<ColumnMeta>) -> Self {
        Self {
            file: file.clone(),
            kind,
            meta,
            dictionary: OnceLock::new(),
            templates: OnceLock::new(),
            filter: OnceLock::new(),
            last: Mutex::new(None),
        }
    }

    /// What the directory says of the column.
    pub(crate) fn meta(&self) -> &ColumnMeta {
        &self.meta
    }

    /// The type of the values.
    pub(crate) fn kind(&self) -> Type {
        self.kind
    }

    /// Appends where some pages lie, and what it takes to read their values, unless that is known.
    pub(crate) fn places(&self, pages: Range<usize>, out: &mut Vec<PageRef>) {
        let before = out.len();
        for page in pages {
            let meta = u32::try_from(page)
                .ok()
                .and_then(|page| self.meta.page(page));
            out.extend(meta.map(|meta| meta.place).filter(|place| place.len > 0));
        }
        if out.len() > before {
            self.stored(out);
        }
    }

    /// Appends where that lies which all pages have in common, unless it is known.
    pub(crate) fn stored(&self, out: &mut Vec<PageRef>) {
        let stored = match &self.meta.encoding {
            Encoding::Dictionary { stored, .. } if self.dictionary.get().is_none() => stored,
            Encoding::Templates { stored, .. } if self.templates.get().is_none() => stored,
            _ => return,
        };
        if let Stored::Page(place) = stored {
            out.push(*place);
        }
    }

    /// The dictionary, when the column has one.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) when the column is damaged and
    /// [`Kind::Io`](trine_storage::Kind::Io); so for all methods.
    pub(crate) fn dictionary(&self) -> Result<Option<Arc<Dictionary>>> {
        let Encoding::Dictionary { entries, stored } = &self.meta.encoding else {
            return Ok(None);
        };
        if let Some(dictionary) = self.dictionary.get() {
            return Ok(Some(Arc::clone(dictionary)));
        }
        let dictionary = Dictionary::open(
            self.file.name(),
            stored.offset(),
            self.kind,
            *entries as usize,
            &stored.load(&self.file)?,
        )?;
        let kept = self.dictionary.get_or_init(|| Arc::new(dictionary));
        Ok(Some(Arc::clone(kept)))
    }

    /// The templates, decoded once.
    fn templates(&self) -> Result<&Templates> {
        if let Some(templates) = self.templates.get() {
            return Ok(templates);
        }
        let Encoding::Templates {
            entries, stored, ..
        } = &self.meta.encoding
        else {
            return Err(self.misused("templates of a column without them"));
        };
        let bytes = stored.load(&self.file)?;
        let templates = Templates::open(self.file.name(), &bytes, *entries as usize)?;
        Ok(self.templates.get_or_init(|| templates))
    }

    /// Whether a value may be in the column, by its filter.
    fn may_contain(&self, value: &[u8]) -> Result<bool> {
        let (Encoding::Templates { filter, .. } | Encoding::Blobs { filter }) = &self.meta.encoding
        else {
            return Ok(true);
        };
        let bytes = match self.filter.get() {
            Some(bytes) => bytes,
            None => {
                let bytes = filter.load(&self.file)?;
                self.filter.get_or_init(|| bytes)
            }
        };
        Ok(filter::may_contain(bytes, filter::hash(value)))
    }

    /// Appends the codes of a page of a column that has a dictionary. All are in it.
    pub(crate) fn codes(&self, page: u32, out: &mut Vec<u32>) -> Result<()> {
        let Some(meta) = self.meta.page(page) else {
            return Ok(());
        };
        if !matches!(self.meta.encoding, Encoding::Dictionary { .. }) {
            return Err(self.misused("codes of a column without a dictionary"));
        }
        let bytes = self.bytes(meta)?;
        let page = self.number_page(meta, &bytes)?;
        page.codes(self.file.name(), meta.place.offset, out)
    }

    /// Appends the numbers of a page, as bits.
    pub(crate) fn numbers(&self, page: u32, out: &mut Vec<u64>) -> Result<()> {
        let Some(meta) = self.meta.page(page) else {
            return Ok(());
        };
        if !self.kind.is_number() || meta.count > PAGE_NUMBERS_MAX {
            return Err(self.misused("numbers of a column that has none, or too many"));
        }
        let bytes = self.bytes(meta)?;
        let page = self.number_page(meta, &bytes)?;
        match self.dictionary()? {
            None => page.decode(out, |number| unordered(self.kind, number)),
            Some(dictionary) => {
                let all = dictionary.numbers();
                page.decode(out, |code| {
                    let place = usize::try_from(code).unwrap_or(usize::MAX);
                    all.get(place).copied().unwrap_or(0)
                });
            }
        }
        Ok(())
    }

    /// Whether a page may have numbers from `least` to `greatest`, both as
    /// [`ordered`] makes them. Reads nothing.
    pub(crate) fn may_have(&self, page: u32, least: u64, greatest: u64) -> bool {
        let range = Wanted::Range(Bounds { least, greatest });
        match self.meta.encoding {
            Encoding::Numbers => self.meta.page(page).is_some_and(|m| range.meets(m.bounds)),
            _ => self.meta.page(page).is_some(),
        }
    }

    /// The least and the greatest number of a page of signed numbers, as far as the directory tells.
    pub(crate) fn bounds(&self, page: u32) -> Option<(i64, i64)> {
        let page = match (&self.meta.encoding, self.kind) {
            (Encoding::Numbers, Type::Int) => self.meta.page(page)?,
            _ => return None,
        };
        let told = |number| unordered(Type::Int, number).cast_signed();
        Some((told(page.bounds.least), told(page.bounds.greatest)))
    }

    /// Appends the rows that a page of a column of rows has in `wanted`, of a page of the table that
    /// has so many; gives how many it has before.
    pub(crate) fn rows(
        &self,
        page: u32,
        of: u32,
        wanted: Range<u32>,
        out: &mut Vec<u32>,
    ) -> Result<u32> {
        let Some(meta) = self.meta.page(page) else {
            return Ok(0);
        };
        if !matches!(self.meta.encoding, Encoding::Rows) {
            return Err(self.misused("rows of a column that has none"));
        }
        let bytes = self.bytes(meta)?;
        let at = (self.file.name(), meta.place.offset);
        presence::each(at, &bytes, (meta.count, of), wanted, |row| out.push(row))
    }

    /// How many values a page has. Reads nothing.
    pub(crate) fn count(&self, page: u32) -> u32 {
        self.meta.page(page).map_or(0, |meta| meta.count)
    }

    /// The number at a position of a page, as bits.
    pub(crate) fn number_at(&self, page: u32, position: u32) -> Result<u64> {
        let mut number = None;
        let one = position..position.saturating_add(1);
        self.each_number(page, one, |bits| number = Some(bits))?;
        number.ok_or_else(|| self.misused("a position that the page does not have"))
    }

    /// Appends the numbers at some positions of a page, as bits.
    pub(crate) fn numbers_in(
        &self,
        page: u32,
        positions: Range<u32>,
        out: &mut Vec<u64>,
    ) -> Result<()> {
        let count = self.count(page);
        if positions.len() * FEW < count as usize || positions.end > count {
            return self.each_number(page, positions, |bits| out.push(bits));
        }
        let at = out.len();
        self.numbers(page, out)?;
        out.truncate(at + positions.end as usize);
        out.drain(at..at + positions.start as usize);
        Ok(())
    }

    fn each_number(
        &self,
        page: u32,
        positions: Range<u32>,
        mut take: impl FnMut(u64),
    ) -> Result<()> {
        if positions.is_empty() {
            return Ok(());
        }
        let meta = self.meta.page(page);
        let meta = meta.filter(|meta| positions.end <= meta.count);
        let Some(meta) = meta.filter(|_| self.kind.is_number()) else {
            return Err(self.misused("numbers that the page does not have"));
        };
        let bytes = self.bytes(meta)?;
        let numbers = self.number_page(meta, &bytes)?;
        let dictionary = self.dictionary()?;
        for position in positions {
            let number = numbers.get(position as usize);
            let number = match &dictionary {
                None => number,
                Some(dictionary) => dictionary.ordered(self.code(&numbers, position)? as usize),
            };
            take(unordered(self.kind, number));
        }
        Ok(())
    }

    /// Appends the texts (or bytes) of a page at some positions, which ascend; all without.
    pub(crate) fn texts(
        &self,
        page: u32,
        positions: Option<&[u32]>,
        out: &mut Texts,
    ) -> Result<()> {
        let Some(meta) = self.meta.page(page) else {
            return Ok(());
        };
        self.check_positions(meta, positions)?;
        let bytes = self.bytes(meta)?;
        match &self.meta.encoding {
            Encoding::Numbers | Encoding::Rows => Err(self.misused("texts of a column of numbers")),
            Encoding::Blobs { .. } => self.blob_page(meta, &bytes)?.texts(positions, out),
            Encoding::Templates { .. } => {
                self.template_page(meta, &bytes)?
                    .each(positions, |_, write| {
                        out.push_with(write);
                        true
                    })
            }
            Encoding::Dictionary { .. } => {
                let page = self.number_page(meta, &bytes)?;
                self.texts_of_codes(&page, positions, out)
            }
        }
    }

    fn texts_of_codes(
        &self,
        page: &NumberPage<'_>,
        positions: Option<&[u32]>,
        out: &mut Texts,
    ) -> Result<()> {
        let Some(dictionary) = self.dictionary()? else {
            return Ok(());
        };
        match positions {
            Some(few) if !dictionary.has_texts() && few.len() * FEW < dictionary.len() => {
                let mut scratch = Vec::new();
                let mut last = None;
                for &position in few {
                    let code = self.code(page, position)?;
                    if last != Some(code) {
                        dictionary.read(code, &mut scratch)?;
                        last = Some(code);
                    }
                    out.push(&scratch);
                }
            }
            Some(some) => {
                let texts = dictionary.texts()?;
                for &position in some {
                    out.push(texts.get(self.code(page, position)? as usize));
                }
            }
            None => {
                let texts = dictionary.texts()?;
                let mut codes = Vec::with_capacity(page.len());
                page.codes(self.file.name(), 0, &mut codes)?;
                codes
                    .iter()
                    .for_each(|&code| out.push(texts.get(code as usize)));
            }
        }
        Ok(())
    }

    /// The code at a position, which is in the dictionary.
    fn code(&self, page: &NumberPage<'_>, position: u32) -> Result<u32> {
        let code = page.get(position as usize);
        let known = u32::try_from(code).ok();
        let known = known.filter(|code| self.meta.distinct().is_some_and(|of| *code < of));
        known.ok_or_else(|| {
            let name = self.file.name();
            Error::corrupt(name, 0, "a code is larger than it can be")
        })
    }

    /// Makes a probe ready: looks values up in the dictionary and tests its entries once.
    pub(crate) fn prepare<'a>(&self, probe: &Probe<'a>) -> Result<Prepared<'a>> {
        if self.meta.pages.is_empty() {
            return Ok(Prepared::Nothing);
        }
        if let Some(dictionary) = self.dictionary()? {
            return self.prepare_codes(&dictionary, probe);
        }
        let wanted = match probe {
            Probe::Where(test) => return Ok(Prepared::Where(*test)),
            Probe::Equal(values) if self.kind.is_number() => Wanted::any(
                values
                    .iter()
                    .flat_map(|value| self.equals(*value))
                    .collect(),
            ),
            Probe::Equal(values) => return self.prepare_texts(values),
            Probe::Range { least, greatest } => self.range(*least, *greatest),
        };
        Ok(match wanted {
            None => Prepared::Nothing,
            Some(wanted) => {
                let mut pages = self.meta.pages.iter();
                if pages.clone().all(|page| wanted.covers(page.bounds)) {
                    Prepared::Everything
                } else if !pages.any(|page| wanted.meets(page.bounds)) {
                    Prepared::Nothing
                } else {
                    Prepared::Wanted(wanted)
                }
            }
        })
    }

    fn prepare_texts<'a>(&self, values: &[ValueRef<'_>]) -> Result<Prepared<'a>> {
        let mut texts: Vec<Vec<u8>> = Vec::new();
        for value in values {
            if let Some(text) = value.bytes()
                && self.kind.is_of(*value)
                && self.may_contain(text)?
            {
                texts.push(text.to_vec());
            }
        }
        texts.sort_unstable();
        texts.dedup();
        if !matches!(self.meta.encoding, Encoding::Templates { .. }) || texts.is_empty() {
            return Ok(match texts.is_empty() {
                true => Prepared::Nothing,
                false => Prepared::Texts(texts),
            });
        }
        let templates = self.templates()?;
        let mut needles = Vec::new();
        let mut template = Vec::new();
        for text in texts {
            let mut slots = Vec::new();
            template.clear();
            split(&text, &mut template, &mut slots);
            if let Some(code) = templates.find(&template) {
                needles.push(Needle { code, slots });
            }
        }
        Ok(match needles.is_empty() {
            true => Prepared::Nothing,
            false => Prepared::Needles(needles),
        })
    }

    fn range(&self, least: u64, greatest: u64) -> Option<Wanted> {
        let some = self.kind.is_number() && least <= greatest;
        some.then_some(Wanted::Range(Bounds { least, greatest }))
    }

    /// The ordered numbers that equal a value of the type of this column.
    fn equals(&self, value: ValueRef<'_>) -> Vec<u64> {
        if !self.kind.is_of(value) {
            return Vec::new();
        }
        match (value, value.bits()) {
            (ValueRef::Float(number), _) if number.is_nan() => Vec::new(),
            (ValueRef::Float(0.0), _) => [-0.0, 0.0]
                .map(|zero: f64| ordered(Type::Float, zero.to_bits()))
                .to_vec(),
            (_, Some(bits)) => vec![ordered(self.kind, bits)],
            _ => Vec::new(),
        }
    }

    fn prepare_codes<'a>(
        &self,
        dictionary: &Dictionary,
        probe: &Probe<'_>,
    ) -> Result<Prepared<'a>> {
        let mut codes: Vec<u64> = Vec::new();
        match probe {
            Probe::Equal(values) if self.kind.is_number() => {
                for number in values.iter().flat_map(|value| self.equals(*value)) {
                    let bits = unordered(self.kind, number);
                    let value = ValueRef::of_bits(self.kind, bits);
                    codes.extend(dictionary.find(value)?.map(u64::from));
                }
            }
            Probe::Equal(values) => {
                for value in *values {
                    codes.extend(dictionary.find(*value)?.map(u64::from));
                }
                codes.sort_unstable();
            }
            Probe::Range { least, greatest } => {
                if self.range(*least, *greatest).is_some() {
                    let from = dictionary.lower_bound_number(*least).into();
                    let to = match greatest.checked_add(1) {
                        Some(above) => dictionary.lower_bound_number(above).into(),
                        None => dictionary.len() as u64,
                    };
                    if to > from {
                        return Ok(self.wanted(Wanted::Range(Bounds {
                            least: from,
                            greatest: to - 1,
                        })));
                    }
                }
            }
            Probe::Where(test) => dictionary.each(0, &mut |code, value| {
                if test(value) {
                    codes.push(code.into());
                }
                true
            })?,
        }
        let of = self.meta.distinct().unwrap_or(0);
        Ok(Wanted::codes(codes, of).map_or(Prepared::Nothing, |wanted| self.wanted(wanted)))
    }

    fn wanted<'a>(&self, wanted: Wanted) -> Prepared<'a> {
        let all = Bounds {
            least: 0,
            greatest: u64::from(self.meta.distinct().unwrap_or(0)).saturating_sub(1),
        };
        match wanted.covers(all) {
            true => Prepared::Everything,
            false => Prepared::Wanted(wanted),
        }
    }

    /// Appends the positions of a page whose values match, ascending.
    pub(crate) fn search(
        &self,
        page: u32,
        prepared: &Prepared<'_>,
        out: &mut Vec<u32>,
    ) -> Result<()> {
        let Some(meta) = self.meta.page(page) else {
            return Ok(());
        };
        match prepared {
            Prepared::Nothing => Ok(()),
            Prepared::Everything => {
                out.extend(0..meta.count);
                Ok(())
            }
            Prepared::Wanted(wanted) => {
                if wanted.covers(meta.bounds) {
                    out.extend(0..meta.count);
                } else if wanted.meets(meta.bounds) {
                    let bytes = self.bytes(meta)?;
                    self.number_page(meta, &bytes)?.search(wanted, out);
                }
                Ok(())
            }
            Prepared::Texts(needles) => {
                let bytes = self.bytes(meta)?;
                self.blob_page(meta, &bytes)?.search(needles, out)
            }
            Prepared::Needles(needles) => {
                let bytes = self.bytes(meta)?;
                self.template_page(meta, &bytes)?.search(needles, out)
            }
            Prepared::Where(test) => {
                let mut position = 0;
                self.each_of(meta, &mut |value| {
                    if test(value) {
                        out.push(position);
                    }
                    position += 1;
                    true
                })
            }
        }
    }

    /// How many values have wanted codes, when there is a dictionary and few codes are wanted.
    pub(crate) fn matching(&self, wanted: &Wanted) -> Result<Option<u64>> {
        const CODES_MAX: u64 = 64;
        let Some(dictionary) = self.dictionary()? else {
            return Ok(None);
        };
        let count = |code: u64| {
            let code = u32::try_from(code).ok();
            code.map_or(0, |code| u64::from(dictionary.count(code)))
        };
        Ok(match wanted {
            Wanted::Range(range) if range.greatest - range.least < CODES_MAX => {
                Some((range.least..=range.greatest).map(count).sum())
            }
            Wanted::Any(codes) if codes.len() as u64 <= CODES_MAX => {
                Some(codes.iter().copied().map(count).sum())
            }
            _ => None,
        })
    }

    /// Whether a page may have wanted numbers or codes. Reads nothing.
    pub(crate) fn may_have_wanted(&self, page: u32, wanted: &Wanted) -> bool {
        self.meta.page(page).is_some_and(|m| wanted.meets(m.bounds))
    }

    /// Appends those of some positions of a page whose numbers or codes match, without looking at the
    /// others.
    pub(crate) fn search_among(
        &self,
        page: u32,
        wanted: &Wanted,
        positions: &[u32],
        out: &mut Vec<u32>,
    ) -> Result<()> {
        let Some(meta) = self.meta.page(page) else {
            return Ok(());
        };
        self.check_positions(meta, Some(positions))?;
        if wanted.covers(meta.bounds) {
            out.extend_from_slice(positions);
        } else {
            let bytes = self.bytes(meta)?;
            let numbers = self.number_page(meta, &bytes)?;
            numbers.search_among(wanted, positions, out);
        }
        Ok(())
    }

    /// Hands over the distinct values with how often each occurs until `each` says no. In the order
    /// of the dictionary; a column without one hands over values in row order, each with 1, so that
    /// nobody has to keep them all: whoever wants them distinct adds up. Only those of a few templates
    /// with one number each, of which no more can be distinct than numbers, are counted first.
    pub(crate) fn distinct(&self, each: &mut dyn FnMut(ValueRef<'_>, u64) -> bool) -> Result<()> {
        let mut numbered = Numbered::default();
        if self.distinct_beside(&mut numbered, usize::MAX, each)? {
            numbered.drain(each);
        }
        Ok(())
    }

    /// As [`Self::distinct`], but for values that are left in `numbered` until it has `most`: those of
    /// several columns add up there. Whether `each` never said no.
    pub(crate) fn distinct_beside(
        &self,
        numbered: &mut Numbered,
        most: usize,
        each: &mut dyn FnMut(ValueRef<'_>, u64) -> bool,
    ) -> Result<bool> {
        let mut more = true;
        if let Some(dictionary) = self.dictionary()? {
            dictionary.each(0, &mut |code, value| {
                more = each(value, dictionary.count(code).into());
                more
            })?;
            return Ok(more);
        }
        let places = match (&self.meta.encoding, self.kind) {
            (Encoding::Templates { .. }, Type::Str) => numbered.places(self.templates()?),
            _ => None,
        };
        for meta in &self.meta.pages {
            if let Some(places) = &places {
                let bytes = self.bytes(meta)?;
                if self.template_page(meta, &bytes)?.count(places, numbered)? {
                    if numbered.len() >= most && !numbered.drain(each) {
                        return Ok(false);
                    }
                    continue;
                }
            }
            self.each_of(meta, &mut |value| {
                more = each(value, 1);
                more
            })?;
            if !more {
                break;
            }
        }
        Ok(more)
    }

    /// All values, for merges. Numbers come as such, other columns with a dictionary coded.
    pub(crate) fn read_all(&self) -> Result<Values> {
        let pages = || self.meta.pages.iter().map(|page| page.page);
        let values = usize::try_from(self.meta.values()).unwrap_or(usize::MAX);
        if self.kind.is_number() {
            let mut numbers = Vec::new();
            for page in pages() {
                self.numbers(page, &mut numbers)?;
            }
            return Ok(Values::Numbers(numbers));
        }
        if let Some(dictionary) = self.dictionary()? {
            let mut codes = Vec::new();
            for page in pages() {
                self.codes(page, &mut codes)?;
            }
            let dictionary = dictionary.texts()?.clone();
            return Ok(Values::Coded { codes, dictionary });
        }
        let mut texts = Texts::with_capacity(values.min(1 << 16), 0);
        for page in pages() {
            self.texts(page, None, &mut texts)?;
        }
        Ok(Values::Plain(texts))
    }

    /// Hands over the values of a page in order until `take` says no.
    fn each_of(&self, meta: &PageMeta, take: &mut dyn FnMut(ValueRef<'_>) -> bool) -> Result<()> {
        if self.kind.is_number() {
            let mut numbers = Vec::with_capacity(meta.count.min(1 << 16) as usize);
            self.numbers(meta.page, &mut numbers)?;
            for bits in numbers {
                if !take(ValueRef::of_bits(self.kind, bits)) {
                    break;
                }
            }
            return Ok(());
        }
        let mut failed = None;
        let mut take = |text: &[u8]| match self.value(meta, text) {
            Ok(value) => take(value),
            Err(error) => {
                failed = Some(error);
                false
            }
        };
        if matches!(self.meta.encoding, Encoding::Templates { .. }) {
            let bytes = self.bytes(meta)?;
            let mut text = Vec::new();
            self.template_page(meta, &bytes)?.each(None, |_, write| {
                text.clear();
                write(&mut text);
                take(&text)
            })?;
        } else {
            let mut texts = Texts::default();
            self.texts(meta.page, None, &mut texts)?;
            let _ = texts.iter().all(take);
        }
        failed.map_or(Ok(()), Err)
    }

    fn value<'t>(&self, meta: &PageMeta, text: &'t [u8]) -> Result<ValueRef<'t>> {
        if self.kind != Type::Str {
            return Ok(ValueRef::Bytes(text));
        }
        let text = std::str::from_utf8(text).map_err(|_| {
            Error::corrupt(self.file.name(), meta.place.offset, "text is not UTF-8")
        })?;
        Ok(ValueRef::Str(text))
    }

    fn number_page<'p>(&self, meta: &PageMeta, bytes: &'p [u8]) -> Result<NumberPage<'p>> {
        let count = meta.count as usize;
        NumberPage::new(
            self.file.name(),
            meta.place.offset,
            bytes,
            count,
            meta.bounds,
        )
    }

    fn blob_page<'p>(&'p self, meta: &PageMeta, bytes: &'p [u8]) -> Result<BlobPage<'p>> {
        let count = meta.count as usize;
        BlobPage::new(self.file.name(), meta.place.offset, bytes, count)
    }

    fn template_page<'p>(&'p self, meta: &PageMeta, bytes: &'p [u8]) -> Result<TemplatePage<'p>> {
        let templates = self.templates()?;
        let place = (self.file.name(), meta.place.offset);
        TemplatePage::new(place, bytes, meta.count as usize, meta.bounds, templates)
    }

    fn bytes(&self, meta: &PageMeta) -> Result<Bytes> {
        if meta.place.len == 0 {
            return Ok(Bytes::new());
        }
        let last = self.last.lock().clone();
        if let Some((_, bytes)) = last.filter(|(at, _)| *at == meta.place.offset) {
            return Ok(bytes);
        }
        let bytes = load(&self.file, meta.place)?;
        *self.last.lock() = Some((meta.place.offset, bytes.clone()));
        Ok(bytes)
    }

    fn check_positions(&self, meta: &PageMeta, positions: Option<&[u32]>) -> Result<()> {
        let last = positions.and_then(<[u32]>::last);
        if last.is_some_and(|&last| last >= meta.count) {
            return Err(self.misused("a position that the page does not have"));
        }
        Ok(())
    }

    /// Whoever asks for what a column does not have followed something damaged.
    fn misused(&self, what: &str) -> Error {
        Error::corrupt(self.file.name(), 0, format!("somebody asks for {what}"))
    }
}
