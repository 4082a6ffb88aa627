//! The commands.

pub mod bench;
pub mod build;
pub mod check;
pub mod emit;
pub mod plan;
pub mod train;

use clap::Args;

use crate::compile::Request;
use crate::failure::Failure;

/// A model file with changed constants.
#[derive(Args, Debug, Clone)]
pub struct ModelArgs {
    /// The model file.
    pub model: std::path::PathBuf,
    /// Changes a constant, an axis or a line of the `train` block (repeatable).
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub sets: Vec<String>,
}

impl ModelArgs {
    /// Reads the model file.
    ///
    /// # Errors
    /// See [`Request::read`].
    pub fn read(&self) -> Result<Request, Failure> {
        Request::read(&self.model, &self.sets)
    }
}

/// Writes text to standard output; a closed pipe ends the output quietly.
///
/// # Errors
/// A failure of the machine.
pub fn print(text: &str) -> Result<(), Failure> {
    use std::io::Write;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::Machine(format!("cannot write to standard output: {e}")))
        }
        _ => Ok(()),
    }
}
