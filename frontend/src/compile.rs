//! The door: a model text in, a checked model or all its errors out.

use std::sync::Arc;

use gigac_ir::graph::Graph;
use gigac_ir::train::Train;

use crate::check;
use crate::diagnostic::Diagnostics;
use crate::error::{Cause, Report};
use crate::source::{Source, SourceMap, Span};

/// The library that every model sees, in the language itself.
pub const PRELUDE: &str = include_str!("../../models/prelude.giga");

/// The stack of the thread that expands a model. Nesting is limited well below what it holds.
const STACK: usize = 256 << 20;

/// Which program a model is compiled to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// What `training` is in the text: true for the training step, false for evaluation and sampling.
    pub training: bool,
}

/// A checked model.
#[derive(Clone, Debug)]
pub struct Model {
    /// The forward graph with its loss terms, metrics and outputs.
    pub graph: Graph,
    /// The `train` block; `None` when the text has none.
    pub train: Option<Train>,
    /// The texts that spans point into.
    pub sources: Arc<SourceMap>,
}

/// Compiles a model text to its forward graph.
///
/// `load` reads the files named by `use`, `sets` are the values of `--set`.
///
/// # Errors
/// All errors of the text at once, each with its places and a way out.
pub fn compile(
    source: &Source,
    load: &(dyn Fn(&str) -> Result<Source, String> + Sync),
    sets: &[(String, String)],
    mode: Mode,
) -> Result<Model, Diagnostics> {
    let model = on_deep_stack(|| compile_once(source, load, sets, mode))?;
    for phase in model.train.iter().flat_map(|train| &train.phases) {
        let sets: Vec<(String, String)> = sets.iter().chain(&phase.sets).cloned().collect();
        let other = on_deep_stack(|| compile_once(source, load, &sets, mode))?;
        same_shapes(&model, &other)?;
    }
    Ok(model)
}

/// Expansion recurses with the text's own nesting; the caller's stack may be small.
fn on_deep_stack<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("frontend".into()).stack_size(STACK);
        let handle = thread.spawn_scoped(scope, body).expect("the system can start a thread");
        handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn compile_once(
    source: &Source,
    load: &(dyn Fn(&str) -> Result<Source, String> + Sync),
    sets: &[(String, String)],
    mode: Mode,
) -> Result<Model, Diagnostics> {
    let (sources, reports, checked) = check::check(source, load, sets, mode);
    let sources = Arc::new(sources);
    match checked {
        Some(checked) => Ok(Model { graph: checked.graph, train: checked.train, sources }),
        None => Err(Diagnostics::new(reports, sources)),
    }
}

/// Weights carry over from phase to phase, so parameters must keep their shapes.
fn same_shapes(model: &Model, other: &Model) -> Result<(), Diagnostics> {
    let sizes = |graph: &Graph, at: usize| -> Vec<u64> {
        let axes = graph.params[at].axes();
        axes.iter().map(|axis| graph.size(*axis)).collect()
    };
    let mut reports = Vec::new();
    for (at, param) in model.graph.params.iter().enumerate() {
        if sizes(&model.graph, at) != sizes(&other.graph, at) {
            let cause = Cause::PhaseShape { name: param.name.clone() };
            let span = param.span.unwrap_or(Span { source: 0, start: 0, end: 0 });
            reports.push(Report::new(cause, span, "another shape in a phase"));
        }
    }
    if reports.is_empty() { Ok(()) } else { Err(Diagnostics::new(reports, model.sources.clone())) }
}
