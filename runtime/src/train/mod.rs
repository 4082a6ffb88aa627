//! The trainer: one run from its flags to its last file.

mod corpus;
mod evaluate;
mod length;
mod lock;
mod machine;
mod options;
mod outputs;
mod sample;
pub mod signals;
mod states;
mod steps;
#[cfg(test)]
mod tests;

pub use machine::Machine;
pub use options::Options;
pub use steps::Readback;

use gigac_ir::program::Program;

use crate::console::{answer, say};
use crate::error::{Error, Result};
use crate::exec::code::Kernels;
use crate::exec::peak;
use crate::metrics::{self, Progress, Sinks, Writer};
use crate::weights::transfer;
use corpus::Corpus;
use length::Length;
use steps::Run;

/// Trains a program as the flags say.
///
/// # Errors
/// [`Error`] with the exit code of the contract; what was written before stays whole.
pub fn train(program: &Program, kernels: &Kernels, options: &Options) -> Result<()> {
    options.check()?;
    signals::catch();
    let mut machine = Machine::new(program, kernels, options.threads(), options.poison)?;
    let corpus = Corpus::open(program, options)?;
    let length = Length::new(program, options.steps, corpus.available)?;
    let _claim = options.out.as_deref().map(lock::claim).transpose()?;
    let (position, saved) = states::start(program, &mut machine, options, &corpus, &length)?;
    let peak = peak::measure(&mut machine.pool, kernels.vectors());
    let names = Readback::names(&program.phases[0].step);
    let progress = Progress::new(position.steps, length.steps, options.quiet);
    let sinks = Sinks::open(options.out.as_deref(), &names, position.steps, progress)?;
    let writer = Writer::start(sinks, names.len())?;
    let (corpus, length) = (&corpus, &length);
    let mut run =
        Run { program, options, corpus, length, position, peak, writer, saved, loss: None };
    run.phases(&mut machine)?;
    run.checkpoint(&machine)?;
    finish(run, &mut machine)
}

/// What is left when the last step is done: weights, plot, held-out loss, samples.
fn finish(mut run: Run<'_>, machine: &mut Machine<'_>) -> Result<()> {
    let options = run.options;
    if let Some(path) = &options.export {
        transfer::export(path, &run.program.phases[0].step, &machine.arena)?;
    }
    run.writer.flush()?;
    run.writer.end_progress();
    if let Some(folder) = &options.out {
        metrics::loss_curve(folder)?;
    }
    let held = match options.quiet && !options.json {
        true => None,
        false => run.held_out(machine)?,
    };
    if !options.quiet {
        run.samples(machine)?;
    }
    if options.json {
        answer(run.summary(held))?;
    }
    Ok(())
}

/// Says something on stderr that is not an error.
fn note(options: &Options, line: &str) {
    if !options.quiet {
        say(line);
    }
}

/// A folder that cannot be made is the machine's fault.
fn make_folder(path: &std::path::Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(Error::io("create", path))
}
