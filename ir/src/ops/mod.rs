//! The op table: one row per operation, one file per family.
//!
//! A row says everything that is known of an operation: its name in the text form, its type
//! rule, its price, its gradient and its value. Adding an operation means a variant of [`Op`] and
//! a row in the file of its family; verifier, builder, differentiation, interpreter and cost model
//! read the row.

pub mod attend;
pub mod attributes;
pub mod index;
pub mod layout;
pub mod leaf;
pub mod pointwise;
pub mod reduce;
pub mod repeat;
pub mod vjp;

use thiserror::Error;

use crate::graph::{AxisId, DType, Graph, Op, Type};
use crate::tensor::Tensor;

/// Why an operation does not fit its operands.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OpError {
    /// Wrong number of operands.
    #[error("`{op}` takes {expected} operands, not {got}")]
    Arity {
        /// Operation.
        op: &'static str,
        /// Number it takes.
        expected: usize,
        /// Number given.
        got: usize,
    },
    /// An operand has the wrong element type.
    #[error("`{op}` needs {expected}, not {got}")]
    DType {
        /// Operation.
        op: &'static str,
        /// What it takes.
        expected: &'static str,
        /// What was given.
        got: DType,
    },
    /// An axis that should be there is not.
    #[error("`{op}`: the operand has no axis `{axis}`")]
    MissingAxis {
        /// Operation.
        op: &'static str,
        /// Axis name.
        axis: String,
    },
    /// An axis that should not be there is.
    #[error("`{op}`: the operand already has axis `{axis}`")]
    PresentAxis {
        /// Operation.
        op: &'static str,
        /// Axis name.
        axis: String,
    },
    /// Sizes that should be equal are not.
    #[error("`{op}`: sizes {left} and {right} differ")]
    Size {
        /// Operation.
        op: &'static str,
        /// One size.
        left: i128,
        /// The other.
        right: i128,
    },
    /// An index may leave its axis.
    #[error("`{op}`: index range [{lo}, {hi}) leaves axis `{axis}` of size {size}")]
    Range {
        /// Operation.
        op: &'static str,
        /// Axis name.
        axis: String,
        /// Its size.
        size: u64,
        /// Smallest index.
        lo: i64,
        /// One past the largest index.
        hi: i64,
    },
    /// A rounding that only kernels spell so.
    #[error("`{op}` is for kernels: a graph rounds by `cast[{op}]`")]
    Rounding {
        /// Operation.
        op: &'static str,
    },
    /// A carried value is not a real, or changes its type. Ints are not carried: their ranges would
    /// have to hold for all turns.
    #[error("`repeat`: a carried value must be a real with the same type in every turn")]
    Carried,
    /// A score function that is not one.
    #[error("`{op}`: the score function {what}")]
    Score {
        /// Operation.
        op: &'static str,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// Types of the results from those of the operands.
pub type TypeRule = fn(&Op, &Graph, &[&Type]) -> Result<Vec<Type>, OpError>;

/// The results from the operands.
pub type ValueRule = fn(&Eval, &[&Tensor]) -> Result<Vec<Tensor>, EvalError>;

/// One row of the table.
pub struct OpDef {
    /// Name in the text form.
    pub name: &'static str,
    /// Text of its attributes, without brackets.
    pub print: fn(&Op, &Graph) -> String,
    /// Reads its attributes, with the closing bracket.
    pub parse: attributes::Reader,
    /// Types of the results.
    pub infer: TypeRule,
    /// Floating-point operations, given the types of operands and results; multiply-add is 2.
    pub flops: fn(&Op, &Graph, &[&Type], &[&Type]) -> u64,
    /// Cotangents of the operands.
    pub vjp: vjp::Rule,
    /// Value in f64.
    pub eval: ValueRule,
}

/// One evaluation of an operation.
pub struct Eval<'a> {
    /// The operation.
    pub op: &'a Op,
    /// Its graph, for axes.
    pub graph: &'a Graph,
    /// Types of the results.
    pub results: &'a [&'a Type],
}

impl Eval<'_> {
    /// Sizes of axes.
    pub fn sizes(&self, axes: &[AxisId]) -> Vec<usize> {
        axes.iter().map(|a| self.graph.size(*a) as usize).collect()
    }

    /// A result filled with a number.
    pub fn full(&self, result: usize, x: f64) -> Tensor {
        let axes = &self.results[result].axes;
        Tensor::full(axes, &self.sizes(axes), x)
    }
}

