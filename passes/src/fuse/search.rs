//! The search: rules are applied to an e-graph until nothing is new or a limit is reached.

use std::time::Duration;

use egg::{Rewrite, Runner, SimpleScheduler, StopReason};
use gigac_ir::graph::Graph;

use super::facts::{Context, Terms};
use super::rules::{self, Set};
use super::term::Term;

/// Why no rule was applied any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// No rule found anything new: all equal terms that the rules know are there.
    Saturated,
    /// The e-graph has more nodes than the limit.
    Nodes,
    /// The rules were applied as often as the limit says.
    Iterations,
}

/// The rules of the sets that may be used, as egg wants them.
pub(crate) fn rewrites(exact: bool) -> Vec<Rewrite<Term, Context>> {
    let rules = rules::all();
    let allowed = rules.iter().filter(|rule| !exact || rule.set == Set::Exact);
    allowed.map(rules::Rule::rewrite).collect()
}

/// What a search did.
pub(crate) struct Searched {
    /// All terms.
    pub(crate) terms: Terms,
    /// Why it stopped.
    pub(crate) stop: Stop,
    /// Times that all rules were applied.
    pub(crate) iterations: usize,
    /// How often each rule found something new.
    pub(crate) applied: Vec<(String, usize)>,
}

/// Applies rules until nothing is new, or there are more than `nodes` nodes, or `iterations` times.
pub(crate) fn saturate(
    terms: Terms,
    rewrites: &[Rewrite<Term, Context>],
    nodes: usize,
    iterations: usize,
) -> Searched {
    let runner = Runner::<Term, Context>::new(Context::new(Graph::new("")))
        .with_egraph(terms)
        .with_scheduler(SimpleScheduler)
        .with_node_limit(nodes)
        .with_iter_limit(iterations)
        .with_time_limit(Duration::MAX)
        .run(rewrites);
    let stop = match runner.stop_reason {
        Some(StopReason::Saturated) => Stop::Saturated,
        Some(StopReason::NodeLimit(_)) => Stop::Nodes,
        Some(StopReason::IterationLimit(_)) => Stop::Iterations,
        other => panic!("the search has no such limit: {other:?}"),
    };
    let mut applied = std::collections::BTreeMap::<String, usize>::new();
    for (name, count) in runner.iterations.iter().flat_map(|i| &i.applied) {
        *applied.entry(name.to_string()).or_default() += count;
    }
    Searched {
        terms: runner.egraph,
        stop,
        iterations: runner.iterations.len(),
        applied: applied.into_iter().collect(),
    }
}
