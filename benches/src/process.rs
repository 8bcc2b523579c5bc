//! What a program that measures takes of the machine, as Linux tells it.

/// Kilobytes of memory by their name in `/proc/self/status`: `RssAnon` now, `VmHWM` at most.
///
/// # Panics
/// When the kernel does not tell.
pub fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a Linux system");
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    number(line.unwrap_or_default(), 0)
}

/// Seconds of processor that this process has used, in hundredths.
///
/// # Panics
/// When the kernel does not tell.
pub fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("a Linux system");
    // The name of the program, in parentheses, may have spaces.
    let rest = stat.rsplit(')').next().unwrap_or_default();
    (number(rest, 11) + number(rest, 12)) as f64 / 100.0
}

/// Seconds of processor that this thread has used.
///
/// # Panics
/// When the kernel does not tell.
pub fn thread_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("a Linux system");
    number(&stat, 0) as f64 / 1e9
}

fn number(text: &str, at: usize) -> u64 {
    let word = text.split_whitespace().nth(at);
    word.and_then(|word| word.parse().ok()).expect("a number")
}
