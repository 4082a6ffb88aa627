//! The states before the first step: drawn, imported, or from a checkpoint.

use std::path::Path;

use gigac_ir::program::Program;

use super::corpus::Corpus;
use super::length::Length;
use super::machine::Machine;
use super::{Options, make_folder, note};
use crate::checkpoint::{self, Position};
use crate::console::say;
use crate::error::{Error, Result};
use crate::metrics;
use crate::weights::{initial, transfer};

/// Fills all states, readies the output directory, and says where the run stands and how many
/// steps a whole checkpoint already holds.
///
/// # Errors
/// [`Error`] when a file is wrong or the directory cannot be written.
pub(super) fn start(
    program: &Program,
    machine: &mut Machine<'_>,
    options: &Options,
    corpus: &Corpus,
    length: &Length,
) -> Result<(Position, Option<u64>)> {
    let plan = &program.phases[0].step;
    initial::forget(plan, &mut machine.arena);
    let fresh = Position {
        steps: 0,
        tokens: 0,
        seed: options.seed.unwrap_or(0),
        settings: checkpoint::settings_digest(program),
        data: corpus.digest.clone(),
    };
    let saved = match &options.out {
        Some(run) if options.resume => resume(program, machine, run, options)?,
        _ => None,
    };
    let held = saved.as_ref().map(|saved| saved.steps);
    let position = match saved {
        Some(saved) => continued(saved, fresh, options, length)?,
        None => {
            draw(program, machine, options, fresh.seed)?;
            fresh
        }
    };
    initial::round(plan, &mut machine.arena, &mut machine.pool);
    initial::check(plan, &machine.arena, &mut machine.pool)?;
    if let Some(run) = &options.out {
        ready(run, options, position.steps)?;
    }
    Ok((position, held))
}

fn draw(program: &Program, machine: &mut Machine<'_>, options: &Options, seed: u32) -> Result<()> {
    let plan = &program.phases[0].step;
    initial::moments(plan, &mut machine.arena);
    match &options.init {
        Some(path) => transfer::import(path, plan, &mut machine.arena),
        None => {
            initial::weights(plan, &mut machine.arena, &mut machine.pool, seed);
            Ok(())
        }
    }
}

/// Loads the newest whole checkpoint, if there is one.
fn resume(
    program: &Program,
    machine: &mut Machine<'_>,
    run: &Path,
    options: &Options,
) -> Result<Option<Position>> {
    checkpoint::sweep(run)?;
    let newest = checkpoint::newest(run, |what| say(format_args!("warning: {what}")))?;
    let Some((path, index)) = newest else {
        note(options, &format!("{}: no checkpoint yet, starting from step 0", run.display()));
        return Ok(None);
    };
    let plan = &program.phases[0].step;
    checkpoint::load(&path, &index, &program.model, plan, &mut machine.arena)?;
    note(options, &format!("continuing from {}", path.display()));
    Ok(Some(index.position))
}

/// Compares a checkpoint's position with what the flags say.
fn continued(
    saved: Position,
    fresh: Position,
    options: &Options,
    length: &Length,
) -> Result<Position> {
    if options.seed.is_some_and(|seed| seed != saved.seed) {
        let what = format!("--seed {}: the run began with seed {}", fresh.seed, saved.seed);
        return Err(Error::Usage(what));
    }
    if saved.steps > length.steps {
        let what = format!("--steps {}: the run has done {} already", length.steps, saved.steps);
        return Err(Error::Usage(what));
    }
    if saved.settings != fresh.settings {
        say("warning: the model's settings changed since the checkpoint");
    }
    if saved.data != fresh.data {
        say("warning: the data changed since the checkpoint");
    }
    Ok(Position { settings: fresh.settings, data: fresh.data, ..saved })
}

/// Makes the directory, and its metrics end where the run stands.
fn ready(run: &Path, options: &Options, steps: u64) -> Result<()> {
    make_folder(run)?;
    if options.resume {
        return metrics::cut(run, steps);
    }
    set_aside(run, options)
}

/// Moves an earlier run's files out of the way of a new one.
fn set_aside(run: &Path, options: &Options) -> Result<()> {
    let ours = |name: &str| {
        [metrics::METRICS_FILE, "checkpoints", "loss.svg"].contains(&name)
            || name.starts_with(metrics::EVENTS_PREFIX)
    };
    let entries = std::fs::read_dir(run).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let entries = entries.map_err(Error::io("read", run))?;
    let old: Vec<_> = entries
        .into_iter()
        .filter(|entry| entry.file_name().to_str().is_some_and(ours))
        .map(|entry| entry.path())
        .collect();
    if old.is_empty() {
        return Ok(());
    }
    let free = (1..).map(|n| run.join(format!("previous-{n}"))).find(|path| !path.exists());
    let Some(folder) = free else { return Ok(()) };
    make_folder(&folder)?;
    for path in old {
        let target = folder.join(path.file_name().unwrap_or_default());
        std::fs::rename(&path, &target).map_err(Error::io("move", &path))?;
    }
    note(
        options,
        &format!("an earlier run is now in {} (--resume continues one)", folder.display()),
    );
    Ok(())
}
