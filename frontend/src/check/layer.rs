//! Layers: blocks with parameters, once or repeated along an axis.

use std::rc::Rc;

use gigac_ir::graph::{AxisId, Op, ParamId, Slot, ValueId};

use super::Checker;
use super::scope::Frame;
use super::value::{Eval, Failed, Kind, Operand, Value};
use crate::error::{Cause, Report};
use crate::source::Span;
use crate::syntax::ast::{Block, Call, Layer, Shape, Statement};

/// A declared layer.
pub(crate) struct DeclaredLayer {
    pub(crate) ast: Rc<Layer>,
    /// Its declarations.
    pub(crate) table: usize,
    pub(crate) repeat: Option<AxisId>,
    pub(crate) params: Vec<ParamId>,
    /// The declared axes of its values.
    pub(crate) shapes: Vec<Eval<Vec<AxisId>>>,
    pub(crate) called: bool,
}

impl Checker {
    /// `block(x, y)`: the values after the last turn.
    pub(crate) fn call_layer(&mut self, at: usize, call: &Call, span: Span) -> Eval {
        let layer = &mut self.layers[at];
        layer.called = true;
        let ast = layer.ast.clone();
        let name = ast.name.name.clone();
        if self.active_layers.contains(&at) {
            return self.fail(Report::new(
                Cause::Recursion { name },
                call.name.span,
                "calls it again",
            ));
        }
        let repeated = self.layers[at].repeat.is_some() && !self.turns.is_empty();
        if repeated {
            return self.fail(Report::new(
                Cause::NestedRepeat { name },
                call.name.span,
                "inside a repeat",
            ));
        }
        let args: Vec<Eval<Operand>> =
            call.args.iter().map(|arg| self.operand(&arg.value)).collect();
        let args = args.into_iter().collect::<Eval<Vec<Operand>>>()?;
        let named = call.args.iter().any(|arg| arg.name.is_some());
        if args.len() != ast.args.len() || call.axes.is_some() || named {
            let names: Vec<&str> = ast.args.iter().map(|(name, _)| name.name.as_str()).collect();
            let cause = Cause::Arguments {
                name: name.clone(),
                wanted: format!("{} values by position and no axes", ast.args.len()),
                found: args.len().to_string(),
                signature: format!("it is `{name}({})`", names.join(", ")),
            };
            return self.fail(Report::new(cause, call.name.span, "does not fit"));
        }
        let carried = self.carried(at, &ast, &args)?;
        self.active_layers.push(at);
        self.calls.push((span, name));
        let result = match self.layers[at].repeat {
            Some(axis) => self.repeat(at, axis, &carried, span),
            None => self.turn(at, &carried),
        };
        self.calls.pop();
        self.active_layers.pop();
        let mut results: Vec<Value> = result?.into_iter().map(Value::Tensor).collect();
        Ok(if results.len() == 1 { results.remove(0) } else { Value::Tuple(results) })
    }

    /// The arguments as reals with exactly the declared axes.
    fn carried(&mut self, at: usize, ast: &Layer, args: &[Operand]) -> Eval<Vec<ValueId>> {
        let mut carried = Vec::new();
        for (index, (arg, (name, shape))) in args.iter().zip(&ast.args).enumerate() {
            let wanted = self.layers[at].shapes[index].clone()?;
            let place = (shape.span, "declared here");
            let help = "a layer takes values of exactly the axes it declares";
            carried.push(self.shaped(arg, &wanted, &name.name, help, place));
        }
        carried.into_iter().collect()
    }

    /// A real with exactly the wanted axes; a constant fills them.
    fn shaped(
        &mut self,
        operand: &Operand,
        wanted: &[AxisId],
        name: &str,
        help: &'static str,
        declared: (Span, &str),
    ) -> Eval<ValueId> {
        if self.kind(&operand.value) == Kind::Bool {
            return self.dtype_error(&format!("`{name}`"), "a number", "a bool", operand.span);
        }
        if let Value::Number(_) = operand.value {
            let number = self.tensor(&operand.value, Kind::Real, operand.span)?;
            let fill = Op::Broadcast { axes: wanted.to_vec() };
            return if wanted.is_empty() {
                Ok(number)
            } else {
                self.emit(fill, &[number], operand.span)
            };
        }
        let own = self.axes_of(&operand.value);
        let same = own.len() == wanted.len() && own.iter().all(|axis| wanted.contains(axis));
        if !same {
            let cause = Cause::Declared {
                name: name.into(),
                found: self.axes_text(&own),
                wanted: self.axes_text(wanted),
                help,
            };
            let has = format!("has axes {}", self.axes_text(&own));
            let report = Report::new(cause, operand.span, has).also(declared.0, declared.1);
            return self.fail(report);
        }
        self.tensor(&operand.value, Kind::Real, operand.span)
    }

