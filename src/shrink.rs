//! Small configurations: a model with its axes halved until interpreting a step takes moments.

use gigac_passes::price;

use crate::compile::{Request, tokens_of};
use crate::failure::Failure;

/// Operations of a step, by the field's formula, that are few enough.
const FEW: f64 = 1e6;
/// Axes are not made shorter than this.
const SHORTEST: u64 = 2;

/// Halves the axes of a model, the longest first, as long as the model still checks and each
/// halving saves something. Gives the `NAME=VALUE` pairs that do it.
///
/// # Errors
/// Mistakes of the model as it stands.
pub(crate) fn shrink(request: &Request) -> Result<Vec<(String, String)>, Failure> {
    let mut sets: Vec<(String, String)> = Vec::new();
    let mut stuck: Vec<String> = Vec::new();
    loop {
        let graph = request.model(&sets, true)?.graph;
        if flops(&graph) <= FEW {
            return Ok(sets);
        }
        let free = graph.axes.iter().filter(|a| a.size > SHORTEST && !stuck.contains(&a.name));
        // Of equal sizes the one declared first: others may follow it.
        let Some(axis) = free.rev().max_by_key(|a| a.size) else { return Ok(sets) };
        let mut tried = sets.clone();
        tried.retain(|(name, _)| *name != axis.name);
        tried.push((axis.name.clone(), axis.size.div_ceil(2).to_string()));
        match request.model(&tried, true) {
            Ok(model) if flops(&model.graph) < flops(&graph) => sets = tried,
            _ => stuck.push(axis.name.clone()),
        }
    }
}

fn flops(graph: &gigac_ir::graph::Graph) -> f64 {
    price::price(graph).flops_per_token * tokens_of(graph) as f64
}
