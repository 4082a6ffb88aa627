//! What can go wrong in a run, and the exit code of each cause.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Result of everything that input, disk or machine can make fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a run ended early.
#[derive(Debug, Error)]
pub enum Error {
    /// A file or value that the user gave is wrong.
    #[error("{place}: {what}")]
    Input {
        /// The file, or the flag.
        place: String,
        /// What is wrong with it, and what to do.
        what: String,
    },
    /// Flags that contradict each other or the program.
    #[error("{0}")]
    Usage(String),
    /// Reading or writing failed.
    #[error("cannot {action} {path}: {source}{}", hint(action, source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The machine cannot run the program.
    #[error("{0}")]
    Machine(String),
    /// Gradients were not finite and the model says `on_nan halt`.
    #[error("step {step}: {count} gradient elements are not finite, and the model says `on_nan halt`{}", if *.saved { "; a checkpoint holds the run up to here" } else { "" })]
    Halted {
        /// The step.
        step: u64,
        /// Number of elements.
        count: u64,
        /// Whether a checkpoint was written.
        saved: bool,
    },
    /// A signal ended the run.
    #[error("interrupted after {steps} steps{}", if *.saved { "; a checkpoint holds them all" } else { "" })]
    Interrupted {
        /// Steps done.
        steps: u64,
        /// Whether a checkpoint was written.
        saved: bool,
    },
}

/// What to do about a failure of the system.
fn hint(action: &str, source: &io::Error) -> &'static str {
    use io::ErrorKind as Kind;
    let makes = matches!(action, "create" | "write");
    match source.kind() {
        Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => {
            "; free some space and run it again (`--resume` continues a run)"
        }
        Kind::ReadOnlyFilesystem => "; choose another place",
        Kind::PermissionDenied if makes => "; choose another place",
        Kind::AlreadyExists | Kind::NotADirectory | Kind::IsADirectory if makes => {
            "; choose another name"
        }
        Kind::NotFound if makes => "; make the folder that it is to lie in first",
        _ => "",
    }
}

impl Error {
    /// A wrong file or value.
    pub fn input(place: impl std::fmt::Display, what: impl Into<String>) -> Self {
        Self::Input { place: place.to_string(), what: what.into() }
    }

    /// A wrong file.
    pub(crate) fn file(path: &Path, what: impl Into<String>) -> Self {
        Self::input(path.display(), what)
    }

    /// Turns an error of the system into one that names the file.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// The exit code of the contract: 1 input, 2 usage, 3 machine, 130 interrupted.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Input { .. } | Self::Halted { .. } => 1,
            // A path that leads nowhere is wrong; anything else is the disk's fault.
            Self::Io { action: "open", source, .. }
                if matches!(
                    source.kind(),
                    io::ErrorKind::NotFound
                        | io::ErrorKind::IsADirectory
                        | io::ErrorKind::NotADirectory
                        | io::ErrorKind::PermissionDenied
                ) =>
            {
                1
            }
            Self::Usage(_) => 2,
            Self::Io { .. } | Self::Machine(_) => 3,
            Self::Interrupted { .. } => 130,
        }
    }
}
