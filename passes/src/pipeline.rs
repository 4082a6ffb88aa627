//! The order of the passes: three programs from one model.

use gigac_ir::graph::{Graph, Role};
use gigac_ir::train::Settings;

use crate::chunk::{Limits, chunk};
use crate::place::Placed;
use crate::{decompose, differentiate, form, optimizer, place, simplify};

/// The programs of a model for one phase.
pub struct Programs {
    /// The training step.
    pub step: Placed,
    /// The loss without gradients.
    pub evaluate: Placed,
    /// The named outputs, when the model has any.
    pub outputs: Placed,
}

/// The joint graph: losses, metrics and gradients.
pub fn joint(training: &Graph, micro: u64) -> Graph {
    // Before: constants of a layer leave it, so that they are not saved for the way back.
    let forward = simplify::simplify(training.clone());
    chunked(simplify::simplify(differentiate::differentiate(&forward, micro)))
}

/// The training step, before kernels are formed.
pub fn step(training: &Graph, settings: &Settings, micro: u64) -> Graph {
    // Decomposition after differentiation: `top` has a gradient, its ranks have none.
    decompose::decompose(simplify::simplify(optimizer::optimize(joint(training, micro), settings)))
}

/// The part of a graph that computes some of its results.
pub fn only(graph: &Graph, wanted: impl Fn(&Role) -> bool) -> Graph {
    let mut part = graph.clone();
    let kept: Vec<usize> = (0..part.roles.len()).filter(|i| wanted(&part.roles[*i])).collect();
    part.root.results = kept.iter().map(|i| graph.root.results[*i]).collect();
    part.roles = kept.iter().map(|i| graph.roles[*i].clone()).collect();
    decompose::decompose(chunked(simplify::simplify(part)))
}

/// Large values in chunks; what a chunk shares with the others then leaves the loop.
fn chunked(graph: Graph) -> Graph {
    simplify::simplify(chunk(graph, &Limits::default()))
}

/// Compiles a model's graphs (with and without `training`) to plans.
/// Kernels are named after their plan, with `prefix` in front.
pub fn programs(
    training: &Graph,
    evaluating: &Graph,
    settings: &Settings,
    micro: u64,
    prefix: &str,
) -> Programs {
    let finish = |graph: Graph, name: &str| {
        place::place(form::form(graph, &format!("{prefix}{name}")), name)
    };
    let is_output = |role: &Role| matches!(role, Role::Output(_));
    Programs {
        step: finish(step(training, settings, micro), "step"),
        evaluate: finish(only(evaluating, |role| !is_output(role)), "evaluate"),
        outputs: finish(only(evaluating, is_output), "outputs"),
    }
}
