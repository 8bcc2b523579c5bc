//! The binary `trine`: reads its configuration and serves until it is told to stop.

use std::process::ExitCode;

use trine_server::config::{Invocation, Outside};

fn main() -> ExitCode {
    let outside = Outside {
        variable: &|name| std::env::var(name).ok(),
        read: &|path| {
            std::fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))
        },
    };
    let told = match Invocation::load(std::env::args(), &outside) {
        Ok(Invocation::Serve(config)) => trine_server::run(*config),
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
