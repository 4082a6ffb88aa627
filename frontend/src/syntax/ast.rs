//! The tree of a model text. Every node knows its bytes.

use crate::number::Number;
use crate::source::Span;

#[derive(Clone, Debug)]
pub(crate) struct Ident {
    pub(crate) name: String,
    pub(crate) span: Span,
}

#[derive(Clone, Debug)]
pub(crate) struct Expr {
    pub(crate) kind: ExprKind,
    pub(crate) span: Span,
    /// Height of the tree below, so that nothing that walks it can exhaust the stack.
    pub(crate) height: u32,
}

#[derive(Clone, Debug)]
pub(crate) enum ExprKind {
    Number(Number),
    Name(String),
    /// An axis stands for its size.
    Axis(String),
    Tuple(Vec<Expr>),
    Unary(UnaryOp, Box<Expr>),
    Binary(BinaryOp, Box<Expr>, Box<Expr>),
    If(Box<If>),
    Call(Box<Call>),
    /// `value[axis = at]`
    Index {
        value: Box<Expr>,
        axis: Ident,
        at: Box<Expr>,
    },
    /// `value[from -> to]`
    Reshape {
        value: Box<Expr>,
        from: Vec<Ident>,
        to: Vec<Ident>,
    },
    /// Stands where an error was reported already.
    Broken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnaryOp {
    Neg,
    Not,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BinaryOp {
    Or,
    And,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    Pow,
}

impl BinaryOp {
    pub(crate) fn symbol(self) -> &'static str {
        use BinaryOp::*;
        match self {
            Or => "|",
            And => "&",
            Eq => "==",
            Ne => "!=",
            Lt => "<",
            Le => "<=",
            Gt => ">",
            Ge => ">=",
            Add => "+",
            Sub => "-",
            Mul => "*",
            Div => "/",
            Rem => "%",
            Pow => "^",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct If {
    pub(crate) condition: Expr,
    pub(crate) then: Block,
    pub(crate) otherwise: Block,
}

/// `name(values; axes)`
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) name: Ident,
    pub(crate) args: Vec<Arg>,
    /// What follows `;`; `None` when there is no `;`.
    pub(crate) axes: Option<Vec<AxisArg>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Arg {
    pub(crate) name: Option<Ident>,
    pub(crate) value: Expr,
}

/// One entry after `;`: `S`, `D...`, `E -> N`, `J + 1 -> K`.
#[derive(Clone, Debug)]
pub(crate) struct AxisArg {
    /// The summands; `None` is the `1` of a piece that lacks the axis.
    pub(crate) parts: Vec<Option<Ident>>,
    pub(crate) to: Option<Ident>,
    pub(crate) span: Span,
}

#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) statements: Vec<Statement>,
    pub(crate) result: Expr,
}

#[derive(Clone, Debug)]
pub(crate) enum Statement {
    Let(Let),
    Axes(Vec<Binding>),
    Const(Vec<Binding>),
    Param(ParamStatement),
}

#[derive(Clone, Debug)]
pub(crate) struct Let {
    pub(crate) names: Vec<Ident>,
    pub(crate) value: Expr,
}

#[derive(Clone, Debug)]
pub(crate) struct Binding {
    pub(crate) name: Ident,
    pub(crate) value: Expr,
}

/// Parameters that share one `as`.
#[derive(Clone, Debug)]
pub(crate) struct ParamStatement {
    pub(crate) params: Vec<Param>,
    pub(crate) stored: Option<Stored>,
}

#[derive(Clone, Debug)]
pub(crate) struct Param {
    pub(crate) name: Ident,
    pub(crate) shape: Shape,
    pub(crate) init: Option<Init>,
    pub(crate) rate: Option<Expr>,
    pub(crate) decay: Option<Expr>,
    pub(crate) frozen: bool,
}

/// `[A*B, C]`: axes merged by `*` share one stored dimension.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) groups: Vec<Vec<Ident>>,
    pub(crate) span: Span,
}

#[derive(Clone, Debug)]
pub(crate) enum Init {
    Value(Expr),
    Random { distribution: Ident, args: Vec<Expr> },
}

/// `as "name" from offset`
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) name: Text,
    pub(crate) from: Option<Expr>,
}

/// The inside of a quoted string.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    pub(crate) value: String,
    pub(crate) span: Span,
}

#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub(crate) name: Ident,
    pub(crate) args: Vec<FormalArg>,
    pub(crate) axes: Vec<FormalAxis>,
    pub(crate) body: Block,
}

#[derive(Clone, Debug)]
pub(crate) struct FormalArg {
    pub(crate) name: Ident,
    pub(crate) default: Option<Expr>,
}

#[derive(Clone, Debug)]
pub(crate) struct FormalAxis {
    pub(crate) name: Ident,
    /// `More...`
    pub(crate) several: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) name: Ident,
    pub(crate) args: Vec<(Ident, Shape)>,
    pub(crate) repeat: Option<Ident>,
    pub(crate) stored: Option<Text>,
    pub(crate) body: Block,
}

#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) name: Ident,
    pub(crate) shape: Shape,
    pub(crate) kind: InputKind,
    pub(crate) default: Option<Expr>,
}

#[derive(Clone, Debug)]
pub(crate) enum InputKind {
    Token(Expr),
    Int(Expr, Expr),
    Real,
    Bool,
}

/// An entry of the `train` block.
#[derive(Clone, Debug)]
pub(crate) enum Setting {
    /// `optimizer adamw(beta1 = 0.9)`
    Call { name: Ident, call: Call },
    /// `batch 4M tokens`, `clip 1.0`
    Amount { name: Ident, value: Expr, unit: Option<Ident> },
    /// `precision bf16 { master f32 }`, `on_nan zero`
    Word { name: Ident, value: Ident, parts: Vec<(Ident, Ident)> },
    /// `T = 32768`, in a phase
    Override(Binding),
    /// `phase 2T tokens { … }`
    Phase { tokens: Expr, span: Span, settings: Vec<Setting> },
}

#[derive(Clone, Debug)]
pub(crate) enum Item {
    Model(Ident),
    Use(Text),
    Axes(Vec<Binding>),
    Const(Vec<Binding>),
    Param(ParamStatement),
    Function(Function),
    Layer(Layer),
    Input(Vec<Input>),
    Let(Let),
    Loss { value: Expr, per: Option<Expr>, span: Span },
    Metric { name: Ident, value: Expr },
    Output { name: Ident, value: Expr },
    Train { settings: Vec<Setting>, span: Span },
}
