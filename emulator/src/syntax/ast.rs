//! The tree of a PTX module, close to the text: names are strings and nothing is resolved.

use crate::error::Span;
use crate::types::{Space, Ty};

/// A whole PTX file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Module {
    /// `.version`, major and minor.
    pub version: (u32, u32),
    /// First name of `.target`, such as `sm_90a`.
    pub target: String,
    /// Variables of the module.
    pub variables: Vec<Variable>,
    /// Kernels and device functions, in order; a declaration has no body.
    pub functions: Vec<Function>,
    /// `.alias new, old;`
    pub aliases: Vec<(String, String)>,
}

/// A variable, parameter or register declaration.
#[derive(Debug, Clone, PartialEq)]
pub struct Variable {
    /// Name as written.
    pub name: String,
    /// State space.
    pub space: Space,
    /// Element type.
    pub ty: Ty,
    /// Elements of a `.v2` or `.v4` vector, else 1.
    pub vector: u32,
    /// `.align`, or the natural one.
    pub align: u64,
    /// Number of elements; `None` for `name[]`.
    pub elements: Option<u64>,
    /// Initial bytes and addresses.
    pub init: Vec<Init>,
    /// `.extern`.
    pub external: bool,
    /// For registers, `%r<N>` declares `%r0 … %r(N-1)`.
    pub count: Option<u32>,
    /// Where.
    pub span: Span,
}

/// One scalar of an initialiser.
#[derive(Debug, Clone, PartialEq)]
pub enum Init {
    /// A number, by its bits in the variable's type.
    Bits(u64),
    /// The address of a variable or function, plus an offset; `true` for `generic(…)`.
    Address(String, i64, bool),
}

/// A kernel (`.entry`) or a device function (`.func`).
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    /// Name.
    pub name: String,
    /// Whether it is a kernel.
    pub is_entry: bool,
    /// Formal parameters.
    pub params: Vec<Variable>,
    /// Return values of a device function.
    pub returns: Vec<Variable>,
    /// Statements; `None` for a declaration.
    pub body: Option<Vec<Stmt>>,
    /// `.reqntid` or `.maxntid`, and whether it is the exact form.
    pub threads: Option<(Vec<u32>, bool)>,
    /// `.reqnctapercluster`.
    pub cluster: Option<Vec<u32>>,
    /// Where.
    pub span: Span,
}

/// One statement of a body.
#[derive(Debug, Clone, PartialEq)]
pub enum Stmt {
    /// `name:`
    Label(String, Span),
    /// A declaration in `.reg`, `.local`, `.shared`, `.param`, …
    Variable(Variable),
    /// An instruction.
    Inst(Instruction),
    /// `{ … }`, a scope of its own.
    Block(Vec<Stmt>),
    /// `name: .branchtargets a, b;` or `.calltargets`.
    Targets(String, Vec<String>, Span),
    /// `name: .callprototype (…) _ (…);`
    Prototype {
        /// Its label.
        name: String,
        /// Return values.
        returns: Vec<Variable>,
        /// Parameters.
        params: Vec<Variable>,
    },
}

/// An instruction with its guard.
#[derive(Debug, Clone, PartialEq)]
pub struct Instruction {
    /// `@%p` or `@!%p` (`true`).
    pub guard: Option<(String, bool)>,
    /// The dotted opcode, such as `add.rn.f32`.
    pub opcode: String,
    /// Operands, in order.
    pub operands: Vec<Operand>,
    /// From the guard to the semicolon.
    pub span: Span,
}

/// An operand.
#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    /// A register, variable, label or function, plus a constant offset.
    Name(String, i64, Span),
    /// An integer constant.
    Int(u64),
    /// A float constant by its bits (`0f…`).
    F32(u32),
    /// A double constant by its bits (`0d…`, decimal).
    F64(u64),
    /// `[base + offset]`, with further items as in `[map, {x, y}]`.
    Address(Vec<Operand>),
    /// `{a, b}`
    Vector(Vec<Operand>),
    /// `(a, b)` of a call.
    List(Vec<Operand>),
    /// `!p`
    Not(Box<Operand>),
    /// `-a` of a register.
    Negated(Box<Operand>),
    /// `d|p`
    Pair(Box<Operand>, Box<Operand>),
    /// `_`
    Sink,
}
