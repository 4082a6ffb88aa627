//! The certificate that a step depends on nothing that the host does while it runs.
//!
//! A plan has no branches, no trip counts and no addresses that data decide, and waits for nothing
//! but events of its own: its format has no words for more, and the verifier has shown that whatever
//! it reads is a state, an input of the step, or written by the plan before. What remains to be shown
//! is that nothing of the *training* step was left out and would have to be done by the host:
//!
//! - every state of every parameter that is trained is written by the plan, the copies of weights in
//!   bf16 too;
//! - the learning rate is computed in it: the update of every weight reads the number of the step;
//! - the clip factor too: every update reads the global norm;
//! - and what to do about gradients that are not finite: every update reads their number, when the
//!   step may have to be skipped;
//! - the loss is one number, averaged over all micro-batches;
//! - the inputs are known before the step: data, counters, the seed. (Their list is printed.)
//!
//! "Reads" means by way of launches, whatever lies between: see `flow.rs`.

mod flow;

use std::ops::Range;

use gigac_ir::graph::{Feed, Role, Slot};
use gigac_ir::plan::Plan;
use gigac_ir::train::{OnNan, Schedule, Settings};
use thiserror::Error;

use crate::pass::{Need, Pass, Report, Run, Scope};
use crate::place::Placed;
use flow::Flow;

/// The pass.
pub const DESYNC: Pass = Pass {
    name: "desync",
    about: "certifies that nothing in a step depends on the host",
    need: Need::Necessary("it changes nothing"),
    scope: Scope::Step,
    run: Run::Plan(|placed, context| {
        let report = match certify(&placed, context.settings) {
            Ok(certificate) => Report::new().note(certificate.to_string()),
            Err(found) => found.iter().fold(Report::new(), |r, d| r.note(d.to_string())),
        };
        (placed, report)
    }),
};

/// What a step takes from outside, all of it known before it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Names of the inputs.
    pub inputs: Vec<String>,
    /// Number of states that the step updates.
    pub states: usize,
    /// What is decided on the device.
    pub decisions: Vec<&'static str>,
}

/// Something that the host would have to do.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Dependence {
    /// A trained state that the plan does not write.
    #[error("the update of {slot:?} of `{name}` is left to the host")]
    Update {
        /// Index of the parameter.
        param: usize,
        /// Its name.
        name: String,
        /// The state.
        slot: Slot,
    },
    /// An update that does not read what decides about it.
    #[error(
        "the update of {slot:?} of `{name}` does not read {what}: the host would have to {task}"
    )]
    Decision {
        /// Index of the parameter.
        param: usize,
        /// Its name.
        name: String,
        /// The state.
        slot: Slot,
        /// What it should read.
        what: &'static str,
        /// What would be left to do.
        task: &'static str,
    },
    /// The plan gives no loss.
    #[error("the plan gives no loss: the host would have to average it")]
    Loss,
}

impl Dependence {
    /// The parameter that is concerned.
    pub fn param(&self) -> Option<usize> {
        match self {
            Self::Update { param, .. } | Self::Decision { param, .. } => Some(*param),
            Self::Loss => None,
        }
    }
}

/// Shows that a training step depends on nothing that the host does while it runs.
///
/// # Errors
/// All that the host would have to do.
pub fn certify(placed: &Placed, settings: &Settings) -> Result<Certificate, Vec<Dependence>> {
    let plan = &placed.plan;
    let mut found = Vec::new();
    if plan.result(&Role::Loss).is_none() {
        found.push(Dependence::Loss);
    }
    let mut decisions = vec!["loss"];
    let mut need = |flow: Flow, slots: &[Slot], what: &'static str, task: &'static str| {
        let lost = lost(plan, slots, |from, to| flow.reaches(from, to));
        found.extend(lost.map(|(param, slot)| {
            let name = plan.params[param].name.clone();
            Dependence::Decision { param, name, slot, what, task }
        }));
    };
    if !matches!(settings.schedule, Schedule::Constant { .. }) {
        let step = Flow::of_input(placed, &Feed::Step);
        need(
            step,
            &[Slot::Weight, Slot::Rounded],
            "the number of the step",
            "set the learning rate",
        );
        decisions.push("schedule");
    }
    if settings.clip.is_some() {
        let norm = Flow::of_result(placed, &Role::GradNorm);
        need(norm, &Slot::ALL, "the global norm", "clip the gradients");
        decisions.push("clip");
    }
    if matches!(settings.on_nan, OnNan::Skip | OnNan::Halt) {
        let bad = Flow::of_result(placed, &Role::NanGradients);
        let what = "the number of gradients that are not finite";
        need(bad, &Slot::ALL, what, "decide whether to skip the step");
        decisions.push("NaN");
    }
    let written = flow::written(placed);
    let left = lost(plan, &Slot::ALL, |from, to| written.iter().any(|w| w.0 < to && from < w.1));
    found.extend(left.map(|(param, slot)| {
        let name = plan.params[param].name.clone();
        Dependence::Update { param, name, slot }
    }));
    if !found.is_empty() {
        return Err(found);
    }
    let inputs = plan.inputs.iter().map(|input| match input.feed {
        // Columns of the data, and numbers that a run knows from its beginning.
        Feed::Data | Feed::Optional(_) | Feed::Step | Feed::Steps | Feed::Seed => {
            input.name.clone()
        }
    });
    let states = plan.states.iter().filter(|s| !plan.params[s.param as usize].frozen).count();
    Ok(Certificate { inputs: inputs.collect(), states, decisions })
}

/// The trained states of some slots for whose bytes a condition does not hold.
fn lost<'p>(
    plan: &'p Plan,
    slots: &'p [Slot],
    holds: impl Fn(u64, u64) -> bool + 'p,
) -> impl Iterator<Item = (usize, Slot)> + 'p {
    plan.states.iter().filter_map(move |state| {
        let param = &plan.params[state.param as usize];
        let Range { start, end } = plan.extent(state);
        let asked = !param.frozen && slots.contains(&state.slot) && param.elements() > 0;
        (asked && !holds(start, end)).then_some((state.param as usize, state.slot))
    })
}

impl std::fmt::Display for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "nothing depends on it: {} and the updates of {} states are decided on the device; known \
             before the step: {}",
            self.decisions.join(", "),
            self.states,
            self.inputs.join(", ")
        )
    }
}
