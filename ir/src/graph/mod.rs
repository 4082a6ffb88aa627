//! Graph IR: typed SSA over named axes.
//!
//! A [`Graph`] holds one program: the forward pass, the joint graph, or a whole training step.
//! Values are `u32` ids; types, names and spans are side tables. Nodes stand in **regions**: the
//! root, the body of each [`Op::Repeat`], which may use values of the regions around it, and the
//! score function of each [`Op::Attend`], which is closed.
//! Nodes of a region are in a legal order: operands precede their users.
//!
//! What the IR means:
//! - Axes are matched by identity, never by size or position. The order of axes in a type is for
//!   people; it says nothing about memory.
//! - Pointwise functions broadcast over the union of the operands' axes.
//! - Reals are exact: where a value is rounded, a cast says so. The interpreter computes in f64,
//!   kernels in f32.
//! - Ints carry a half-open range `[lo, hi)`; an index must be inside its axis.
//! - There are no side effects. A step's updates are results with the role [`Role::Update`].

mod builder;
mod parse;
mod print;
#[cfg(test)]
mod tests;
mod verify;

pub use builder::Builder;
pub use verify::{GraphError, GraphErrorKind};

use serde::{Deserialize, Serialize};

use crate::kernel::{Reduction, Storage};
use crate::pointwise::Pointwise;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name(pub u32);

        impl $name {
            /// The id as a table index.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

id!(/** An SSA value. */ ValueId, "%");
id!(/** An axis. */ AxisId, "axis");
id!(/** A parameter. */ ParamId, "param");
id!(/** An input. */ InputId, "input");

/// A named axis. The name is unique in the graph; axes local to a function instance get a suffix
/// (`J.2`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Axis {
    /// Unique name.
    pub name: String,
    /// Number of positions.
    pub size: u64,
}

/// Element type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DType {
    /// A real, stored in 32 bits.
    F32,
    /// A real, stored in 16 bits.
    Bf16,
    /// An int in `[lo, hi)`.
    Int {
        /// Smallest value.
        lo: i64,
        /// One past the largest value.
        hi: i64,
    },
    /// A truth value.
    Bool,
}

impl DType {
    /// Whether values are real numbers.
    pub fn is_real(self) -> bool {
        matches!(self, Self::F32 | Self::Bf16)
    }

    /// How elements lie in memory.
    pub fn storage(self) -> Storage {
        match self {
            Self::F32 => Storage::F32,
            Self::Bf16 => Storage::Bf16,
            Self::Int { .. } => Storage::I32,
            Self::Bool => Storage::Bool,
        }
    }
}

/// Type of a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Type {
    /// Element type.
    pub dtype: DType,
    /// Axes, each at most once.
    pub axes: Vec<AxisId>,
}

impl Type {
    /// Whether the value varies along an axis.
    pub fn has(&self, axis: AxisId) -> bool {
        self.axes.contains(&axis)
    }
}

/// A place in a source text, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Span {
    /// Which text (index in the model's list of sources).
    pub source: u32,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// What is known of a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValueInfo {
    /// Its type.
    pub ty: Type,
    /// The name it has in the model text, for people.
    pub name: Option<String>,
    /// The expression it comes from.
    pub span: Option<Span>,
}

/// How a parameter is filled before step 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Init {
    /// Every element the same.
    Constant(f64),
    /// Normal with mean 0.
    Normal {
        /// Standard deviation.
        std: f64,
    },
    /// Normal with mean 0, cut at two standard deviations.
    Truncated {
        /// Standard deviation before the cut.
        std: f64,
    },
    /// Uniform in `[lo, hi)`.
    Uniform {
        /// Lower end.
        lo: f64,
        /// Upper end.
        hi: f64,
    },
}

/// A piece of the name of a stored tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamePart {
    /// Literal text.
    Text(String),
    /// A number: `constant + Σ coefficient · position along the axis`.
    Number {
        /// Constant part.
        constant: i64,
        /// Spread axes and their coefficients.
        terms: Vec<(AxisId, i64)>,
    },
    /// One name for each position of a spread axis.
    Choice {
        /// The axis.
        axis: AxisId,
        /// As many names as the axis has positions.
        names: Vec<String>,
    },
}

