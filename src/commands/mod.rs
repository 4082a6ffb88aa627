//! The commands.

pub mod ablate;
pub mod bench;
pub mod bisect;
pub mod build;
pub mod check;
pub mod emit;
pub mod plan;
pub mod train;

use clap::Args;
use gigac_cost::target::Device;
use gigac_passes::options::Options;

use build::TargetName;

use crate::compile::Request;
use crate::failure::Failure;
use crate::{machine, size};

/// A model file with changed constants, and how it is compiled.
#[derive(Args, Debug, Clone)]
pub struct ModelArgs {
    /// The model file.
    pub model: std::path::PathBuf,
    /// Changes a constant, an axis or a line of the `train` block (repeatable).
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub sets: Vec<String>,
    /// Which passes run.
    #[command(flatten)]
    pub passes: PassArgs,
}

/// Which passes run. `gigac emit passes MODEL` lists them.
#[derive(Args, Debug, Clone, Default)]
pub struct PassArgs {
    /// Switches a pass off (repeatable).
    #[arg(long, value_name = "PASS")]
    pub disable: Vec<String>,
    /// Only rewrites that keep every bit: nothing is added in another order.
    #[arg(long)]
    pub exact: bool,
    /// Memory that a training step may take, such as 8GiB (default: what the target has). What
    /// does not fit is computed again on the way back.
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// What does not fit may also go to the host's memory and come back. Off by default: the time of
    /// copies is that of a link with nothing else on it, what other jobs leave of it and of the host's
    /// memory is not known, and on a CPU it is the same memory.
    #[arg(long)]
    pub offload: bool,
}

impl PassArgs {
    /// The options of the passes.
    ///
    /// # Errors
    /// A pass that does not exist or cannot be switched off.
    pub fn options(&self) -> Result<Options, Failure> {
        let mut options = Options::default();
        options.exact = self.exact;
        options.offload = self.offload;
        options.memory = self.memory.as_deref().map(size::bytes).transpose()?;
        for name in &self.disable {
            let wrong = |e| Failure::Usage(format!("`--disable {name}`: {e}"));
            options.disable(name).map_err(wrong)?;
        }
        Ok(options)
    }
}

impl ModelArgs {
    /// Reads the model file.
    ///
    /// # Errors
    /// Those of [`Request::read`] and [`PassArgs::options`].
    pub fn read(&self) -> Result<Request, Failure> {
        Request::read(&self.model, &self.sets, self.passes.options()?)
    }

    /// Reads the model file for a target. This machine's CPU has the machine's memory; a CPU that
    /// is only known by its features, or a GPU, has as much as is needed.
    ///
    /// # Errors
    /// Those of [`ModelArgs::read`].
    pub fn read_for(&self, target: TargetName) -> Result<Request, Failure> {
        let mut request = self.read()?;
        if let Some((_, name)) = target.gpu() {
            let device = Device::named(name).map_err(|e| Failure::Machine(e.to_string()))?;
            request.options.aim(&device);
        }
        if target == TargetName::Cpu && request.options.memory.is_none() {
            request.options.memory = machine::arena_limit();
        }
        Ok(request)
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
