//! The order of the passes, and the three programs that it makes of a model.
//!
//! Adding a pass: `docs/adding-a-pass.md`.

use gigac_ir::graph::{Graph, Role};
use gigac_ir::train::Settings;

use crate::cats::{CATS, STACKS};
use crate::checkpoint::CHECKPOINT;
use crate::chunk::CHUNK;
use crate::decompose::DECOMPOSE;
use crate::desync::DESYNC;
use crate::differentiate::DIFFERENTIATE;
use crate::driver::{Alone, Observer, drive};
use crate::form::FORM;
use crate::fuse::FUSE;
use crate::merge::MERGE;
use crate::optimizer::OPTIMIZER;
use crate::options::Options;
use crate::pass::{Context, Pass, Purpose, Stage};
use crate::place::{PLACE, Placed};
use crate::precision::PRECISION;
use crate::reuse::REUSE;
use crate::scales::SCALES;
use crate::simplify::{DEAD, FOLD, HOIST};
use crate::split_products::SPLIT_PRODUCTS;
use crate::split_sums::SPLIT_SUMS;
use crate::together::TOGETHER;

/// All passes in their order. A pass may stand in it several times under one name.
pub const PIPELINE: &[Pass] = &[
    // --- The forward graph, as the model says it.
    // Constants of a layer leave it before differentiation: what stays inside would be saved or
    // computed again on the way back. Folding comes after, when equal constants stand together;
    // what both leave behind is dead.
    HOIST,
    FOLD,
    DEAD,
    // After folding, which makes equal values one, so that a search sees them as one; before
    // differentiation, so that the way back is that of the cheaper spelling.
    FUSE,
    // Before differentiation: the way back of what is moved moves with it.
    CATS,
    HOIST,
    FOLD,
    DEAD,
    //
    // --- The joint graph: losses, metrics, gradients. Training only.
    DIFFERENTIATE,
    // The way back clones what it computes again: equal values meet, and constants that the
    // rules of gradients built leave the loops.
    HOIST,
    FOLD,
    DEAD,
    //
    // Of cotangents, before they are rounded.
    SCALES,
    // The joint graph shows which values the way back reads, and which products are gradients of
    // parameters; chunks then carry and stack what it has rounded.
    PRECISION,
    //
    // Before the optimizer, whose sums over all gradients would stand between products and losses.
    CHUNK,
    // What a chunk shares with the others leaves the loop.
    HOIST,
    FOLD,
    DEAD,
    //
    // --- The step graph: what the host does elsewhere is part of the program. Training only.
    OPTIMIZER,
    // The schedule and the clip factor are the same for all parameters.
    HOIST,
    FOLD,
    DEAD,
    // After differentiation: `top` has a gradient, the ranks that it becomes have none.
    DECOMPOSE,
    // After differentiation: the gradient of a stack is slices, that of a choice sums.
    STACKS,
    // After decomposition, which makes sums.
    SPLIT_SUMS,
    // Of the products that are left: attention and what decomposition removes are none any more.
    SPLIT_PRODUCTS,
    //
    // --- Kernels and launches.
    FORM,
    // Whole kernels are computed again, so that every bit stays.
    CHECKPOINT,
    // After the choice of what to compute again, which is one of single products.
    MERGE,
    // After all that makes or moves kernels: it holds for one order of launches.
    REUSE,
    // After `reuse`, which says what lies over what: launches that conflict keep their order. Before
    // `place`, so that what is launched together does not share temporary memory.
    TOGETHER,
    //
    // --- The plan.
    PLACE,
    // Of the finished plan: what is certified is what runs.
    DESYNC,
];

/// The pass of a name.
pub fn find(name: &str) -> Option<&'static Pass> {
    PIPELINE.iter().find(|p| p.name == name)
}

/// The position of the first pass of a name.
///
/// # Panics
/// When there is none: names in code are right.
pub fn position(name: &str) -> usize {
    let found = PIPELINE.iter().position(|p| p.name == name);
    found.unwrap_or_else(|| panic!("there is no pass `{name}`"))
}

/// What is compiled: one phase of a model.
#[derive(Clone, Copy, Debug)]
pub struct Source<'m> {
    /// The forward graph with `training`.
    pub training: &'m Graph,
    /// The forward graph without it.
    pub evaluating: &'m Graph,
    /// The `train` block.
    pub settings: &'m Settings,
    /// Micro-batches of one step.
    pub micro: u64,
    /// Stands in front of the names of kernels.
    pub prefix: &'m str,
}

/// The programs of a model for one phase.
pub struct Programs {
    /// The training step.
    pub step: Placed,
    /// The loss without gradients.
    pub evaluate: Placed,
    /// The named outputs; empty when the model has none.
    pub outputs: Placed,
}

/// Compiles a model to plans.
pub fn programs(source: Source<'_>, options: &Options, observer: &mut dyn Observer) -> Programs {
    let mut finish = |purpose| match compile(source, purpose, options, PIPELINE.len(), observer) {
        Stage::Placed(placed) => placed,
        _ => unreachable!("the list ends with a plan"),
    };
    Programs {
        step: finish(Purpose::Step),
        evaluate: finish(Purpose::Evaluate),
        outputs: finish(Purpose::Outputs),
    }
}

/// Compiles one program of a model by the passes before a position of the list.
pub fn compile(
    source: Source<'_>,
    purpose: Purpose,
    options: &Options,
    end: usize,
    observer: &mut dyn Observer,
) -> Stage {
    let graph = match purpose {
        Purpose::Step => source.training.clone(),
        Purpose::Evaluate => part(source.evaluating, |role| !is_output(role)),
        Purpose::Outputs => part(source.evaluating, is_output),
    };
    let Source { settings, micro, prefix, .. } = source;
    let context = Context { purpose, settings, micro, prefix, options };
    drive(&PIPELINE[..end], 0, Stage::Graph(graph), &context, observer)
}

/// One program of a model as a graph, with default options: what the first pass of a name takes.
///
/// # Panics
/// When that pass comes after kernels are formed.
pub fn graph_before(source: Source<'_>, purpose: Purpose, before: &str) -> Graph {
    match compile(source, purpose, &Options::default(), position(before), &mut Alone) {
        Stage::Graph(graph) => graph,
        _ => panic!("`{before}` does not take a graph"),
    }
}

pub(crate) fn is_output(role: &Role) -> bool {
    matches!(role, Role::Output(_))
}

/// The part of a graph that gives some of its results.
pub(crate) fn part(graph: &Graph, wanted: impl Fn(&Role) -> bool) -> Graph {
    let mut part = graph.clone();
    let kept = || graph.results().filter(|(role, _)| wanted(role));
    part.root.results = kept().map(|(_, value)| value).collect();
    part.roles = kept().map(|(role, _)| role.clone()).collect();
    part
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pass::Run;

    /// Graphs, then kernels, then plans; and one definition for each name.
    #[test]
    fn forms_follow_each_other() {
        let form = |run: &Run| match run {
            Run::Graph(_) => ("graph", "graph"),
            Run::Form(_) => ("graph", "formed"),
            Run::Formed(_) => ("formed", "formed"),
            Run::Place(_) => ("formed", "plan"),
            Run::Plan(_) => ("plan", "plan"),
        };
        let mut now = "graph";
        for pass in PIPELINE {
            let (from, to) = form(&pass.run);
            assert_eq!(from, now, "`{}`", pass.name);
            now = to;
            let first = find(pass.name).expect("it is in the list");
            assert_eq!((first.about, first.need, first.scope), (pass.about, pass.need, pass.scope));
        }
        assert_eq!(now, "plan");
    }
}