/// Where a parameter lives in checkpoints: a family of stored tensors, one for each combination
/// of positions along the spread axes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The name, as a template over the spread axes.
    pub name: Vec<NamePart>,
    /// Axes that are spread over tensors and leave the stored shape.
    pub spread: Vec<AxisId>,
    /// First index of this parameter's part in each stored dimension (all zero without `from`).
    pub from: Vec<u64>,
}

/// A trained (or frozen) tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Param {
    /// Unique name: layer names and the parameter's own, joined by dots.
    pub name: String,
    /// The declared storage shape: each dimension is a product of axes, the left factor slow.
    /// Inside a repeated layer the repeat axis stands first, as a dimension of its own.
    pub dims: Vec<Vec<AxisId>>,
    /// Initial values.
    pub init: Init,
    /// Factor on the learning rate.
    pub lr: f64,
    /// Factor on the weight decay.
    pub decay: f64,
    /// Not trained.
    pub frozen: bool,
    /// Has a copy in bf16 beside the weights ([`Slot::Rounded`]).
    pub rounded: bool,
    /// Names in checkpoints.
    pub stored: Stored,
    /// The declaration.
    pub span: Option<Span>,
}

impl Param {
    /// All axes in storage order, row-major.
    pub fn axes(&self) -> Vec<AxisId> {
        self.dims.iter().flatten().copied().collect()
    }

    /// Whether it has a state.
    pub fn has(&self, slot: Slot) -> bool {
        match slot {
            Slot::Weight => true,
            Slot::Moment1 | Slot::Moment2 => !self.frozen,
            Slot::Rounded => self.rounded,
        }
    }
}

/// What feeds an input.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Feed {
    /// A column of the data.
    Data,
    /// A column of the data, or this value everywhere when the data has none.
    Optional(f64),
    /// The number of the step, from 0.
    Step,
    /// The number of steps of the run.
    Steps,
    /// The seed of the run.
    Seed,
}

/// A value that comes from outside at every step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// Its name, the column of the data.
    pub name: String,
    /// Its type; the last axis of data is time.
    pub ty: Type,
    /// Where it comes from.
    pub feed: Feed,
    /// The declaration.
    pub span: Option<Span>,
}

/// Which of a parameter's state tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Slot {
    /// The weights.
    Weight,
    /// Running mean of the gradient.
    Moment1,
    /// Running mean of its square.
    Moment2,
    /// The weights as bf16. It follows from them, so files leave it out.
    Rounded,
}

impl Slot {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Weight, Self::Moment1, Self::Moment2, Self::Rounded];

    /// Element type of the tensor.
    pub fn dtype(self) -> DType {
        match self {
            Self::Weight | Self::Moment1 | Self::Moment2 => DType::F32,
            Self::Rounded => DType::Bf16,
        }
    }
}

/// An f64 that can be hashed and compared by its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Bits(pub u64);

impl From<f64> for Bits {
    fn from(x: f64) -> Self {
        Self(x.to_bits())
    }
}

