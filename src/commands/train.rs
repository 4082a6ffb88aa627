//! `gigac train`: builds into a cache, then becomes the training executable.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use clap::Args;
use sha2::{Digest, Sha256};

use super::ModelArgs;
use super::build::{self, TargetName};
use crate::compile::Request;
use crate::failure::Failure;

/// Flags of `train`: the model's, and all flags of the built executable behind it.
#[derive(Args, Debug)]
#[command(
    after_help = "FLAGS are those of every training executable, such as --data, --steps, --out, --resume; \
                        `gigac train MODEL --help` lists them."
)]
pub struct TrainArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Flags of the run.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FLAGS")]
    flags: Vec<OsString>,
}

/// Runs `train`.
///
/// # Errors
/// Mistakes of the model, failures of code generation and of the cache. Does not return when the
/// run starts.
pub fn run(args: &TrainArgs) -> Result<(), Failure> {
    let mut model = args.model.clone();
    let (sets, flags) = split(&args.flags)?;
    model.sets.extend(sets);
    let binary = cached(&model)?;
    let error = Command::new(&binary).args(flags).exec();
    Err(Failure::io("run", &binary, &error))
}

/// Takes `--set NAME=VALUE` out of the flags of the run: they belong to the compiler.
fn split(words: &[OsString]) -> Result<(Vec<String>, Vec<OsString>), Failure> {
    let (mut sets, mut flags) = (Vec::new(), Vec::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        if text == "--set" {
            let value = words.next().ok_or(Failure::Usage("`--set` needs NAME=VALUE".into()))?;
            sets.push(value.to_string_lossy().into_owned());
        } else if let Some(value) = text.strip_prefix("--set=") {
            sets.push(value.to_owned());
        } else {
            flags.push(word.clone());
        }
    }
    Ok((sets, flags))
}

/// The executable of a model, built when the cache lacks it.
///
/// # Errors
/// See [`run`].
pub fn cached(model: &ModelArgs) -> Result<PathBuf, Failure> {
    let request = model.read()?;
    let target = TargetName::Cpu.cpu()?;
    let folder = cache_folder()?;
    let path = folder.join(key(&request, &target)?);
    if !path.is_file() {
        std::fs::create_dir_all(&folder).map_err(|e| Failure::io("create", &folder, &e))?;
        build::build(&request, &target, &path)?;
    }
    Ok(path)
}

/// `$XDG_CACHE_HOME/gigac`, or `~/.cache/gigac`, or a folder for temporary files.
fn cache_folder() -> Result<PathBuf, Failure> {
    let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let base = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|h| h.join(".cache")));
    Ok(base.unwrap_or_else(std::env::temp_dir).join("gigac"))
}

/// Digest of everything that the executable depends on: the text, libraries that it uses, changed
/// constants, features, the runner and this compiler.
fn key(request: &Request, target: &gigac_codegen::x86::CpuTarget) -> Result<String, Failure> {
    let mut digest = Sha256::new();
    let mut add = |bytes: &[u8]| {
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(bytes);
    };
    let sources = request.model(&[], true)?.sources;
    for source in (0..).map_while(|i| sources.file(i)) {
        add(source.text.as_bytes());
    }
    for (name, value) in request.sets() {
        add(name.as_bytes());
        add(value.as_bytes());
    }
    target.features().iter().for_each(|f| add(f.as_bytes()));
    let own = std::env::current_exe()
        .map_err(|e| Failure::Machine(format!("cannot find this executable: {e}")))?;
    for path in [own, build::runner()?] {
        add(&std::fs::read(&path).map_err(|e| Failure::io("read", &path, &e))?);
    }
    let hex: String = digest.finalize().iter().map(|b| format!("{b:02x}")).collect();
    Ok(hex)
}
