//! Replays the corpus and seeded mutations of it: a short fuzz run in every `cargo test`.

#![expect(
    clippy::disallowed_methods,
    reason = "reads the corpus, which has no Fs"
)]
#![expect(clippy::unwrap_used, reason = "a test that fails should say where")]

use std::path::{Path, PathBuf};

use trine_fuzz::TARGETS;
use trine_storage::sim::Rng;

/// Mutations of each file of the corpus; `TRINE_FUZZ_ROUNDS` asks for more.
const ROUNDS: u64 = 300;

fn corpus(target: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    let files = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut files: Vec<PathBuf> = files.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// One or two small changes: a flipped bit, a cut, a repeated or an exchanged piece.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    for _ in 0..=rng.below(2) {
        let at = rng.below(bytes.len() as u64 + 1) as usize;
        match rng.below(6) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] ^= 1 << rng.below(8),
            2 if at < bytes.len() => bytes[at] = rng.next_u64() as u8,
            3 => bytes.insert(at, rng.next_u64() as u8),
            4 if !other.is_empty() => {
                let start = rng.below(other.len() as u64) as usize;
                let end = other.len().min(start + 1 + rng.below(16) as usize);
                bytes.splice(at..at, other[start..end].iter().copied());
            }
            _ => {
                let end = bytes.len().min(at + 1 + rng.below(8) as usize);
                bytes.drain(at..end);
            }
        }
    }
}

#[test]
fn every_target_reads_or_refuses_its_corpus_and_what_is_near_it() {
    let rounds = std::env::var("TRINE_FUZZ_ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok());
    for target in TARGETS {
        let files: Vec<Vec<u8>> = corpus(target.name)
            .iter()
            .map(|path| std::fs::read(path).unwrap())
            .collect();
        assert!(!files.is_empty(), "{} has no corpus", target.name);
        let mut rng = Rng::new(target.name.len() as u64);
        for (number, file) in files.iter().enumerate() {
            (target.run)(file);
            for round in 0..rounds.unwrap_or(ROUNDS) {
                let mut bytes = file.clone();
                let other = &files[rng.below(files.len() as u64) as usize];
                mutate(&mut bytes, other, &mut rng);
                let run = std::panic::AssertUnwindSafe(|| (target.run)(&bytes));
                if let Err(panic) = std::panic::catch_unwind(run) {
                    eprintln!("{} file {number} round {round}: {bytes:?}", target.name);
                    eprintln!("as text: {:?}", String::from_utf8_lossy(&bytes));
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }
}
