//! Terms of the e-graph: operator, children, display.
//!
//! An operation's attributes are children too, as leaves of their own ([`Head::Axes`],
//! [`Head::Affine`]), so that a rule can bind them: `(sum ?A (mul ?c ?x))`. Operations that no
//! rule takes apart keep their attributes in a table ([`Head::Other`]).

use std::fmt::{self, Display, Formatter};

use egg::{FromOp, FromOpError, Id, Language};
use gigac_ir::graph::{AxisId, Bits, ValueId};
use gigac_ir::pointwise::Pointwise;
use smallvec::SmallVec;

/// What a term does with its children.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Head {
    /// A real constant.
    Real(Bits),
    /// An int constant.
    Int(i64),
    /// A bool constant.
    Bool(bool),
    /// A list of axes, an attribute.
    Axes(Box<[AxisId]>),
    /// `start + stride·j`, an attribute.
    Affine(i64, i64),
    /// A scalar function.
    Map(Pointwise),
    /// `(pos axis)`.
    Pos,
    /// `(rename from to x)`.
    Rename,
    /// `(split from to x)`.
    Split,
    /// `(merge from to x)`.
    Merge,
    /// `(slice axis to affine x)`.
    Slice,
    /// `(broadcast axes x)`.
    Broadcast,
    /// `(gather axis x e)`.
    Gather,
    /// `(sum axes x)`.
    Sum,
    /// `(largest axes x)`: the maximum over axes.
    Largest,
    /// `(dot axes x y)`.
    Dot,
    /// `(append axis to x z)`: `z`, which lacks the axis, behind `x`.
    Append,
    /// Another operation with one result, by its number in the table.
    Other(u32),
    /// A value from outside: defined around the region, or an argument of it.
    Value(ValueId),
    /// A node of the region that is kept as it is, by its number; a tuple. Its children are its
    /// operands and what its body reads.
    Node(u32),
    /// `(result tuple)`: what the node called so in the region.
    Result(ValueId),
    /// `(softmax axes x)`: `exp x / Σ exp x`, and 0 in rows where all of `x` is −inf. Has no form
    /// in the graph; it stands for all spellings.
    Softmax,
    /// `(loose axes x)`: the same, but NaN in such rows: what the spellings without a guard mean.
    Loose,
    /// `(sunk axes x z)`: `exp x / (Σ exp x + exp z)`, a softmax over `x` and one more element, which
    /// is not kept: a sink. Has no form in the graph.
    Sunk,
    /// The output of an attention that the template found, by its number in the table.
    Attend(u32),
}

/// Names of heads in patterns, beside those of scalar functions.
const NAMES: &[(&str, Head)] = &[
    ("pos", Head::Pos),
    ("rename", Head::Rename),
    ("split", Head::Split),
    ("merge", Head::Merge),
    ("slice", Head::Slice),
    ("broadcast", Head::Broadcast),
    ("gather", Head::Gather),
    ("sum", Head::Sum),
    ("largest", Head::Largest),
    ("dot", Head::Dot),
    ("append", Head::Append),
    ("softmax", Head::Softmax),
    ("loose", Head::Loose),
    ("sunk", Head::Sunk),
];

/// A node of the e-graph.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Term {
    /// The operator.
    pub(crate) head: Head,
    /// Attributes, then operands.
    pub(crate) children: SmallVec<[Id; 4]>,
}

impl Term {
    /// A term.
    pub(crate) fn new(head: Head, children: &[Id]) -> Self {
        Self { head, children: SmallVec::from_slice(children) }
    }

    /// A term without children.
    pub(crate) fn leaf(head: Head) -> Self {
        Self::new(head, &[])
    }

    /// A list of axes.
    pub(crate) fn axes(axes: &[AxisId]) -> Self {
        Self::leaf(Head::Axes(axes.into()))
    }

    /// A scalar function.
    pub(crate) fn map(function: Pointwise, operands: &[Id]) -> Self {
        Self::new(Head::Map(function), operands)
    }

    /// Number of leading children that are attributes.
    pub(crate) fn attributes(&self) -> usize {
        match self.head {
            Head::Pos
            | Head::Broadcast
            | Head::Gather
            | Head::Sum
            | Head::Largest
            | Head::Dot
            | Head::Softmax
            | Head::Loose
            | Head::Sunk => 1,
            Head::Rename | Head::Split | Head::Merge | Head::Append => 2,
            Head::Slice => 3,
            _ => 0,
        }
    }

    /// The children that are values or tuples.
    pub(crate) fn operands(&self) -> &[Id] {
        &self.children[self.attributes()..]
    }
}

impl Language for Term {
    type Discriminant = Head;

    fn discriminant(&self) -> Head {
        self.head.clone()
    }

    fn matches(&self, other: &Self) -> bool {
        self.head == other.head && self.children.len() == other.children.len()
    }

    fn children(&self) -> &[Id] {
        &self.children
    }

    fn children_mut(&mut self) -> &mut [Id] {
        &mut self.children
    }
}

impl Display for Term {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.head {
            Head::Real(bits) => write!(f, "{:?}", bits.get()),
            Head::Int(i) => write!(f, "{i}"),
            Head::Bool(b) => write!(f, "{b}"),
            Head::Axes(axes) => write!(f, "{axes:?}"),
            Head::Affine(start, stride) => write!(f, "{start}+{stride}j"),
            Head::Map(function) => f.write_str(function.name()),
            Head::Other(i) => write!(f, "op{i}"),
            Head::Value(v) => write!(f, "{v}"),
            Head::Node(i) => write!(f, "node{i}"),
            Head::Result(v) => write!(f, "result{v}"),
            Head::Attend(i) => write!(f, "attend{i}"),
            head => {
                let name = NAMES.iter().find(|(_, h)| h == head).map(|(name, _)| *name);
                f.write_str(name.expect("all other heads are in the list of names"))
            }
        }
    }
}

impl FromOp for Term {
    type Error = FromOpError;

    fn from_op(op: &str, children: Vec<Id>) -> Result<Self, FromOpError> {
        let number = || -> Option<Head> {
            if let Ok(i) = op.parse() {
                return Some(Head::Int(i));
            }
            op.parse::<f64>().ok().map(|x| Head::Real(x.into()))
        };
        let head = match op {
            "true" | "false" => Some(Head::Bool(op == "true")),
            _ => NAMES.iter().find(|(name, _)| *name == op).map(|(_, head)| head.clone()),
        };
        match head.or_else(|| Pointwise::parse(op).map(Head::Map)).or_else(number) {
            Some(head) => Ok(Self::new(head, &children)),
            None => Err(FromOpError::new(op, children)),
        }
    }
}
