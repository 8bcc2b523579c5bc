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
