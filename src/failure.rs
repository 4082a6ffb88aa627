//! Why a command failed, and with which exit code.

use std::process::ExitCode;

use thiserror::Error;

/// A failure of a command.
#[derive(Debug, Error)]
pub enum Failure {
    /// The input is wrong; the text is ready to be shown.
    #[error("{0}")]
    Input(String),
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// The machine failed: files, processes, devices.
    #[error("{0}")]
    Machine(String),
    /// A child process ended with this code and has said why.
    #[error("the run ended with exit code {0}")]
    Child(u8),
}

impl Failure {
    /// The exit code: 1 wrong input, 2 wrong usage, 3 the machine.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Input(_) => 1,
            Self::Usage(_) => 2,
            Self::Machine(_) => 3,
            Self::Child(code) => *code,
        })
    }

    /// A failure to read or write a file.
    pub fn io(what: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::Machine(format!("cannot {what} `{}`: {error}", path.display()))
    }
}