    /// All turns as one region of the graph.
    fn repeat(
        &mut self,
        at: usize,
        axis: AxisId,
        carried: &[ValueId],
        span: Span,
    ) -> Eval<Vec<ValueId>> {
        let params = self.layers[at].params.clone();
        let mut stacked = Vec::new();
        for param in &params {
            stacked.push(self.emit(Op::Param(*param, Slot::Weight), &[], span)?);
        }
        let args = self.builder.open_repeat(axis, carried, &stacked);
        let (turn, rest) = args.split_at(1);
        let (values, slices) = rest.split_at(carried.len());
        for (param, slice) in params.iter().zip(slices) {
            self.param_values.insert(*param, *slice);
        }
        self.turns.push((axis, turn[0]));
        let next = self.turn(at, values);
        self.turns.pop();
        for param in &params {
            self.param_values.remove(param);
        }
        // A region must be closed even when its body failed: handing the arguments on keeps its type.
        let results = next.clone().unwrap_or_else(|_| values.to_vec());
        self.builder.span = Some(span);
        match self.builder.close_repeat((axis, false), carried, &stacked, &results, &[]) {
            Ok(results) => Ok(results),
            Err(error) => {
                let cause = Cause::Operation { reason: error.to_string() };
                self.fail(Report::new(cause, span, "this layer"))
            }
        }
    }

    /// One turn: the body with its arguments bound.
    fn turn(&mut self, at: usize, carried: &[ValueId]) -> Eval<Vec<ValueId>> {
        let (ast, table) = (self.layers[at].ast.clone(), self.layers[at].table);
        let names = ast.args.iter().map(|(name, _)| name.name.clone());
        let values = names.zip(carried.iter().map(|id| Ok(Value::Tensor(*id)))).collect();
        let frame = Frame { before: ast.name.span.start, values, ..self.declaration_frame(table) };
        let result = self.with_frame(frame, |checker| checker.layer_body(&ast.body))?;
        let items = match result {
            Value::Tuple(items) => items,
            single => vec![single],
        };
        let span = ast.body.result.span;
        if items.len() != ast.args.len() {
            let wanted = format!("{} values", ast.args.len());
            let cause = Cause::Tuple { wanted, found: items.len() };
            return self.fail(Report::new(cause, span, "the result of the layer"));
        }
        let mut results = Vec::new();
        for (index, (value, (name, shape))) in items.into_iter().zip(&ast.args).enumerate() {
            let wanted = self.layers[at].shapes[index].clone()?;
            let operand = Operand { value, span };
            let help = "a layer returns values of exactly the axes it declares: they go into the next turn";
            let place = (shape.span, "declared here");
            results.push(self.shaped(&operand, &wanted, &name.name, help, place));
        }
        results.into_iter().collect()
    }

    /// The `let`s and the result; declarations of the layer are in its table already.
    fn layer_body(&mut self, body: &Block) -> Eval {
        for statement in &body.statements {
            if let Statement::Let(binding) = statement {
                self.bind_let(binding);
            }
        }
        self.eval(&body.result)
    }

    /// The axes of a shape, which must differ.
    pub(crate) fn shape_axes(
        &mut self,
        shape: &Shape,
        also: Option<AxisId>,
    ) -> Eval<Vec<Vec<AxisId>>> {
        let mut seen: Vec<AxisId> = also.into_iter().collect();
        let mut dims = Vec::new();
        let mut failed = false;
        for group in &shape.groups {
            let mut dim = Vec::new();
            for ident in group {
                let Ok(axis) = self.axis_named(ident) else {
                    failed = true;
                    continue;
                };
                if seen.contains(&axis) {
                    let cause = Cause::AxisTwice { axis: ident.name.clone() };
                    failed = true;
                    self.report(Report::new(cause, ident.span, "again here"));
                }
                seen.push(axis);
                dim.push(axis);
            }
            dims.push(dim);
        }
        if failed { Err(Failed) } else { Ok(dims) }
    }
}
