//! Which weights have a copy in bf16.
//!
//! States lie at the same addresses in all programs of a model, and every program may update or read
//! any of them. So what has a copy is decided once, on the forward graphs of all programs of all phases as the
//! model says them, before any pass; [`Param::rounded`](gigac_ir::graph::Param::rounded) notes it, and this
//! pass and the optimizer obey.

use std::collections::BTreeSet;

use gigac_ir::graph::{DType, Graph, Op, ParamId, Slot};

use super::choose;
use super::facts::Facts;
use crate::pipeline::{Source, is_output, part};
use crate::simplify::dead;

/// The parameters that a phase reads rounded: what its programs would round if everything had a copy.
pub fn copies(source: Source<'_>) -> BTreeSet<ParamId> {
    if source.settings.precision.compute != DType::Bf16 {
        return BTreeSet::new();
    }
    let loss = |graph| part(graph, |role| !is_output(role));
    let programs =
        [loss(source.training), loss(source.evaluating), part(source.evaluating, is_output)];
    programs.into_iter().flat_map(read_rounded).collect()
}

/// Notes at the parameters of a graph which of them have a copy.
pub fn note_copies(graph: &mut Graph, copies: &BTreeSet<ParamId>) {
    for (i, param) in graph.params.iter_mut().enumerate() {
        param.rounded = copies.contains(&ParamId(i as u32));
    }
}

fn read_rounded(forward: Graph) -> Vec<ParamId> {
    let mut graph = dead(forward);
    graph.params.iter_mut().for_each(|param| param.rounded = true);
    let rounded = choose::rounded(&graph, &Facts::of(&graph));
    let weights = graph.root.nodes.iter().filter_map(|node| match node.op {
        Op::Param(param, Slot::Weight) => rounded.contains(&node.results[0]).then_some(param),
        _ => None,
    });
    weights.collect()
}
