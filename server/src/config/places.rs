//! The commands `trine backup` and `trine restore` on the command line. `config` reads them where they
//! are named in place of the server's options; `commands` carries them out.

use std::fmt;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command};

use super::value;

/// A place that all data is copied from or to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The URL of a bucket.
    Bucket(String),
    /// A data directory.
    Directory(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bucket(url) => f.write_str(url),
            Self::Directory(path) => write!(f, "{}", path.display()),
        }
    }
}

/// What is copied, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copying {
    /// What the command is called: `backup` or `restore`.
    pub verb: &'static str,
    /// What is read.
    pub from: Place,
    /// What is written.
    pub to: Place,
    /// Bytes a second; zero for any number.
    pub bandwidth_max: usize,
    /// Blocks that are copied at a time.
    pub at_once: usize,
}

/// The commands, with what is said of them.
const VERBS: &[(&str, &str)] = &[
    (
        "backup",
        "Copy all data of a bucket or a data directory to another place; again copies what is new",
    ),
    (
        "restore",
        "Copy all data of a backup to a new bucket, or to a new data directory that needs no bucket",
    ),
];

const AFTER: &str = "PLACE is the URL of a bucket (s3://bucket/prefix, gs://bucket/prefix, \
    az://container/prefix, file:///directory), with the same credentials in the environment as for \
    --storage, or a data directory that no server has open. Of a bucket that is copied everything is \
    copied that was shipped; its server may go on. A bucket that is copied to must be empty or an earlier \
    copy of the same place, a directory must be empty or new. The copy of each tenant's metrics, logs and \
    traces is consistent. A run that failed or was killed is simply run again.";

pub(super) fn commands() -> impl Iterator<Item = Command> {
    VERBS.iter().map(|&(verb, about)| {
        let place = |name: &'static str, help: &'static str| {
            let arg = Arg::new(name).long(name).value_name("PLACE").help(help);
            arg.required(true)
        };
        Command::new(verb)
            .about(about)
            .after_help(AFTER)
            .arg(place("from", "Where the data is"))
            .arg(place("to", "Where it is copied to"))
            .arg(
                Arg::new("bandwidth-max")
                    .long("bandwidth-max")
                    .value_name("SIZE")
                    .help("Bytes a second that are copied; 0 for any number [default: 0]"),
            )
            .arg(
                Arg::new("at-once")
                    .long("at-once")
                    .value_name("N")
                    .help("Blocks that are copied at a time, at most 64 [default: 8]"),
            )
    })
}

/// Blocks that are copied at a time, at most.
const AT_ONCE_MAX: usize = 64;

/// Reads one of the commands; nothing when none is named.
///
/// # Errors
/// A sentence that says which option is wrong.
pub(super) fn read(flags: &ArgMatches) -> Result<Option<Copying>, String> {
    let Some((name, flags)) = flags.subcommand() else {
        return Ok(None);
    };
    let text = |name: &str| flags.get_one::<String>(name).map_or("", String::as_str);
    let told = |name: &'static str| move |why: String| format!("the option {name}: {why}");
    let (from, to) = (
        place(text("from")).map_err(told("from"))?,
        place(text("to")).map_err(told("to"))?,
    );
    let or = |name: &str, default: &'static str| match text(name) {
        "" => default.to_owned(),
        text => text.to_owned(),
    };
    let bandwidth_max = value::size_or_none(&or("bandwidth-max", "0"));
    let bandwidth_max = bandwidth_max.map_err(told("bandwidth-max"))?;
    let at_once = value::count(&or("at-once", "8"))
        .and_then(|at_once| match at_once {
            1..=AT_ONCE_MAX => Ok(at_once),
            _ => Err(format!("it must be at most {AT_ONCE_MAX}")),
        })
        .map_err(told("at-once"))?;
    let verb = VERBS.iter().find(|(verb, _)| *verb == name);
    Ok(verb.map(|&(verb, _)| Copying {
        verb,
        from,
        to,
        bandwidth_max,
        at_once,
    }))
}

fn place(text: &str) -> Result<Place, String> {
    if text.contains("://") {
        return Ok(Place::Bucket(text.to_owned()));
    }
    value::path(text).map(Place::Directory)
}
