//! `gigac build`: one self-contained executable.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use gigac_codegen::nvptx::GpuTarget;
use gigac_codegen::x86::CpuTarget;
use gigac_runtime::console::say;
use gigac_runtime::payload;
use serde_json::json;

use super::{ModelArgs, print};
use crate::compile::{self, Request};
use crate::failure::Failure;

/// What code is generated for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TargetName {
    /// This machine's CPU.
    Cpu,
    /// Any CPU with AVX2 and FMA (x86-64-v3).
    Avx2,
    /// Any CPU with AVX-512 (x86-64-v4).
    Avx512,
    /// NVIDIA A100: kernels only.
    #[value(name = "sm_80")]
    Sm80,
    /// NVIDIA H100: kernels only.
    #[value(name = "sm_90")]
    Sm90,
}

impl TargetName {
    /// The CPU target.
    ///
    /// # Errors
    /// When this machine's CPU lacks AVX2, and for GPUs.
    pub fn cpu(self) -> Result<CpuTarget, Failure> {
        match self {
            Self::Cpu => CpuTarget::host().map_err(|e| Failure::Machine(e.to_string())),
            Self::Avx2 => Ok(CpuTarget::x86_64_v3()),
            Self::Avx512 => Ok(CpuTarget::x86_64_v4()),
            Self::Sm80 | Self::Sm90 => Err(Failure::Usage(
                "for GPUs there are `gigac emit kernels|plan|ptx|cubin|sass` alone".to_owned(),
            )),
        }
    }

    /// The GPU target, with the name of its device.
    pub fn gpu(self) -> Option<(GpuTarget, &'static str)> {
        match self {
            Self::Sm80 => Some((GpuTarget::Sm80, "a100")),
            Self::Sm90 => Some((GpuTarget::Sm90, "h100")),
            Self::Cpu | Self::Avx2 | Self::Avx512 => None,
        }
    }
}

/// Flags of `build`.
#[derive(Args, Debug)]
pub struct BuildArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The executable to write.
    #[arg(short, long, value_name = "BIN")]
    output: PathBuf,
    /// What to generate code for.
    #[arg(long, value_enum, default_value = "cpu")]
    target: TargetName,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs `build`.
///
/// # Errors
/// Mistakes of the model, failures of code generation, files that cannot be written.
pub fn run(args: &BuildArgs) -> Result<(), Failure> {
    let (request, target) = (args.model.read_for(args.target)?, args.target.cpu()?);
    build(&request, &target, &args.output)?;
    say(format_args!("wrote {}", args.output.display()));
    if !args.json {
        return Ok(());
    }
    let info = std::fs::metadata(&args.output);
    let bytes = info.map_err(|e| Failure::io("read", &args.output, &e))?.len();
    let features = target.features();
    let object = json!({ "executable": args.output, "bytes": bytes, "features": features });
    print(&format!("{object}\n"))
}

/// Compiles a model and writes the executable, aside first, so that it is whole or absent.
///
/// # Errors
/// See [`run`].
pub fn build(request: &Request, target: &CpuTarget, output: &Path) -> Result<(), Failure> {
    let program = compile::program(request, target)?;
    payload::write(&runner()?, &program, output).map_err(|e| Failure::Machine(e.to_string()))
}

/// The prebuilt runner, beside this executable.
///
/// # Errors
/// When it is not there.
pub fn runner() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe()
        .map_err(|e| Failure::Machine(format!("cannot find this executable: {e}")))?;
    // Tests run from a folder below.
    let folders = own.ancestors().skip(1).take(2);
    let found = folders.map(|f| f.join("gigac-runner")).find(|p| p.is_file());
    found.ok_or_else(|| {
        let folder = own.parent().unwrap_or(Path::new("."));
        Failure::Machine(format!(
            "`gigac-runner` is not in `{}`: build the whole workspace with `cargo build --workspace`, and `--release` for speed",
            folder.display()
        ))
    })
}
