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
    let flags = split(&args.flags, &mut model)?;
    let binary = cached(&model)?;
    let error = Command::new(&binary).args(flags).exec();
    Err(Failure::io("run", &binary, &error))
}

/// Takes `--set`, `--disable`, `--exact` and `--memory` out of the flags of the run: they belong to the
/// compiler. Gives the rest.
fn split(words: &[OsString], model: &mut ModelArgs) -> Result<Vec<OsString>, Failure> {
    let mut flags = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (&*text, None),
        };
        if name == "--exact" && value.is_none() {
            model.passes.exact = true;
            continue;
        }
        if !["--set", "--disable", "--memory"].contains(&name) {
            flags.push(word.clone());
            continue;
        }
        let next = || words.next().map(|v| v.to_string_lossy().into_owned());
        let missing = || Failure::Usage(format!("`{name}` needs a value"));
        let value = value.or_else(next).ok_or_else(missing)?;
        match name {
            "--set" => model.sets.push(value),
            "--disable" => model.passes.disable.push(value),
            _ => model.passes.memory = Some(value),
        }
    }
    Ok(flags)
}

/// The executable of a model, built when the cache lacks it.
///
/// # Errors
/// See [`run`].
pub fn cached(model: &ModelArgs) -> Result<PathBuf, Failure> {
    let request = model.read_for(TargetName::Cpu)?;
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
/// constants, passes, features, the runner and this compiler.
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
    add(format!("{:?}", request.options).as_bytes());
    target.features().iter().for_each(|f| add(f.as_bytes()));
    let own = std::env::current_exe()
        .map_err(|e| Failure::Machine(format!("cannot find this executable: {e}")))?;
    for path in [own, build::runner()?] {
        add(&std::fs::read(&path).map_err(|e| Failure::io("read", &path, &e))?);
    }
    let hex: String = digest.finalize().iter().map(|b| format!("{b:02x}")).collect();
    Ok(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What changes the executable changes its name in the cache.
    #[test]
    fn the_cache_tells_passes_apart() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/models/nano.giga");
        let key_of = |flags: &[&str]| {
            let words: Vec<OsString> = flags.iter().map(OsString::from).collect();
            let passes = super::super::PassArgs::default();
            let mut model = ModelArgs { model: path.into(), sets: vec![], passes };
            let rest = split(&words, &mut model).expect("right flags");
            assert_eq!(rest, ["--quiet"]);
            let request = model.read().expect("a shipped model");
            key(&request, &TargetName::Avx2.cpu().expect("needs no host")).expect("files to read")
        };
        let keys = [
            key_of(&["--quiet"]),
            key_of(&["--quiet", "--exact"]),
            key_of(&["--disable", "fold", "--quiet"]),
            key_of(&["--quiet", "--disable=dead"]),
            key_of(&["--quiet", "--disable=fold", "--disable", "dead"]),
            key_of(&["--set", "L=1", "--quiet"]),
            key_of(&["--memory", "1GiB", "--quiet"]),
            key_of(&["--quiet", "--memory=2GiB"]),
        ];
        let distinct: std::collections::HashSet<&String> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
        assert_eq!(key_of(&["--disable=dead", "--quiet", "--disable=fold"]), keys[4]);
    }
}
