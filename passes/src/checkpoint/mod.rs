//! Rematerialisation: what the way forward keeps for the way back, and what is computed again.
//!
//! A training step keeps, for every layer, what the gradients of the layer will read. When that
//! does not fit into the memory that a step may have, some of it is dropped and computed again
//! just before it is read. The pass chooses what, so that the step takes the least time:
//!
//! 1. [`pair`] finds the loops and states the problem of one of their layers ([`problem`]): stacks
//!    with their bytes, makers with their seconds on the target, and what each maker needs.
//! 2. [`choices`] lists what a layer can do: all sets of stacks, kept on the device or, when that is
//!    allowed, on the host, without those that another beats in both bytes and seconds.
//! 3. `exact` finds how many layers do what ([`mix`]): the best assignment, or one with a bound
//!    that none can beat.
//! 4. [`apply`] rewrites the loops: layers that do the same are a segment, and whole kernels are
//!    cloned, so that every bit of a gradient stays what it was.
//! 5. Lifetimes decide what all this is worth, so the result is placed, and when it is too large
//!    the choice is made again with fewer bytes.
//!
//! Runs only when a limit of memory is given and keeping everything is beyond it. The work does not
//! depend on the number of layers. Tests: beside each step, and `passes/tests/checkpoint.rs`.

pub mod apply;
pub mod choices;
mod exact;
pub mod mix;
pub mod pair;
pub mod problem;
pub mod strategy;

use gigac_cost::target::Device;

use crate::form::Formed;
use crate::merge::as_switched;
use crate::options::Options;
use crate::pass::{Context, Need, Pass, Report, Run, Scope};
use crate::place::arenas as arenas_of;
use crate::reuse::reuse;
use mix::{Layers, Mixes, Share};
use pair::Pair;

pub use apply::Part;
pub use problem::Kept;
pub use strategy::{Activation, Comparison, Outcome, Point, compare};

/// The pass.
pub const CHECKPOINT: Pass = Pass {
    name: "checkpoint",
    about: "what does not fit into memory is computed again on the way back",
    need: Need::Optional,
    scope: Scope::Step,
    run: Run::Formed(run),
};

/// How often the choice is made again after placing showed what it is worth.
const ROUNDS: usize = 8;

fn run(formed: Formed, context: &Context<'_>) -> (Formed, Report) {
    match context.options.memory {
        None => (formed, Report::new()),
        Some(limit) => {
            let options = context.options;
            let (formed, fitted) = fit(formed, options, limit, options.offload);
            (formed, fitted.report(limit))
        }
    }
}

/// The loops of a program and what their layers can do.
#[derive(Clone, Debug)]
pub struct Program {
    pairs: Vec<Pair>,
    layers: Vec<Layers>,
}

impl Program {
    /// The reduced problem of a formed program on a device, with or without the host's memory.
    pub fn of(formed: &Formed, device: &Device, offload: bool) -> Self {
        let pairs = pair::pairs(formed, device);
        let layers = pairs.iter().map(|pair| Layers {
            choices: choices::choices(&pair.problem, offload),
            count: pair.layers,
            runs: pair.runs,
        });
        Self { layers: layers.collect(), pairs }
    }

    /// Bytes of all stacks on the device when everything is kept there.
    pub fn all_bytes(&self) -> u64 {
        let of =
            |pair: &Pair| pair.layers * pair.problem.bytes(&Kept::all(pair.problem.stacks.len()));
        self.pairs.iter().map(of).sum()
    }

    /// Bytes of all stacks on the device when as little as possible is kept there.
    pub fn least_bytes(&self) -> u64 {
        self.layers.iter().map(|l| l.count * l.choices.list[0].bytes).sum()
    }

    /// The least seconds within so many bytes of stacks, and a bound below the seconds of any
    /// assignment.
    pub fn solve(&self, bytes: u64) -> Option<(Mixes, f64)> {
        exact::solve(&self.layers, bytes)
    }

    /// What each pair's layers keep in a mixture: the layers that the way back meets first keep
    /// more, so that their stacks are free when the others compute again.
    pub fn parts(&self, mixes: &Mixes) -> Vec<Vec<Part>> {
        let of = |(layers, shares): (&Layers, &Vec<Share>)| {
            let part = |share: &Share| {
                let choice = &layers.choices.list[share.choice];
                let (kept, host) = (choice.kept.clone(), choice.host.clone());
                Part { layers: share.layers, kept, host }
            };
            shares.iter().map(part).collect()
        };
        self.layers.iter().zip(&mixes.list).map(of).collect()
    }

    /// The program with its layers told what to keep.
    pub fn apply(&self, mut formed: Formed, parts: &[Vec<Part>]) -> Formed {
        for (pair, parts) in self.pairs.iter().zip(parts) {
            apply::apply(&mut formed, pair, parts);
        }
        formed
    }
}

