//! The command line of a built executable.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser};
use gigac_ir::program::Program;

use crate::error::{Error, Result};
use crate::exec::code::Kernels;
use crate::train::{self, Options};
use crate::{bench, payload};

/// Trains the model that this executable was built from.
#[derive(Parser, Debug)]
#[command(version)]
struct Flags {
    #[command(flatten)]
    options: Options,
    /// Time N steps on synthetic data instead of training, and print figures as JSON.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    bench: Option<u64>,
    /// With --bench: also time every kernel, in steps of its own.
    #[arg(long, requires = "bench")]
    profile: bool,
    /// Settings are part of an executable: build it again with other ones.
    #[arg(long, value_name = "NAME=VALUE", hide = true)]
    set: Vec<String>,
}

/// Runs the executable that carries its own program, with the process's arguments; gives the exit
/// code.
pub fn main() -> i32 {
    let result = payload::read_self().and_then(|program| {
        program.ok_or_else(|| {
            let what = "this is gigac's runner without a program: `gigac build` makes one with it";
            Error::Usage(what.to_owned())
        })
    });
    match result {
        Ok(program) => run(&program, std::env::args_os()),
        Err(error) => fail(&error),
    }
}

/// Runs a program with arguments, the first being the name of the command; gives the exit code.
pub fn run(program: &Program, arguments: impl IntoIterator<Item = OsString>) -> i32 {
    let command = Flags::command().about(format!("Trains {}", program.model));
    let flags = command.try_get_matches_from(arguments).and_then(|m| Flags::from_arg_matches(&m));
    let flags = match flags {
        Ok(flags) => flags,
        Err(error) => {
            // Help and version go to stdout and are no failure; printing has nowhere to fail to.
            let _ = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked { 0 } else { 2 };
        }
    };
    dispatch(program, &flags).map_or_else(|error| fail(&error), |()| 0)
}

fn dispatch(program: &Program, flags: &Flags) -> Result<()> {
    if !flags.set.is_empty() {
        let what = "--set: settings are part of an executable; give them to `gigac build` or `gigac train`";
        return Err(Error::Usage(what.to_owned()));
    }
    let kernels = Kernels::map(&program.image)?;
    match flags.bench {
        Some(steps) => {
            let report =
                bench::bench(program, &kernels, steps, flags.options.threads(), flags.profile)?;
            println!("{}", report.to_json());
            Ok(())
        }
        None => train::train(program, &kernels, &flags.options),
    }
}

/// Parses flags that are known to be right.
#[cfg(test)]
pub(crate) fn options(arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Options {
    Flags::parse_from(arguments).options
}

fn fail(error: &Error) -> i32 {
    eprintln!("error: {error}");
    error.exit_code()
}
