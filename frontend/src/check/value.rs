//! What an expression can stand for while a model is expanded.

use gigac_ir::graph::{AxisId, ValueId};

use crate::number::Number;
use crate::source::Span;

/// A value at expansion time.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// Known beforehand. Exact whole numbers are ints, all others reals.
    Number(Number),
    Bool(bool),
    /// A value of the graph.
    Tensor(ValueId),
    /// A value with an axis of size 0; it never reaches the graph.
    Empty {
        axes: Vec<AxisId>,
        kind: Kind,
    },
    Tuple(Vec<Value>),
}

/// The three kinds of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Real,
    Int,
    Bool,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Real => "a real",
            Kind::Int => "an int",
            Kind::Bool => "a bool",
        }
    }
}

/// An error that is already on the list; whatever needed the value fails quietly.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed;

/// The result of expanding something.
pub(crate) type Eval<T = Value> = Result<T, Failed>;

/// A value with the text it comes from.
#[derive(Clone, Debug)]
pub(crate) struct Operand {
    pub(crate) value: Value,
    pub(crate) span: Span,
}

/// `start + stride · pos(axis)`
#[derive(Clone, Copy, Debug)]
pub(crate) struct Affine {
    pub(crate) axis: AxisId,
    pub(crate) start: i64,
    pub(crate) stride: i64,
}
