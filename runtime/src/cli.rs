//! The command line of a built executable.

use std::ffi::OsString;
use std::path::Path;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser};
use gigac_ir::program::Program;

use crate::console::{answer, say};
use crate::error::Error;
use crate::exec::code::Kernels;
use crate::train::{self, Options, signals};
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
    signals::files_fail_when_too_large();
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
    let mut arguments = arguments.into_iter();
    let name = arguments.next().unwrap_or_default();
    let name = Path::new(&name).file_name().unwrap_or_default().to_string_lossy();
    match parse(&name, &format!("Trains {}", program.model), arguments) {
        Ok(flags) => dispatch(program, &flags).map_or_else(|error| fail(&error), |()| 0),
        Err(code) => code,
    }
}

/// Checks the flags of a run without running it, under the name of the command that takes them.
///
/// # Errors
/// The exit code, when something is wrong or help was asked for; what there is to say is printed.
pub fn check(name: &str, arguments: &[OsString]) -> Result<(), i32> {
    let flags = parse(name, "", arguments.iter().cloned())?;
    flags.options.check().map_err(|error| fail(&error))
}

/// Help for the flags of a run.
pub fn help() -> String {
    let template = "Flags of the run:\n{options}";
    Flags::command().help_template(template).render_help().to_string()
}

fn parse(name: &str, about: &str, arguments: impl Iterator<Item = OsString>) -> Result<Flags, i32> {
    let command = Flags::command().about(about.to_owned()).bin_name(name);
    let arguments = std::iter::once(OsString::from(name)).chain(arguments);
    let flags = command.try_get_matches_from(arguments).and_then(|m| Flags::from_arg_matches(&m));
    flags.map_err(|error| {
        // Help and version go to stdout and are no failure; printing has nowhere to fail to.
        let _ = error.print();
        let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
        if asked { 0 } else { 2 }
    })
}

fn dispatch(program: &Program, flags: &Flags) -> Result<(), Error> {
    if !flags.set.is_empty() {
        let what = "--set: settings are part of an executable; give them to `gigac build` or `gigac train`";
        return Err(Error::Usage(what.to_owned()));
    }
    let kernels = Kernels::map(&program.image)?;
    match flags.bench {
        Some(steps) => {
            let report =
                bench::bench(program, &kernels, steps, flags.options.threads(), flags.profile)?;
            answer(report.to_json())
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
    say(format_args!("error: {error}"));
    error.exit_code()
}
