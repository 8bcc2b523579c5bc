//! The binary `trine`: reads its configuration and serves until it is told to stop, or copies all data
//! from one place to another.

use std::process::ExitCode;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
use std::time::Duration;

use trine_server::config::{Invocation, Outside};

fn main() -> ExitCode {
    let outside = Outside {
        variable: &|name| std::env::var(name).ok(),
        read: &|path| {
            std::fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))
        },
    };
    let told = match Invocation::load(std::env::args(), &outside) {
        Ok(Invocation::Serve(config)) => {
            return_memory();
            trine_server::run(*config)
        }
        Ok(Invocation::Copy(copying)) => {
            return_memory();
            trine_server::commands::run(copying)
        }
        Ok(Invocation::Check) => {
            println!("the configuration is good");
            Ok(())
        }
        Ok(Invocation::Print(text)) => {
            print!("{text}");
            Ok(())
        }
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    };
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("trine: {text}");
            ExitCode::FAILURE
        }
    }
}

/// Has memory given back that is free. By itself the allocator of glibc comes to keep blocks of many
/// megabytes, between which something small is always in use: columns of rows that were sealed, sorted
/// and written would stay, and with them several times the memory that is in use.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "no safe way to say this to the allocator")]
fn return_memory() {
    const BLOCK_BYTES: libc::c_int = 4 << 20;
    /// More that is free is given back ...
    const FREE_BYTES_MAX: u32 = 32 << 20;
    /// ... when it is looked at, so often.
    const LOOK_INTERVAL: Duration = Duration::from_secs(1);
    // SAFETY: it changes two settings, before there are other threads.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, BLOCK_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, BLOCK_BYTES);
    }
    let look = || {
        loop {
            std::thread::sleep(LOOK_INTERVAL);
            // SAFETY: both take the locks of the allocator and touch nothing that is in use.
            unsafe {
                if libc::mallinfo().fordblks.cast_unsigned() > FREE_BYTES_MAX {
                    libc::malloc_trim(0);
                }
            }
        }
    };
    // Without the thread the process only has more memory than it needs.
    let name = "memory".to_owned();
    std::thread::Builder::new().name(name).spawn(look).ok();
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn return_memory() {}
