//! `gigac train`: builds into a cache, then becomes the training executable.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use clap::{Args, Command as Parser, FromArgMatches};
use gigac_runtime::cli;
use sha2::{Digest, Sha256};

use super::build::{self, TargetName};
use super::{ModelArgs, print};
use crate::cache::{self, Cached};
use crate::compile::Request;
use crate::failure::Failure;

/// The model with the compiler's flags, and all flags of the built executable behind it.
#[derive(Args, Debug)]
#[command(override_usage = "gigac train [OPTIONS] <MODEL> [FLAGS]...", after_help = help())]
pub struct TrainArgs {
    /// The model file, and flags; those of the compiler may stand anywhere.
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "MODEL FLAGS"
    )]
    words: Vec<OsString>,
}

/// Both tables of flags.
fn help() -> String {
    let compiler = parser().help_template("Options of the compiler:\n{options}").render_help();
    format!("{compiler}\n{}", cli::help())
}

/// What reads the compiler's flags.
fn parser() -> Parser {
    ModelArgs::augment_args(Parser::new("gigac train").disable_help_flag(true))
}

/// Runs `train`.
///
/// # Errors
/// Wrong flags, before anything is compiled; mistakes of the model; failures of code generation
/// and of the cache. Does not return when the run starts.
pub fn run(args: &TrainArgs) -> Result<(), Failure> {
    if args.words.iter().any(|word| word == "--help" || word == "-h") {
        return print(&format!("Usage: gigac train [OPTIONS] <MODEL> [FLAGS]...\n\n{}\n", help()));
    }
    let (model, flags) = split(&args.words)?;
    let name = format!("gigac train {}", model.model.display());
    cli::check(&name, &flags).map_err(|code| Failure::Child(code as u8))?;
    let binary = cached(&model)?;
    let error = Command::new(&binary.path).arg0("gigac").args(flags).exec();
    Err(Failure::io("run", &binary.path, &error))
}

/// Parts the model and the compiler's flags from those of the run.
fn split(words: &[OsString]) -> Result<(ModelArgs, Vec<OsString>), Failure> {
    let parser = parser();
    let mut own = vec![OsString::from("gigac train")];
    let (mut model, mut flags) = (None, Vec::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        let name = text.strip_prefix("--").and_then(|name| name.split('=').next());
        match parser.get_arguments().find(|a| name.is_some() && a.get_long() == name) {
            Some(flag) => {
                own.push(word.clone());
                let value = flag.get_action().takes_values() && !text.contains('=');
                own.extend(value.then(|| words.next().cloned()).flatten());
            }
            None if model.is_none() && flags.is_empty() && !text.starts_with('-') => {
                model = Some(word.clone());
            }
            None => flags.push(word.clone()),
        }
    }
    let missing = "name the model before the flags of the run: `gigac train MODEL --data PATH`";
    own.push(model.ok_or_else(|| Failure::Usage(missing.to_owned()))?);
    let matches = parser.try_get_matches_from(own).and_then(|m| ModelArgs::from_arg_matches(&m));
    Ok((matches.map_err(|e| Failure::Usage(e.to_string()))?, flags))
}

/// The executable of a model, built when the cache lacks it.
///
/// # Errors
/// See [`run`].
fn cached(model: &ModelArgs) -> Result<Cached, Failure> {
    let request = model.read_for(TargetName::Cpu)?;
    let target = TargetName::Cpu.cpu()?;
    let build = |path: &Path| build::build(&request, &target, path);
    cache::executable(&cache::folder(), &key(&request, &target)?, cache::LIMIT, build)
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
            let words: Vec<OsString> =
                [&[path], flags].concat().iter().map(OsString::from).collect();
            let (model, rest) = split(&words).expect("right flags");
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
            key_of(&["--quiet", "--memory=2GiB", "--offload"]),
        ];
        let distinct: std::collections::HashSet<&String> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
        assert_eq!(key_of(&["--disable=dead", "--quiet", "--disable=fold"]), keys[4]);
    }

    #[test]
    fn the_compilers_flags_may_stand_anywhere() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        let (model, flags) =
            split(&words("--set A=1 m.giga --steps 3 --exact --data x --set=B=2")).expect("right");
        assert_eq!(model.model, std::path::Path::new("m.giga"));
        assert_eq!((model.sets, model.passes.exact), (vec!["A=1".into(), "B=2".into()], true));
        assert_eq!(flags, words("--steps 3 --data x"));
        for wrong in ["--steps 3 m.giga", "--set", "m.giga --set", "--exact=1 m.giga"] {
            assert!(split(&words(wrong)).is_err(), "{wrong}");
        }
    }
}
