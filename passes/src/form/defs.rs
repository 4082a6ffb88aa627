//! Who defines a value, and in which region.

use std::collections::HashMap;

use gigac_ir::graph::{Graph, Node, Op, Region, ValueId};

/// What a value is.
#[derive(Clone, Copy)]
pub(crate) enum Def<'g> {
    /// A result of a node.
    Node(&'g Node),
    /// The turn of the repeat at this nesting depth (0: outermost).
    Turn(u32),
    /// A carried value or a slice of a stacked one; an argument of a score function.
    Argument,
}

/// Definitions of all values of a graph, nested regions included.
pub(crate) struct Defs<'g> {
    map: HashMap<ValueId, Def<'g>>,
}

impl<'g> Defs<'g> {
    /// Collects the definitions of a graph.
    pub(crate) fn new(graph: &'g Graph) -> Self {
        let mut defs = Self { map: HashMap::new() };
        defs.region(&graph.root, 0);
        defs
    }

    fn region(&mut self, region: &'g Region, depth: u32) {
        for node in &region.nodes {
            self.map.extend(node.results.iter().map(|r| (*r, Def::Node(node))));
            match (&node.op, &node.region) {
                (Op::Repeat { .. }, Some(body)) => {
                    self.map.insert(body.args[0], Def::Turn(depth));
                    self.map.extend(body.args[1..].iter().map(|a| (*a, Def::Argument)));
                    self.region(body, depth + 1);
                }
                (_, Some(score)) => {
                    self.map.extend(score.args.iter().map(|a| (*a, Def::Argument)));
                    self.region(score, depth);
                }
                (_, None) => {}
            }
        }
    }

    /// The definition of a value.
    pub(crate) fn get(&self, value: ValueId) -> Def<'g> {
        *self.map.get(&value).unwrap_or_else(|| panic!("{value} has no definition"))
    }

    /// The node that defines a value.
    pub(crate) fn node(&self, value: ValueId) -> Option<&'g Node> {
        match self.get(value) {
            Def::Node(node) => Some(node),
            _ => None,
        }
    }
}

/// How kernels treat an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Memory that exists before the step runs: parameters, inputs.
    State,
    /// Computed element by element, where it is used.
    Inline,
    /// Reads its operand at other positions; costs nothing.
    View,
    /// A reduction.
    Reduce,
    /// A contraction that becomes a matrix product.
    Contract,
    /// A sum into positions that the data choose.
    Scatter,
    /// Pieces end to end.
    Cat,
    /// Attention, or its gradient.
    Attend,
    /// A loop.
    Repeat,
}

/// The class of an operation.
pub(crate) fn class(op: &Op) -> Class {
    match op {
        Op::Param(..) | Op::Input(_) => Class::State,
        Op::Rename { .. } | Op::Split { .. } | Op::Merge { .. } | Op::Slice { .. } => Class::View,
        Op::Reduce { .. } => Class::Reduce,
        Op::Dot { axes } if axes.is_empty() => Class::Inline,
        Op::Dot { .. } => Class::Contract,
        Op::Scatter { .. } => Class::Scatter,
        Op::Cat { .. } => Class::Cat,
        Op::Repeat { .. } => Class::Repeat,
        Op::Attend { .. } | Op::AttendGrad { .. } => Class::Attend,
        Op::Top { .. } => panic!("`top` is decomposed before kernels are formed"),
        _ => Class::Inline,
    }
}
