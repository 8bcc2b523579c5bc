use super::files::block_path;
use super::*;
use crate::Kind;
use crate::sealed::SealedWriter;
use crate::sim::SimFs;
use crate::time::TimeRange;

mod crashes;
mod fetching;
mod meanwhile;
mod random;
pub(crate) mod rows;
mod shipping;

/// A reader that keeps the one section of its block.
#[derive(Debug)]
struct Text(bytes::Bytes);

impl BlockReader for Text {
    const KIND: [u8; 4] = *b"text";

    fn open(file: SealedFile, _meta: &BlockMeta) -> Result<Self> {
        file.section(1).map(Self)
    }
}

fn open(fs: &SimFs) -> BlockSet<Text> {
    BlockSet::open(Arc::new(fs.clone()), Path::new("store")).unwrap()
}

fn write(fs: &SimFs, blocks: &BlockSet<Text>, number: u128) -> BlockMeta {
    let id = BlockId::from_bits(number);
    let mut file = SealedWriter::create(fs, &blocks.temporary(id), Text::KIND).unwrap();
    file.section(1, format!("block {number}").as_bytes())
        .unwrap();
    let bytes = file.finish().unwrap();
    BlockMeta {
        id,
        range: TimeRange::new(0, 1),
        rows: 1,
        bytes,
        level: 0,
        sequence: 0,
        created_ms: 0,
        deletes_applied: 0,
    }
}

fn texts(version: &Version<Text>) -> Vec<String> {
    let text = |b: &Arc<Block<Text>>| String::from_utf8_lossy(&b.reader.0).into_owned();
    version.blocks.iter().map(text).collect()
}

fn add(fs: &SimFs, blocks: &BlockSet<Text>, number: u128) {
    let edit = Edit {
        add: vec![write(fs, blocks, number)],
        ..Edit::default()
    };
    blocks.commit(&edit, || {}).unwrap();
}

fn block_files(fs: &SimFs) -> usize {
    fs.files()
        .iter()
        .filter(|path| path.starts_with("store/blocks"))
        .count()
}

#[test]
fn changes_are_seen_at_once_and_after_a_restart() {
    let fs = SimFs::new();
    let blocks = open(&fs);
    add(&fs, &blocks, 1);
    let meta = write(&fs, &blocks, 2);
    let edit = Edit {
        add: vec![meta],
        remove: vec![BlockId::from_bits(1)],
        wal_position: Some(7),
        ..Edit::default()
    };
    blocks.commit(&edit, || {}).unwrap();
    for version in [blocks.version(), open(&fs).version()] {
        assert_eq!(texts(&version), ["block 2"]);
        assert_eq!((version.number, version.wal_position), (3, 7));
    }
}

#[test]
fn a_removed_file_goes_with_its_last_reader() {
    let fs = SimFs::new();
    let blocks = open(&fs);
    add(&fs, &blocks, 1);
    let reader = blocks.version();
    let edit = Edit {
        remove: vec![BlockId::from_bits(1)],
        ..Edit::default()
    };
    blocks.commit(&edit, || {}).unwrap();
    assert_eq!(
        texts(&reader),
        ["block 1"],
        "the old version is still whole"
    );
    assert_eq!(block_files(&fs), 1);
    drop(reader);
    assert_eq!(block_files(&fs), 0);
}

#[test]
fn orphans_are_swept_at_open() {
    let fs = SimFs::new();
    let blocks = open(&fs);
    add(&fs, &blocks, 1);
    write(&fs, &blocks, 2);
    assert_eq!(block_files(&fs), 2);
    drop(blocks);
    assert_eq!(texts(&open(&fs).version()), ["block 1"]);
    assert_eq!(block_files(&fs), 1);
}

#[test]
fn a_damaged_block_is_quarantined_and_the_rest_is_served() {
    let fs = SimFs::new();
    let blocks = open(&fs);
    add(&fs, &blocks, 1);
    add(&fs, &blocks, 2);
    let path = block_path(Path::new("store/blocks"), BlockId::from_bits(1));
    fs.corrupt(&path, 17, 0xff);
    let blocks = open(&fs);
    assert_eq!(texts(&blocks.version()), ["block 2"]);
    let quarantined = blocks.quarantined();
    assert_eq!(quarantined.len(), 1);
    assert!(
        quarantined[0].to_string().contains("is damaged at byte"),
        "{quarantined:?}"
    );
    // It is still in the catalog, so that nothing is lost when the file is put back.
    add(&fs, &blocks, 3);
    fs.corrupt(&path, 17, 0xff);
    assert_eq!(open(&fs).version().blocks.len(), 3);
}

#[test]
fn a_failed_change_is_not_seen_and_poisons_the_set() {
    let fs = SimFs::new();
    let blocks = open(&fs);
    add(&fs, &blocks, 1);
    let meta = write(&fs, &blocks, 2);
    fs.cut_after(fs.operations() + 2);
    let edit = Edit {
        add: vec![meta],
        ..Edit::default()
    };
    let error = blocks
        .commit(&edit, || panic!("a failed change was published"))
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Io);
    assert_eq!(texts(&blocks.version()), ["block 1"]);
    assert_eq!(
        blocks.commit(&edit, || {}).unwrap_err().kind(),
        Kind::Poisoned
    );
}

#[test]
fn blocks_without_a_catalog_are_refused_and_stay() {
    let fs = SimFs::new();
    add(&fs, &open(&fs), 1);
    fs.remove_file("store/catalog".as_ref()).unwrap();
    let error = BlockSet::<Text>::open(Arc::new(fs.clone()), Path::new("store")).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert!(error.to_string().starts_with("1 blocks are in"), "{error}");
    assert_eq!(block_files(&fs), 1);
}
