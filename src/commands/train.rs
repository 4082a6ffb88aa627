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

/// Flags of `train`: the model's, and all flags of the built executable.
#[derive(Args, Debug)]
pub struct TrainArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    run: gigac_runtime::cli::Flags,
}

/// Runs `train`.
///
/// # Errors
/// Mistakes of the model, failures of code generation and of the cache. Does not return when the
/// run starts.
pub fn run(args: &TrainArgs) -> Result<(), Failure> {
    let binary = cached(&args.model)?;
    let error = Command::new(&binary).args(own_flags()).exec();
    Err(Failure::io("run", &binary, &error))
}

/// The flags that belong to the executable: all but the command, the model and `--set`.
fn own_flags() -> Vec<OsString> {
    let mut flags = Vec::new();
    let mut seen_model = false;
    let mut words = std::env::args_os().skip(2).peekable();
    while let Some(word) = words.next() {
        let text = word.to_string_lossy().into_owned();
        if text == "--set" {
            words.next();
        } else if text.starts_with("--set=") {
        } else if text.starts_with('-') {
            flags.push(word);
            let takes_value = gigac_runtime::cli::takes_value(&text);
            if takes_value && let Some(value) = words.next() {
                flags.push(value);
            }
        } else if seen_model {
            flags.push(word);
        } else {
            seen_model = true;
        }
    }
    flags
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