/// Why an operation has no value.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum EvalError {
    /// An index computed from data leaves its axis.
    #[error("`{op}`: index {index} leaves axis `{axis}` of size {size}")]
    Index {
        /// Operation.
        op: &'static str,
        /// Axis name.
        axis: String,
        /// Its size.
        size: usize,
        /// The index.
        index: f64,
    },
}

/// The row of an operation.
pub fn def(op: &Op) -> &'static OpDef {
    match op {
        Op::Real(_) => &leaf::REAL,
        Op::Int(_) => &leaf::INT,
        Op::Bool(_) => &leaf::BOOL,
        Op::Pos(_) => &leaf::POS,
        Op::Param(..) => &leaf::PARAM,
        Op::Input(_) => &leaf::INPUT,
        Op::Noise { .. } => &leaf::NOISE,
        Op::Pointwise(_) => &pointwise::POINTWISE,
        Op::Cast(_) => &pointwise::CAST,
        Op::Rename { .. } => &layout::RENAME,
        Op::Split { .. } => &layout::SPLIT,
        Op::Merge { .. } => &layout::MERGE,
        Op::Slice { .. } => &layout::SLICE,
        Op::Pad { .. } => &layout::PAD,
        Op::Cat { .. } => &layout::CAT,
        Op::Broadcast { .. } => &layout::BROADCAST,
        Op::Gather { .. } => &index::GATHER,
        Op::Scatter { .. } => &index::SCATTER,
        Op::Top { .. } => &index::TOP,
        Op::Reduce { .. } => &reduce::REDUCE,
        Op::Dot { .. } => &reduce::DOT,
        Op::Repeat { .. } => &repeat::REPEAT,
        Op::Attend { .. } => &attend::ATTEND,
        Op::AttendGrad { .. } => &attend::ATTEND_GRAD,
    }
}

/// The rows of operations with attributes; all others are pointwise functions.
pub const TABLE: &[&OpDef] = &[
    &leaf::REAL,
    &leaf::INT,
    &leaf::BOOL,
    &leaf::POS,
    &leaf::PARAM,
    &leaf::INPUT,
    &leaf::NOISE,
    &pointwise::CAST,
    &layout::RENAME,
    &layout::SPLIT,
    &layout::MERGE,
    &layout::SLICE,
    &layout::PAD,
    &layout::CAT,
    &layout::BROADCAST,
    &index::GATHER,
    &index::SCATTER,
    &index::TOP,
    &reduce::REDUCE,
    &reduce::DOT,
    &repeat::REPEAT,
    &attend::ATTEND,
    &attend::ATTEND_GRAD,
];

/// Types of the results of an operation that has no region.
///
/// # Errors
/// When the operation does not fit its operands.
pub fn infer(op: &Op, graph: &Graph, operands: &[&Type]) -> Result<Vec<Type>, OpError> {
    (def(op).infer)(op, graph, operands)
}

/// The only operand.
fn one<'a>(op: &'static str, operands: &[&'a Type]) -> Result<&'a Type, OpError> {
    match operands {
        [x] => Ok(x),
        _ => Err(OpError::Arity { op, expected: 1, got: operands.len() }),
    }
}

/// The two operands.
fn two<'a>(op: &'static str, operands: &[&'a Type]) -> Result<[&'a Type; 2], OpError> {
    match operands {
        [a, b] => Ok([a, b]),
        _ => Err(OpError::Arity { op, expected: 2, got: operands.len() }),
    }
}

fn need(op: &'static str, graph: &Graph, ty: &Type, axis: AxisId) -> Result<(), OpError> {
    let name = || graph.axes[axis.index()].name.clone();
    if ty.has(axis) { Ok(()) } else { Err(OpError::MissingAxis { op, axis: name() }) }
}

fn absent(op: &'static str, graph: &Graph, ty: &Type, axis: AxisId) -> Result<(), OpError> {
    let name = || graph.axes[axis.index()].name.clone();
    if ty.has(axis) { Err(OpError::PresentAxis { op, axis: name() }) } else { Ok(()) }
}

fn same_size(op: &'static str, left: u64, right: u64) -> Result<(), OpError> {
    if left == right {
        Ok(())
    } else {
        Err(OpError::Size { op, left: i128::from(left), right: i128::from(right) })
    }
}

/// The union of axes, by first appearance.
pub fn union(types: &[&Type]) -> Vec<AxisId> {
    let mut axes = Vec::new();
    for axis in types.iter().flat_map(|t| &t.axes) {
        if !axes.contains(axis) {
            axes.push(*axis);
        }
    }
    axes
}

/// An operation that computes nothing.
fn free(_: &Op, _: &Graph, _: &[&Type], _: &[&Type]) -> u64 {
    0
}
