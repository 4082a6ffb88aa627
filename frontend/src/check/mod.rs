//! From tree to graph: names, axes, kinds, templates.
//!
//! The checker expands the model top-down with a [`Builder`]: constants are computed exactly, functions are expanded at
//! each call, repeated layers become regions. An error makes a value unknown and is not reported again by what uses it,
//! so that one run finds all independent errors.

mod call;
mod expr;
mod graph;
mod index;
mod layer;
mod mention;
mod model;
mod param;
mod pointwise;
mod primitive;
mod result;
mod scope;
mod set;
mod stored;
mod train;
mod value;

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use gigac_ir::graph::{AxisId, Builder, Graph, ParamId, ValueId};
use gigac_ir::train::Train;

use crate::error::Report;
use crate::source::{SourceMap, Span};
use crate::syntax::ast::Function;
use crate::{Mode, Source};
use call::{Origin, Template};
use layer::DeclaredLayer;
use scope::{Frame, Global, Table};
use set::Sets;
use value::{Affine, Eval, Failed};

/// Reads a file that a model uses.
pub(crate) type Loader<'a> = &'a (dyn Fn(&str) -> Result<Source, String> + Sync);

/// What expansion keeps track of.
pub(crate) struct Checker {
    builder: Builder,
    sources: SourceMap,
    reports: Vec<Report>,
    mode: Mode,

    // Declarations.
    tables: Vec<Table>,
    functions: Vec<Template>,
    layers: Vec<DeclaredLayer>,
    globals: Vec<Global>,
    /// Where top-level `let`s stand, for help with names used too early.
    let_lines: HashMap<String, Span>,
    /// Names in statements that could not be read: unknown for a reason that was reported.
    poisoned: HashSet<String>,
    sets: Sets,
    /// What `--set train.…` could have meant.
    train_names: Vec<String>,

    // Calls under way.
    frames: Vec<Frame>,
    calls: Vec<(Span, String)>,
    active: Vec<Rc<Function>>,
    origins: Vec<Origin>,
    active_layers: Vec<usize>,
    /// Repeated layers under way, and their turn.
    turns: Vec<(AxisId, ValueId)>,

    // Facts about values.
    param_values: HashMap<ParamId, ValueId>,
    affine: HashMap<ValueId, Affine>,
    /// Quotients of an int and a positive whole number, for `floor`.
    quotients: HashMap<ValueId, (ValueId, i64)>,
    /// Axes made by calls, by name and size.
    local_axes: HashMap<(String, u64), Vec<AxisId>>,
    used_params: HashSet<ParamId>,
    /// Names in branches not taken.
    mentioned: HashSet<String>,

    // Chance.
    /// Seed and step, once something needs them.
    run_inputs: Option<[ValueId; 2]>,
    noises: u32,

    // Results.
    losses: u32,
    /// What stands after `per`, with its place.
    divisors: Vec<(ValueId, Span)>,

    // Limits.
    steps: u32,
    nesting: u32,
    exploded: bool,
}

/// A checked model.
pub(crate) struct Checked {
    pub(crate) graph: Graph,
    pub(crate) train: Option<Train>,
}

impl Checker {
    fn new(sources: SourceMap, mode: Mode, sets: Sets) -> Checker {
        Checker {
            builder: Builder::new(Graph::new("model")),
            sources,
            reports: Vec::new(),
            mode,
            tables: vec![Table::default()],
            functions: Vec::new(),
            layers: Vec::new(),
            globals: Vec::new(),
            let_lines: HashMap::new(),
            poisoned: HashSet::new(),
            sets,
            train_names: Vec::new(),
            frames: Vec::new(),
            calls: Vec::new(),
            active: Vec::new(),
            origins: Vec::new(),
            active_layers: Vec::new(),
            turns: Vec::new(),
            param_values: HashMap::new(),
            affine: HashMap::new(),
            quotients: HashMap::new(),
            local_axes: HashMap::new(),
            used_params: HashSet::new(),
            mentioned: HashSet::new(),
            run_inputs: None,
            noises: 0,
            losses: 0,
            divisors: Vec::new(),
            steps: 0,
            nesting: 0,
            exploded: false,
        }
    }

    /// Puts an error on the list, with the calls on the way to it.
    fn report(&mut self, mut report: Report) {
        report.calls.clone_from(&self.calls);
        self.reports.push(report);
    }

    /// Reports an error; the value it concerns is unknown from here on.
    fn fail<T>(&mut self, report: Report) -> Eval<T> {
        self.report(report);
        Err(Failed)
    }
}

pub(crate) use model::check;
