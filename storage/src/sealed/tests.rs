use super::*;
use crate::sim::SimFs;

const KIND: [u8; 4] = *b"test";

fn write() -> (SimFs, &'static Path, Vec<PageRef>) {
    let (fs, path) = (SimFs::new(), Path::new("dir/file"));
    fs.create_dir_all(Path::new("dir")).unwrap();
    let mut writer = SealedWriter::create(&fs, path, KIND).unwrap();
    let pages = vec![
        writer.page(b"first").unwrap(),
        writer.page(&[9; 300]).unwrap(),
    ];
    writer.section(4, b"index").unwrap();
    assert_eq!(writer.finish().unwrap(), fs.open(path).unwrap().len());
    (fs, path, pages)
}

fn open(fs: &SimFs, path: &Path) -> Result<SealedFile> {
    SealedFile::open(fs.open(path).unwrap(), "file", KIND)
}

#[test]
fn pages_and_sections_come_back() {
    let (fs, path, pages) = write();
    let file = open(&fs, path).unwrap();
    assert_eq!(file.read(&pages).unwrap(), [&b"first"[..], &[9; 300]]);
    assert_eq!(file.section(4).unwrap(), &b"index"[..]);
    let missing = file.section(5).unwrap_err();
    assert_eq!(missing.kind(), Kind::Corrupt);
    file.verify().unwrap();
}

#[test]
fn a_file_of_another_kind_is_refused() {
    let (fs, path, _) = write();
    let other = SealedFile::open(fs.open(path).unwrap(), "file", *b"othr").unwrap_err();
    assert_eq!(other.kind(), Kind::Corrupt);
}

/// Every byte flipped, one at a time: `open` or `verify` notices.
#[test]
fn every_flipped_byte_is_noticed() {
    let (fs, path, _) = write();
    let len = usize::try_from(fs.open(path).unwrap().len()).unwrap();
    for offset in 0..len {
        fs.corrupt(path, offset, 0x40);
        let noticed = open(&fs, path).and_then(|file| file.verify());
        assert!(noticed.is_err(), "byte {offset} of {len}");
        fs.corrupt(path, offset, 0x40);
    }
    open(&fs, path).unwrap().verify().unwrap();
}

#[test]
fn every_cut_is_noticed() {
    let (fs, path, _) = write();
    let len = fs.open(path).unwrap().len();
    for cut in (0..len).rev() {
        fs.truncate(path, cut).unwrap();
        assert_eq!(
            open(&fs, path).unwrap_err().kind(),
            Kind::Corrupt,
            "{cut} of {len} bytes"
        );
    }
}

#[test]
fn a_page_outside_the_file_is_corrupt() {
    let (fs, path, _) = write();
    let file = open(&fs, path).unwrap();
    for offset in [1 << 40, u64::MAX] {
        let error = file
            .read(&[PageRef {
                offset,
                len: 9,
                crc: 0,
            }])
            .unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{error}");
    }
}

/// The bytes written down in FORMAT.md, "Sealed file".
#[test]
fn golden_bytes() {
    let (fs, path) = (SimFs::new(), Path::new("dir/file"));
    fs.create_dir_all(Path::new("dir")).unwrap();
    let mut writer = SealedWriter::create(&fs, path, KIND).unwrap();
    writer.section(1, b"hi").unwrap();
    let len = writer.finish().unwrap();
    let bytes = read_range(&*fs.open(path).unwrap(), "file", 0..len).unwrap();
    let mut expected = b"TRINESEA\x01\0\0\0testhi".to_vec();
    let file_crc = crc32fast::hash(&expected);
    let mut footer = b"\x01\0\0\0\x01\0\0\0\x10\0\0\0\0\0\0\0\x02\0\0\0".to_vec();
    footer.extend(crc32fast::hash(b"hi").to_le_bytes());
    expected.extend(&footer);
    expected.extend(b"\x12\0\0\0\0\0\0\0\x18\0\0\0");
    expected.extend(crc32fast::hash(&footer).to_le_bytes());
    expected.extend(file_crc.to_le_bytes());
    expected.extend(b"\x01\0\0\0TRINESEA");
    assert_eq!(bytes, expected);
}

