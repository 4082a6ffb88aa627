//! Every way in which a model text can be wrong: message, code and way out, one variant per cause.

use miette::Diagnostic;
use thiserror::Error;

use crate::source::Span;
use gigac_ir::nearest::Nearest;

/// What is wrong.
#[derive(Clone, Debug, Error, Diagnostic)]
pub(crate) enum Cause {
    // Text.
    #[error("`{text}` is not part of the language")]
    #[diagnostic(code(syntax::character), help("remove it; comments begin with `//`"))]
    Character { text: String },
    #[error("this string has no end")]
    #[diagnostic(code(syntax::string), help("close it with `\"` on the same line"))]
    OpenString,
    #[error("`{text}` is not a number")]
    #[diagnostic(
        code(syntax::number),
        help(
            "numbers look like `12`, `1e-5`, `64K` (decimal: K M B T) or `64Ki` (binary: Ki Mi Gi Ti); a product is written with `*`"
        )
    )]
    Number { text: String },
    #[error("expected {expected}, found {found}")]
    #[diagnostic(
        code(syntax::unexpected),
        help(
            "a line break ends a statement unless a bracket is open or the line ends in an operator or comma"
        )
    )]
    Syntax { expected: String, found: String },
    #[error("this `{open}` is never closed")]
    #[diagnostic(code(syntax::unclosed), help("add `{close}`"))]
    Unclosed { open: &'static str, close: &'static str },
    #[error("nested more than {limit} deep")]
    #[diagnostic(code(syntax::depth), help("name a part of it with `let`"))]
    TooDeep { limit: u32 },
    #[error("the text is longer than {limit} bytes")]
    #[diagnostic(code(syntax::length), help("repeated layers are written once, with `repeat`"))]
    TooLong { limit: usize },
    #[error("comparisons do not chain")]
    #[diagnostic(code(syntax::chain), help("write `a < b & b < c`"))]
    ChainedComparison,
    #[error("this block has no result")]
    #[diagnostic(
        code(syntax::no_result),
        help("the last line of a block is an expression: its value")
    )]
    NoResult,
    #[error("a block ends with its result")]
    #[diagnostic(
        code(syntax::after_result),
        help("give the value a name with `let`, or move it to the end")
    )]
    AfterResult,

    // Names.
    #[error("unknown {what} `{name}`")]
    #[diagnostic(code(name::unknown), help("{near}"))]
    UnknownName { what: &'static str, name: String, near: Nearest },
    #[error("unknown axis `{name}`")]
    #[diagnostic(code(axis::unknown), help("{near}"))]
    UnknownAxis { name: String, near: Nearest },
    #[error("`{name}` is declared twice")]
    #[diagnostic(code(name::twice), help("give one of them another name"))]
    Twice { name: String },
    #[error("`{name}` would hide {what} of the same name")]
    #[diagnostic(
        code(name::hides),
        help("only `let` names and arguments can be hidden: choose another name")
    )]
    Hides { name: String, what: &'static str },
    #[error("a metric may not be called `{name}`")]
    #[diagnostic(
        code(name::taken),
        help("every step is recorded with a figure of this name: choose another one")
    )]
    Taken { name: String },
    #[error("`{name}` depends on itself")]
    #[diagnostic(code(name::cycle), help("break the circle: one of them needs a value of its own"))]
    Cycle { name: String },
    #[error("`{name}` is a {is}, not a {wanted}")]
    #[diagnostic(code(name::kind), help("{help}"))]
    WrongKind { name: String, is: &'static str, wanted: &'static str, help: String },
    #[error("recursion: `{name}` calls itself")]
    #[diagnostic(
        code(function::recursion),
        help(
            "everything is static: functions are expanded at each call; `repeat` in a layer is the loop"
        )
    )]
    Recursion { name: String },
    #[error("cannot use \"{path}\": {reason}")]
    #[diagnostic(code("use::unreadable"), help("the path is relative to the model file"))]
    Use { path: String, reason: String },
    #[error("a used file may only hold functions")]
    #[diagnostic(
        code("use::declaration"),
        help("pass what the functions need as arguments, and declare this in the model")
    )]
    UseDeclares,
    #[error("a second `{what}`")]
    #[diagnostic(code(name::again), help("keep one of them"))]
    Again { what: &'static str },
    #[error("`param` belongs to the model or to a layer")]
    #[diagnostic(code(param::place), help("declare it there and pass it to the function"))]
    ParamPlace,

    // Constants and sizes.
    #[error("{what} must be known before the run")]
    #[diagnostic(code(constant::unknown), help("use numbers, axes and constants only"))]
    NotConstant { what: String },
    #[error("{what} does not come out: {value} is not a whole number")]
    #[diagnostic(
        code(axis::fraction),
        help("sizes are exact; change the numbers so that the division leaves nothing")
    )]
    Fraction { what: String, value: String },
    #[error("{what} cannot be {value}")]
    #[diagnostic(code(axis::size), help("{help}"))]
    Size { what: String, value: String, help: &'static str },
    #[error("division by zero")]
    #[diagnostic(code(constant::zero), help("the divisor is a constant that is 0 here"))]
    DivideByZero,
    #[error("`{what}` has no value here")]
    #[diagnostic(
        code(constant::undefined),
        help("its argument lies outside the function's domain")
    )]
    Undefined { what: String },
    #[error("{what} would have more than 2^56 elements")]
    #[diagnostic(
        code(axis::absurd),
        help("look for a missing reduction, or an axis that is too large")
    )]
    Absurd { what: String },
    #[error("the model expands to more than {limit} steps")]
    #[diagnostic(
        code(function::explosion),
        help("functions are expanded at each call; use fewer nested calls")
    )]
    TooBig { limit: u32 },

    // Axes.
    #[error("{what} has no axis `{axis}`")]
    #[diagnostic(code(axis::missing), help("{help}"))]
    MissingAxis { what: String, axis: String, help: String },
    #[error("axis `{axis}` is named twice")]
    #[diagnostic(
        code(axis::twice),
        help(
            "name each axis once; a second axis of the same size needs a name of its own (`axes S = T`) and a rename `[T -> S]`"
        )
    )]
    AxisTwice { axis: String },
    #[error("the value has an axis `{axis}` already")]
    #[diagnostic(code(axis::present), help("rename the other one first, or choose another axis"))]
    PresentAxis { axis: String },
    #[error("sizes differ: {left} against {right}")]
    #[diagnostic(code(shape::size), help("{help}"))]
    SizesDiffer { left: String, right: String, help: &'static str },
    #[error("{left} and {right} would make a silent outer product")]
    #[diagnostic(
        code(shape::clash),
        help(
            "one operand must have all axes of the others; {rename}an outer product is written `outer(a, b)`"
        )
    )]
    Crossing { left: String, right: String, rename: String },
    #[error("axis `{axis}` of a function may not leave it")]
    #[diagnostic(
        code(axis::escapes),
        help("reduce, merge or rename it before the result, or take it as an argument after `;`")
    )]
    Escapes { axis: String },
    #[error("the index {index}, the axis `{axis}` has positions 0 to {last}")]
    #[diagnostic(code(index::range), help("`clamp(e, 0, {axis} - 1)` keeps it inside"))]
    IndexRange { axis: String, index: String, last: i64 },
    #[error("{what} leaves the range of 32-bit integers")]
    #[diagnostic(code(int::range), help("compute it with reals: multiply by `f32(1)` first"))]
    IntRange { what: String },
    #[error("`{name}` has shape {found}, but {wanted} was declared")]
    #[diagnostic(code(shape::declared), help("{help}"))]
    Declared { name: String, found: String, wanted: String, help: &'static str },
    #[error("the operation does not fit: {reason}")]
    #[diagnostic(code(shape::operation), help("check the axes of its operands"))]
    Operation { reason: String },

    // Kinds of values.
    #[error("{what} needs {wanted}, not {found}")]
    #[diagnostic(code(dtype::clash), help("{help}"))]
    DType { what: String, wanted: &'static str, found: &'static str, help: &'static str },
    #[error("this condition is known beforehand: it is always {value}")]
    #[diagnostic(
        code(mask::known),
        help(
            "axes are sizes in expressions; positions along them are `pos(T)`: `pos(S) <= pos(T)`. A choice at compile time is written `if c {{ … }} else {{ … }}`"
        )
    )]
    KnownMask { value: bool },
    #[error("this `if` depends on data")]
    #[diagnostic(
        code("if::data"),
        help("`if` chooses at compile time; element by element it is `where(c, a, b)`")
    )]
    DataIf,
    #[error("a tuple of {found} where {wanted} was expected")]
    #[diagnostic(
        code(tuple::length),
        help("`let (a, b) = …` names as many values as the right side has")
    )]
    Tuple { wanted: String, found: usize },

    // Calls.
    #[error("`{name}` takes {wanted}, not {found}")]
    #[diagnostic(code(call::arguments), help("{signature}"))]
    Arguments { name: String, wanted: String, found: String, signature: String },
    #[error("`{name}` has no argument `{arg}`")]
    #[diagnostic(code(call::unknown), help("{near}"))]
    UnknownArgument { name: String, arg: String, near: Nearest },
    #[error("`{name}` is given no `{arg}`")]
    #[diagnostic(code(call::missing), help("{signature}"))]
    MissingArgument { name: String, arg: String, signature: String },
    #[error("layer `{name}` repeats inside a repeated layer")]
    #[diagnostic(code(layer::nested), help("call it outside, or drop one `repeat`"))]
    NestedRepeat { name: String },
    #[error("layer `{name}` is never called")]
    #[diagnostic(code(layer::unused), help("call it, or remove it with its parameters"))]
    UnusedLayer { name: String },

    // Parameters and their names.
    #[error("parameter `{name}` is never used")]
    #[diagnostic(
        code(param::unused),
        help("use it or remove it: it would be trained, stored and sent for nothing")
    )]
    UnusedParam { name: String },
    #[error("parameter `{name}` reaches no loss, metric or output")]
    #[diagnostic(
        code(param::unused),
        help("a later `let` may hide the value that used it; use it or remove it")
    )]
    UnreachedParam { name: String },
    #[error("parameter `{name}` has no initialiser")]
    #[diagnostic(
        code(param::initialiser),
        help(
            "write `= 0`, `~ normal(0.02)`, `~ truncated(std)` or `~ uniform(lo, hi)`; one initialiser covers the parameters before it in the statement"
        )
    )]
    NoInitialiser { name: String },
    #[error("unknown distribution `{name}`")]
    #[diagnostic(code(param::distribution), help("{near}"))]
    Distribution { name: String, near: Nearest },
    #[error("{what}")]
    #[diagnostic(code("as::template"), help("{help}"))]
    Template { what: String, help: String },
    #[error("{names} names are dealt to {params} parameters")]
    #[diagnostic(
        code("as::deal"),
        help("`{{a,b}}` gives one name to each parameter of the statement")
    )]
    Deal { names: usize, params: usize },
    #[error("two parameters claim the stored tensor \"{name}\"")]
    #[diagnostic(
        code("as::clash"),
        help(
            "each stored element belongs to one parameter: give them different names, or parts of one tensor with `from`"
        )
    )]
    Clash { name: String },
    #[error(
        "nothing claims a part of the stored tensor \"{name}\": {claimed} of {total} elements are claimed"
    )]
    #[diagnostic(
        code("as::gap"),
        help("each stored element is claimed exactly once: check the sizes after `from`")
    )]
    Gap { name: String, claimed: u64, total: u64 },

    // Results.
    #[error("the {what} must be a scalar, but it has axes {axes}")]
    #[diagnostic(
        code(loss::shape),
        help("`mean(e)` averages over all of them, `sum(e; T)` sums over one")
    )]
    NotScalar { what: &'static str, axes: String },
    #[error("the model has no `loss`")]
    #[diagnostic(
        code(loss::missing),
        help("say what is trained, such as `loss mean(cross_entropy(logits, targets; V))`")
    )]
    NoLoss,
    #[error("what stands after `per` depends on parameter `{param}`")]
    #[diagnostic(
        code(loss::per),
        help(
            "it is summed over the global batch before the loss is divided; put what depends on parameters before `per`"
        )
    )]
    PerDepends { param: String },

    // Training.
    #[error("unknown {what} `{name}`")]
    #[diagnostic(code(train::unknown), help("{near}"))]
    UnknownSetting { what: &'static str, name: String, near: Nearest },
    #[error("{what} {problem}")]
    #[diagnostic(code(train::value), help("{help}"))]
    Setting { what: String, problem: String, help: String },
    #[error("`--set {name}` changes nothing")]
    #[diagnostic(code(set::unknown), help("{near}"))]
    UnknownSet { name: String, near: Nearest },
    #[error("a phase may not change the shape of parameter `{name}`")]
    #[diagnostic(
        code(phase::shape),
        help("weights carry over from phase to phase; change axes that no parameter has")
    )]
    PhaseShape { name: String },
}

/// A cause with its places. Becomes a [`crate::Diagnostic`] once the texts are known.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) cause: Cause,
    /// Places and what to say about each; the first is the main one.
    pub(crate) labels: Vec<(Span, String)>,
    /// Calls under way when it was found, outermost first: where, and of what.
    pub(crate) calls: Vec<(Span, String)>,
}

impl Report {
    pub(crate) fn new(cause: Cause, span: Span, label: impl Into<String>) -> Report {
        Report { cause, labels: vec![(span, label.into())], calls: Vec::new() }
    }

    /// Adds a second place.
    pub(crate) fn also(mut self, span: Span, label: impl Into<String>) -> Report {
        self.labels.push((span, label.into()));
        self
    }
}