/// What [`fit`] came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// Bytes of the arena.
    pub arena: u64,
    /// Bytes of the host arena.
    pub host: u64,
    /// What was dropped; none when everything is kept.
    pub chosen: Option<Chosen>,
}

/// A choice that was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// Bytes of the arena when everything is kept.
    pub all: u64,
    /// Bytes of stacks within which the choice is the best.
    pub budget: u64,
    /// The choice.
    pub mixes: Mixes,
    /// No assignment within these bytes adds fewer seconds.
    pub bound: f64,
}

/// The program that takes the least time among those whose arena is within a limit; the smallest
/// one when none is.
pub fn fit(formed: Formed, options: &Options, limit: u64, offload: bool) -> (Formed, Fitted) {
    let (all, _) = arenas(&formed, options);
    let of = |offload| Program::of(&formed, options.device(), offload);
    let program = of(false);
    if all <= limit || program.pairs.is_empty() {
        return (formed, Fitted { arena: all, host: 0, chosen: None });
    }
    let plain = fit_program(&formed, &program, options, (all, limit));
    if !offload {
        return plain;
    }
    // What passes through takes slots, of which the reduced problem knows nothing: where layers are
    // few, they may be more than what is won.
    let wider = fit_program(&formed, &of(true), options, (all, limit));
    let [(a, s), (b, t)] = [&plain.1, &wider.1].map(|fitted| fitted.worth(limit));
    if a.cmp(&b).then(s.total_cmp(&t)).is_le() { plain } else { wider }
}

/// The same for the choices of one program, of which keeping everything takes `all` bytes.
fn fit_program(
    formed: &Formed,
    program: &Program,
    options: &Options,
    (all, limit): (u64, u64),
) -> (Formed, Fitted) {
    let least = program.least_bytes();
    let mut best: Option<(Formed, Fitted)> = None;
    // Too many bytes, and few enough.
    let (mut high, mut low) = (program.all_bytes(), least);
    let mut budget = high.saturating_sub(all - limit).max(least);
    for _ in 0..ROUNDS {
        let (mixes, bound) = program.solve(budget).expect("the least bytes are within the budget");
        let tried = program.apply(formed.clone(), &program.parts(&mixes));
        let (arena, host) = arenas(&tried, options);
        let used = mixes.bytes;
        let fitted = Fitted { arena, host, chosen: Some(Chosen { all, budget, mixes, bound }) };
        if arena <= limit {
            low = used;
            best = Some((tried, fitted));
            // What is left of the limit may be kept after all.
            budget = (used + (limit - arena)).min(high.saturating_sub(1));
        } else {
            high = used;
            if used == least {
                return best.unwrap_or((tried, fitted));
            }
            budget = used.saturating_sub(arena - limit).max(low);
        }
        if budget <= low && best.is_some() {
            break;
        }
    }
    best.unwrap_or_else(|| {
        let (mixes, bound) = program.solve(least).expect("the least bytes are within the budget");
        let smallest = program.apply(formed.clone(), &program.parts(&mixes));
        let (arena, host) = arenas(&smallest, options);
        let chosen = Chosen { all, budget: least, mixes, bound };
        (smallest, Fitted { arena, host, chosen: Some(chosen) })
    })
}

/// Bytes of the arenas of device and host when the passes that follow have run; `together` takes no
/// more.
fn arenas(formed: &Formed, options: &Options) -> (u64, u64) {
    arenas_of(&reuse(as_switched(formed.clone(), options)))
}

impl Chosen {
    /// How far the choice may be from the best assignment, as a part of what it adds.
    pub fn gap(&self) -> f64 {
        if self.mixes.seconds > 0.0 { 1.0 - self.bound.max(0.0) / self.mixes.seconds } else { 0.0 }
    }
}

impl Fitted {
    /// Bytes beyond a limit, and seconds added: the less, the better.
    fn worth(&self, limit: u64) -> (u64, f64) {
        let seconds = self.chosen.as_ref().map_or(0.0, |chosen| chosen.mixes.seconds);
        (self.arena.saturating_sub(limit), seconds)
    }

    fn report(&self, limit: u64) -> Report {
        let report = Report::new();
        let Some(chosen) = &self.chosen else { return report };
        let seconds = chosen.mixes.seconds;
        let report = report.note(format!("{} bytes instead of {}", self.arena, chosen.all));
        let report = match self.host {
            0 => report,
            host => report.note(format!("{host} bytes on the host")),
        };
        let report = report
            .note(format!("{seconds:.3e} s added, at most {:.2} % too much", 100.0 * chosen.gap()));
        if self.arena <= limit {
            report
        } else {
            report.note(format!("no choice fits into {limit} bytes"))
        }
    }
}
