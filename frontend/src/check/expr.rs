//! Expressions and blocks.

use std::collections::HashSet;

use gigac_ir::graph::{AxisId, Op, ValueId};
use gigac_ir::pointwise::Pointwise;

use super::Checker;
use super::scope::FrameAxis;
use super::value::{Eval, Failed, Kind, Operand, Value};
use crate::error::{Cause, Report};
use crate::number::Number;
use crate::source::Span;
use crate::syntax::ast::*;

/// Expansions may nest this deep, counting expressions within calls within expressions.
const MAX_NESTING: u32 = 3000;

/// Nodes of the tree that may be expanded, counted once for each time a function's body is.
const MAX_STEPS: u32 = 1 << 18;

/// Largest size of an axis.
const MAX_SIZE: i64 = 1 << 40;

impl Checker {
    /// Expands an expression.
    pub(crate) fn eval(&mut self, expr: &Expr) -> Eval {
        self.steps += 1;
        if self.steps > MAX_STEPS || self.nesting >= MAX_NESTING {
            if !std::mem::replace(&mut self.exploded, true) {
                let cause = Cause::TooBig { limit: MAX_STEPS };
                return self.fail(Report::new(cause, expr.span, "expanding this"));
            }
            return Err(Failed);
        }
        self.nesting += 1;
        let value = self.eval_kind(expr);
        self.nesting -= 1;
        value
    }

    fn eval_kind(&mut self, expr: &Expr) -> Eval {
        match &expr.kind {
            ExprKind::Broken => Err(Failed),
            ExprKind::Number(number) => Ok(Value::Number(*number)),
            ExprKind::Name(name) => self.lookup(name, expr.span),
            ExprKind::Axis(name) => self.axis_as_number(name, expr.span),
            ExprKind::Tuple(items) => {
                let values: Vec<Eval> = items.iter().map(|item| self.eval(item)).collect();
                Ok(Value::Tuple(values.into_iter().collect::<Eval<_>>()?))
            }
            ExprKind::Unary(op, value) => {
                let value = self.operand(value)?;
                self.unary(*op, value, expr.span)
            }
            ExprKind::Binary(op, left, right) => {
                let (left, right) = (self.operand(left), self.operand(right));
                self.binary(*op, left?, right?, expr.span)
            }
            ExprKind::If(choice) => self.choose(choice),
            ExprKind::Call(call) => self.call(call, expr.span),
            ExprKind::Index { value, axis, at } => {
                let (value, at) = (self.operand(value), self.operand(at));
                self.index(value?, axis, at?, expr.span)
            }
            ExprKind::Reshape { value, from, to } => {
                let value = self.operand(value)?;
                self.reshape(value, from, to, expr.span)
            }
        }
    }

    /// Expands an expression that must be a single value.
    pub(crate) fn operand(&mut self, expr: &Expr) -> Eval<Operand> {
        let value = self.eval(expr)?;
        if let Value::Tuple(items) = &value {
            let cause = Cause::Tuple { wanted: "a single value".into(), found: items.len() };
            return self.fail(Report::new(cause, expr.span, "several values"));
        }
        Ok(Operand { value, span: expr.span })
    }

    fn axis_as_number(&mut self, name: &str, span: Span) -> Eval {
        let ids = self.axes_named(&Ident { name: name.into(), span })?;
        let sizes = ids.iter().map(|id| Number::whole(self.builder.graph.size(*id)));
        Ok(Value::Number(sizes.fold(Number::ONE, Number::mul)))
    }

    fn choose(&mut self, choice: &If) -> Eval {
        let (taken, other) = match self.eval(&choice.condition)? {
            Value::Bool(true) => (&choice.then, &choice.otherwise),
            Value::Bool(false) => (&choice.otherwise, &choice.then),
            Value::Tensor(_) | Value::Empty { .. } => {
                let span = choice.condition.span;
                return self.fail(Report::new(Cause::DataIf, span, "not known beforehand"));
            }
            Value::Number(_) | Value::Tuple(_) => {
                return self.dtype_error("`if`", "a bool", "a number", choice.condition.span);
            }
        };
        self.mention(other);
        self.block(taken)
    }

    /// Parameters of the branch not taken count as used: another build takes it.
    fn mention(&mut self, block: &Block) {
        let mut names = HashSet::new();
        super::mention::block(block, &mut names);
        self.mentioned.extend(names);
    }