/// A file somewhere else: the next reads fail or are wrong as told.
#[derive(Debug)]
struct Far {
    file: Arc<dyn ReadFile>,
    /// What becomes of the next reads; those after them are as they should be.
    next: parking_lot::Mutex<Vec<Fate>>,
    reads: AtomicU64,
    distrusted: AtomicU64,
    high: parking_lot::Mutex<Vec<Range<u64>>>,
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    Away,
    Wrong,
}

impl ReadFile for Far {
    fn len(&self) -> u64 {
        self.file.len()
    }

    fn read(&self, ranges: &[Range<u64>]) -> std::io::Result<Vec<Bytes>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let fate = self.next.lock().pop();
        let read = self.file.read(ranges)?;
        let flip = |bytes: Bytes| bytes.iter().map(|byte| byte ^ 1).collect();
        match fate {
            None => Ok(read),
            Some(Fate::Wrong) => Ok(read.into_iter().map(flip).collect()),
            Some(Fate::Away) => Err(std::io::Error::other(Error::new(
                Kind::Unavailable,
                "it is away",
            ))),
        }
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn prioritize(&self, ranges: &[Range<u64>]) {
        self.high.lock().extend_from_slice(ranges);
    }

    fn distrust(&self) {
        self.distrusted.fetch_add(1, Ordering::Relaxed);
    }
}

fn far() -> (Arc<Far>, SealedFile) {
    let (fs, path, _) = write();
    let far = Arc::new(Far {
        file: fs.open(path).unwrap(),
        next: parking_lot::Mutex::default(),
        reads: AtomicU64::new(0),
        distrusted: AtomicU64::new(0),
        high: parking_lot::Mutex::default(),
    });
    let file = SealedFile::deferred(Arc::<Far>::clone(&far), "far", KIND, &[4, 9]);
    (far, file)
}

#[test]
fn a_deferred_file_is_read_when_it_is_asked_for() {
    let (far, file) = far();
    assert!(file.is_remote());
    assert_eq!(far.reads.load(Ordering::Relaxed), 0);
    assert!(file.has_section(4).unwrap());
    assert_eq!(
        far.reads.load(Ordering::Relaxed),
        1,
        "one read for the head"
    );
    assert_eq!(file.section_len(4).unwrap(), Some(5));
    assert_eq!(file.section_len(9).unwrap(), None);
    assert_eq!(file.section(4).unwrap(), &b"index"[..]);
    assert_eq!(far.reads.load(Ordering::Relaxed), 2);
    let high = far.high.lock().clone();
    assert_eq!(high.len(), 1, "not the section that there is not");
    assert_eq!(high[0], 321..326);
    file.clone().verify().unwrap();
}

#[test]
fn who_is_away_is_asked_again_and_damage_is_remembered() {
    let (far, file) = far();
    far.next.lock().push(Fate::Away);
    assert_eq!(file.has_section(4).unwrap_err().kind(), Kind::Unavailable);
    assert!(file.has_section(4).unwrap());
    far.next.lock().push(Fate::Away);
    assert_eq!(file.section(4).unwrap_err().kind(), Kind::Unavailable);
    assert_eq!(file.section(4).unwrap(), &b"index"[..]);
    assert!(file.damage().is_none());

    let (far, file) = self::far();
    // Wrong and, read again, wrong again.
    far.next.lock().extend([Fate::Wrong, Fate::Wrong]);
    assert_eq!(file.has_section(4).unwrap_err().kind(), Kind::Corrupt);
    assert_eq!(file.has_section(4).unwrap_err().kind(), Kind::Corrupt);
    assert_eq!(far.reads.load(Ordering::Relaxed), 2);
    assert!(file.damage().is_some_and(|damage| damage.page.is_none()));
}

#[test]
fn what_came_wrong_from_elsewhere_is_fetched_once_more() {
    let (far, file) = far();
    far.next.lock().push(Fate::Wrong);
    assert!(file.has_section(4).unwrap());
    far.next.lock().push(Fate::Wrong);
    assert_eq!(file.section(4).unwrap(), &b"index"[..]);
    assert_eq!(far.distrusted.load(Ordering::Relaxed), 2);
    assert!(file.damage().is_none());
    far.next.lock().extend([Fate::Wrong; 3]);
    assert_eq!(file.section(4).unwrap_err().kind(), Kind::Corrupt);
    let page = file.damage().and_then(|damage| damage.page);
    assert_eq!(page.map(|page| page.offset), Some(321));
    assert!(file.check_again(page).is_ok());
}