impl Bits {
    /// The number.
    pub fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

/// An operation. Its rules (text, types, gradient, price, value) stand in [`crate::ops`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Op {
    /// A real constant.
    Real(Bits),
    /// An int constant.
    Int(i64),
    /// A bool constant.
    Bool(bool),
    /// Positions along an axis: `0 … size − 1`.
    Pos(AxisId),
    /// A parameter's state tensor.
    Param(ParamId, Slot),
    /// An input.
    Input(InputId),
    /// A scalar function of 1–3 operands.
    Pointwise(Pointwise),
    /// Real → bf16 or f32: the only place where precision is lost.
    Cast(DType),
    /// `x[from -> to]`, equal sizes.
    Rename {
        /// Axis of the operand.
        from: AxisId,
        /// Axis of the result.
        to: AxisId,
    },
    /// `x[D -> H*K]`: the first factor is the slow one.
    Split {
        /// Axis of the operand.
        from: AxisId,
        /// Axes of the result.
        to: Vec<AxisId>,
    },
    /// `x[H*K -> D]`.
    Merge {
        /// Axes of the operand, the first one slow.
        from: Vec<AxisId>,
        /// Axis of the result.
        to: AxisId,
    },
    /// `x[axis = start + stride·pos(to)]`, or one element when `to` is absent. The operand may
    /// not have `to` already.
    Slice {
        /// Axis of the operand.
        axis: AxisId,
        /// Axis of the result.
        to: Option<AxisId>,
        /// First position.
        start: i64,
        /// Step between positions, not 0.
        stride: i64,
    },
    /// The adjoint of [`Op::Slice`]: zeros along `to`, except that position `start + stride·j`
    /// holds element `j` of `axis` (or the operand itself when `axis` is absent).
    Pad {
        /// Axis of the operand.
        axis: Option<AxisId>,
        /// Axis of the result.
        to: AxisId,
        /// First position.
        start: i64,
        /// Step between positions, not 0.
        stride: i64,
    },
    /// Operands `x, e`: `x[axis = e]`, where `e` is an int; axes that both have are aligned.
    Gather {
        /// Axis of `x` that the index replaces.
        axis: AxisId,
    },
    /// Operands `x, e`: `Σ over axes of where(e == pos(to), x, 0)`, the adjoint of a gather.
    /// Neither operand has `to`; `axes` are axes of `e` or `x`.
    Scatter {
        /// Axes summed over.
        axes: Vec<AxisId>,
        /// New axis.
        to: AxisId,
    },
    /// Pieces end to end along `to`; the n-th operand along its n-th axis, or as one position
    /// when absent. A piece that lacks another axis of the rest is broadcast.
    Cat {
        /// Axis of each operand.
        pieces: Vec<Option<AxisId>>,
        /// Axis of the result.
        to: AxisId,
    },
    /// Adds axes along which the value does not vary.
    Broadcast {
        /// New axes.
        axes: Vec<AxisId>,
    },
    /// A reduction over axes that the operand has.
    Reduce {
        /// Which.
        op: Reduction,
        /// Axes that vanish.
        axes: Vec<AxisId>,
    },
    /// `Σ a·b` over axes that both have; other shared axes are batch axes.
    Dot {
        /// Axes that vanish.
        axes: Vec<AxisId>,
    },
    /// The largest along `axis`, descending, the lower index first among equals; two results:
    /// value and index.
    Top {
        /// Axis of the operand.
        axis: AxisId,
        /// Axis of the results.
        to: AxisId,
    },
    /// Uniform in [0, 1): Philox keyed by the scalar int operands (seed, step, turns …), `key`
    /// and the element's row-major index over `axes`.
    Noise {
        /// Axes of the result.
        axes: Vec<AxisId>,
        /// The place in the text.
        key: u32,
    },
    /// A region run once per position of `axis`. Operands: `carried` initial values, then
    /// stacked values, which have `axis`. Region arguments: the turn (int), the carried values,
    /// the slices of the stacked values. Region results: the next carried values, then slices of
    /// stacked results. Node results: final carried values, then stacked results, which have
    /// `axis`.
    Repeat {
        /// The axis.
        axis: AxisId,
        /// From the last position to the first.
        reversed: bool,
        /// Number of carried values.
        carried: u32,
    },
    /// Attention. Operands `q, k, v`, then captured values. The region is the *score function*, a
    /// closed chain of pointwise operations: its arguments are the raw product `Σ q·k` over
    /// `inner` and the captured values, its result is the score, −inf where it is masked. Results:
    /// `out = Σ softmax(score; keys)·v` over `keys`, and `lse`, the logarithm of
    /// `Σ exp(score)` over `keys`; both are 0 in a row that is masked throughout. Axes of `v`
    /// that the score lacks are columns of the output; all other axes are matched as in a dot, so
    /// that grouped queries are an axis which `k` and `v` lack.
    Attend {
        /// Axis of the score, `k` and `v` that vanishes.
        keys: AxisId,
        /// Axes of `q` and `k` that vanish in the raw product.
        inner: Vec<AxisId>,
    },
    /// The gradient of [`Op::Attend`]. Operands `q, k, v, dout, lse, delta`, then captured values;
    /// `delta = Σ dout·out` over the columns, less the cotangent of `lse`. The region is the score
    /// function with its derivative: arguments raw product, cotangent of the score, captured
    /// values; results the score (which may not depend on the cotangent) and the cotangent of the
    /// raw product. Results `dq, dk, dv`, and, when `full`, the cotangent of the score,
    /// `exp(score − lse)·(Σ dout·v − delta)`. Source: FlashAttention-2, arXiv:2307.08691, §2.3.
    AttendGrad {
        /// As in [`Op::Attend`].
        keys: AxisId,
        /// As in [`Op::Attend`].
        inner: Vec<AxisId>,
        /// Whether the cotangent of the score is a result.
        full: bool,
    },
}