    /// Expands a block in a scope of its own.
    pub(crate) fn block(&mut self, block: &Block) -> Eval {
        let frame = self.frame();
        let (values, axes) = (frame.values.len(), frame.axes.len());
        for statement in &block.statements {
            self.statement(statement);
        }
        let result = self.eval(&block.result);
        let frame = self.frame();
        frame.values.truncate(values);
        frame.axes.truncate(axes);
        result
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Let(binding) => self.bind_let(binding),
            Statement::Axes(list) => {
                for binding in list {
                    self.local_axis(binding);
                }
            }
            Statement::Const(list) => {
                for binding in list {
                    let value = self.eval(&binding.value);
                    self.frame().values.push((binding.name.name.clone(), value));
                }
            }
            Statement::Param(statement) => {
                if let Some(param) = statement.params.first() {
                    let report =
                        Report::new(Cause::ParamPlace, param.name.span, "declared in a function");
                    self.report(report);
                }
                for param in &statement.params {
                    self.frame().values.push((param.name.name.clone(), Err(Failed)));
                }
            }
        }
    }

    /// `let x = …` or `let (a, b) = …` in the current frame.
    pub(crate) fn bind_let(&mut self, binding: &Let) {
        for (name, value) in self.let_values(binding) {
            self.check_hiding(name);
            self.frame().values.push((name.name.clone(), value));
        }
    }

    /// The values of a `let`, one for each of its names.
    pub(crate) fn let_values<'a>(&mut self, binding: &'a Let) -> Vec<(&'a Ident, Eval)> {
        let value = self.eval(&binding.value);
        let names = &binding.names;
        let values = match value {
            Err(failed) => vec![Err(failed); names.len()],
            Ok(Value::Tuple(items)) if items.len() == names.len() && names.len() > 1 => {
                items.into_iter().map(Ok).collect()
            }
            Ok(Value::Tuple(items)) if names.len() > 1 => {
                let wanted = format!("{} values", names.len());
                let cause = Cause::Tuple { wanted, found: items.len() };
                let failed = self.fail(Report::new(cause, binding.value.span, "this tuple"));
                vec![failed; names.len()]
            }
            Ok(value) if names.len() == 1 => vec![Ok(value)],
            Ok(_) => {
                let cause = Cause::Tuple { wanted: format!("{} values", names.len()), found: 1 };
                let failed = self.fail(Report::new(cause, binding.value.span, "a single value"));
                vec![failed; names.len()]
            }
        };
        let pairs: Vec<(&Ident, Eval)> = names.iter().zip(values).collect();
        // Names in libraries say little about the model.
        let own = !self.frame().tables.is_empty();
        for (name, value) in pairs.iter().filter(|_| own) {
            if let Ok(Value::Tensor(id)) = value {
                self.builder.name(*id, &name.name);
            }
        }
        pairs
    }

    /// Parameters, inputs and constants cannot be hidden.
    pub(crate) fn check_hiding(&mut self, name: &Ident) {
        for table in self.frame().tables.clone() {
            if let Some((declared, at)) = self.tables[table].names.get(&name.name) {
                let (what, at) = (declared.what(), *at);
                let cause = Cause::Hides { name: name.name.clone(), what };
                self.report(Report::new(cause, name.span, "hides it").also(at, "declared here"));
            }
        }
    }

    /// An axis that belongs to the current call.
    fn local_axis(&mut self, binding: &Binding) {
        let name = &binding.name;
        if self.frame().axes.iter().any(|own| own.name == name.name) {
            self.report(Report::new(
                Cause::Twice { name: name.name.clone() },
                name.span,
                "again here",
            ));
        }
        let size = self.axis_size(&name.name, &binding.value, 0);
        let id = size.map(|size| self.local_axis_id(&name.name, size));
        let ids = id.map(|id| vec![id]);
        let axis = FrameAxis { name: name.name.clone(), ids };
        self.frame().axes.push(axis);
    }

    /// An id for a local axis. Axes of calls that are over are used again, so that equal calls give equal values: none
    /// of them can have left its call.
    pub(crate) fn local_axis_id(&mut self, name: &str, size: u64) -> AxisId {
        let full = format!("{}{name}", self.frame().prefix);
        let live: HashSet<AxisId> =
            self.frames.iter().flat_map(|frame| frame.locals.iter().copied()).collect();
        let pool = self.local_axes.entry((full.clone(), size)).or_default();
        let free = pool.iter().copied().find(|id| !live.contains(id));
        let id = free.unwrap_or_else(|| {
            let id = self.builder.graph.add_axis(&full, size);
            pool.push(id);
            id
        });
        self.frame().locals.push(id);
        id
    }

    /// A size: a whole number, at least `least`.
    pub(crate) fn axis_size(&mut self, name: &str, expr: &Expr, least: i64) -> Eval<u64> {
        let what = format!("the size of `{name}`");
        let size = self.whole(&what, expr)?;
        let help = match size {
            size if size < least && least == 1 => "an axis of the model has at least one position",
            size if size < least => "a size is not negative",
            size if size > MAX_SIZE => "sizes go up to 2^40",
            _ => return Ok(size as u64),
        };
        let cause = Cause::Size { what, value: size.to_string(), help };
        self.fail(Report::new(cause, expr.span, format!("comes out as {size}")))
    }

    /// A constant that must be a whole number.
    pub(crate) fn whole(&mut self, what: &str, expr: &Expr) -> Eval<i64> {
        let number = self.number(what, expr)?;
        if let Some(whole) = number.as_whole() {
            return Ok(whole);
        }
        let too_large =
            matches!(number, Number::Exact { den: 1, .. }) || !number.to_f64().is_finite();
        let (what, value) = (what.to_string(), number.to_string());
        let cause = if too_large || number.to_f64().abs() > 9e15 {
            Cause::Size { what, value, help: "sizes go up to 2^40" }
        } else {
            Cause::Fraction { what, value }
        };
        self.fail(Report::new(cause, expr.span, format!("this is {number}")))
    }

    /// A constant number.
    pub(crate) fn number(&mut self, what: &str, expr: &Expr) -> Eval<Number> {
        match self.eval(expr)? {
            Value::Number(number) => Ok(number),
            Value::Bool(_) => self.dtype_error(what, "a number", "a bool", expr.span),
            _ => self.not_constant(what, expr.span),
        }
    }

    /// A constant real.
    pub(crate) fn real_constant(&mut self, what: &str, expr: &Expr) -> Eval<f64> {
        Ok(self.number(what, expr)?.to_f64())
    }

    pub(crate) fn dtype_error<T>(
        &mut self,
        what: &str,
        wanted: &'static str,
        found: &'static str,
        span: Span,
    ) -> Eval<T> {
        let help = match (wanted, found) {
            (_, "a bool") => "a bool becomes a number by `where(c, 1, 0)`",
            ("a bool", _) => "compare it: `x != 0`",
            ("an int", "a real") => {
                "ints come from `pos`, `token`, `int` inputs, and `floor(a / b)` of ints"
            }
            _ => "look at the kinds of its operands",
        };
        let cause = Cause::DType { what: what.into(), wanted, found, help };
        self.fail(Report::new(cause, span, format!("this is {found}")))
    }

    /// The kind of a single value.
    pub(crate) fn kind(&self, value: &Value) -> Kind {
        match value {
            Value::Number(number) if number.is_exact_whole() => Kind::Int,
            Value::Number(_) => Kind::Real,
            Value::Bool(_) => Kind::Bool,
            Value::Empty { kind, .. } => *kind,
            Value::Tensor(id) => super::graph::kind_of(self.builder.ty(*id).dtype),
            Value::Tuple(_) => Kind::Real,
        }
    }

    /// The axes of a single value.
    pub(crate) fn axes_of(&self, value: &Value) -> Vec<AxisId> {
        match value {
            Value::Tensor(id) => self.builder.ty(*id).axes.clone(),
            Value::Empty { axes, .. } => axes.clone(),
            _ => Vec::new(),
        }
    }

    /// The value in the graph, as it is or as a real. Constants become nodes.
    pub(crate) fn tensor(&mut self, value: &Value, kind: Kind, span: Span) -> Eval<ValueId> {
        match value {
            Value::Number(number) if kind == Kind::Int => match number.as_whole() {
                Some(whole) => Ok(self.builder.int(whole)),
                None => Err(Failed),
            },
            Value::Number(number) => Ok(self.builder.real(number.to_f64())),
            Value::Bool(value) => self.emit(Op::Bool(*value), &[], span),
            Value::Tensor(id) if kind == Kind::Real && self.kind(value) != Kind::Real => {
                self.emit(Op::Pointwise(Pointwise::ToReal), &[*id], span)
            }
            Value::Tensor(id) => Ok(*id),
            Value::Empty { .. } | Value::Tuple(_) => Err(Failed),
        }
    }
}