/// A node: an operation, its operands, its results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Operation.
    pub op: Op,
    /// Operands.
    pub operands: Vec<ValueId>,
    /// Results.
    pub results: Vec<ValueId>,
    /// The body of a repeat, or the score function of attention. A score function is closed: it
    /// reads its arguments and nothing else.
    pub region: Option<Region>,
}

/// A list of nodes with arguments and results.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Region {
    /// Values defined by the region itself.
    pub args: Vec<ValueId>,
    /// Nodes in a legal order.
    pub nodes: Vec<Node>,
    /// Values handed out.
    pub results: Vec<ValueId>,
}

/// What a result of the root region is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// Numerator of the n-th loss line (a scalar), before training is differentiated.
    LossTerm(u32),
    /// Denominator of the n-th loss line, when it has one.
    LossPer(u32),
    /// A logged scalar.
    Metric(String),
    /// A value that evaluation and sampling may ask for.
    Output(String),
    /// The loss of the step: the sum of all lines.
    Loss,
    /// Gradient of the loss by a parameter, before clipping.
    Gradient(ParamId),
    /// Global L2 norm of all gradients, before clipping.
    GradNorm,
    /// Learning rate of the step.
    LearningRate,
    /// Number of gradient elements that are not finite.
    NanGradients,
    /// New contents of a parameter's state.
    Update(ParamId, Slot),
}

/// A program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    /// Name of the model.
    pub name: String,
    /// Axes.
    pub axes: Vec<Axis>,
    /// Parameters.
    pub params: Vec<Param>,
    /// Inputs.
    pub inputs: Vec<Input>,
    /// Types and names of the values.
    pub values: Vec<ValueInfo>,
    /// The program.
    pub root: Region,
    /// What the root's results are for; as many as `root.results`.
    pub roles: Vec<Role>,
}

impl Graph {
    /// An empty graph.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            axes: Vec::new(),
            params: Vec::new(),
            inputs: Vec::new(),
            values: Vec::new(),
            root: Region::default(),
            roles: Vec::new(),
        }
    }

    /// Adds an axis; the name gets a suffix when it is taken.
    pub fn add_axis(&mut self, name: &str, size: u64) -> AxisId {
        let taken = |n: &str| self.axes.iter().any(|a| a.name == n);
        let mut unique = name.to_owned();
        let mut suffix = 2;
        while taken(&unique) {
            unique = format!("{name}.{suffix}");
            suffix += 1;
        }
        self.axes.push(Axis { name: unique, size });
        AxisId(self.axes.len() as u32 - 1)
    }

    /// Size of an axis.
    pub fn size(&self, axis: AxisId) -> u64 {
        self.axes[axis.index()].size
    }

    /// Product of the sizes of axes.
    pub fn elements(&self, axes: &[AxisId]) -> u64 {
        axes.iter().fold(1, |n, a| n.saturating_mul(self.size(*a)))
    }

    /// Type of a value.
    pub fn ty(&self, value: ValueId) -> &Type {
        &self.values[value.index()].ty
    }

    /// Elements of all parameters.
    pub fn parameter_count(&self) -> u64 {
        self.params.iter().map(|p| self.elements(&p.axes())).sum()
    }

    /// The result with a role.
    pub fn result(&self, role: &Role) -> Option<ValueId> {
        self.roles.iter().position(|r| r == role).map(|i| self.root.results[i])
    }

    /// All results with their roles.
    pub fn results(&self) -> impl Iterator<Item = (&Role, ValueId)> {
        self.roles.iter().zip(self.root.results.iter().copied())
    }
}
