//! Calls: functions are templates, expanded with the caller's axes each time.

use std::rc::Rc;

use gigac_ir::graph::AxisId;

use super::Checker;
use super::primitive::{self, Primitive};
use super::scope::{Frame, FrameAxis};
use super::value::{Eval, Failed, Operand, Value};
use crate::error::{Cause, Report};
use crate::source::Span;
use crate::syntax::ast::*;
use gigac_ir::nearest::nearest;

/// A function and where it comes from.
#[derive(Clone)]
pub(crate) struct Template {
    pub(crate) function: Rc<Function>,
    pub(crate) origin: Origin,
}

/// What a function sees besides its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Everything declared around it.
    Model,
    /// The functions of the used files and of the prelude.
    Library,
    /// The prelude.
    Prelude,
}

/// What a name stands for when it is called.
enum Callee {
    Primitive(&'static Primitive),
    Template(Template),
    Layer(usize),
}

impl Checker {
    /// `name(values; axes)`
    pub(crate) fn call(&mut self, call: &Call, span: Span) -> Eval {
        match self.callee(&call.name)? {
            Callee::Primitive(primitive) => self.primitive(primitive, call, span),
            Callee::Template(template) => self.expand(&template, call, span),
            Callee::Layer(layer) => self.call_layer(layer, call, span),
        }
    }

    /// Own functions win over those of used files, those over the prelude; primitives cannot be replaced.
    fn callee(&mut self, name: &Ident) -> Eval<Callee> {
        if let Some(primitive) = primitive::find(&name.name) {
            return Ok(Callee::Primitive(primitive));
        }
        let origin = self.origin();
        if origin == Origin::Model
            && let Some(layer) = self.layers.iter().position(|l| l.ast.name.name == name.name)
        {
            return Ok(Callee::Layer(layer));
        }
        let visible = |template: &&Template| {
            template.function.name.name == name.name && template.origin as u8 >= origin as u8
        };
        if let Some(template) = self.functions.iter().filter(visible).min_by_key(|t| t.origin as u8)
        {
            return Ok(Callee::Template(template.clone()));
        }
        self.unknown_function(name, origin)
    }

    fn origin(&self) -> Origin {
        self.origins.last().copied().unwrap_or(Origin::Model)
    }

    fn unknown_function<T>(&mut self, name: &Ident, origin: Origin) -> Eval<T> {
        if self.poisoned.contains(&name.name) {
            return Err(Failed);
        }
        let templates = self.functions.iter().filter(|t| t.origin as u8 >= origin as u8);
        let mut known: Vec<&str> = templates.map(|t| t.function.name.name.as_str()).collect();
        known.extend(primitive::PRIMITIVES.iter().map(|primitive| primitive.name));
        known.extend(self.layers.iter().map(|layer| layer.ast.name.name.as_str()));
        let near = nearest(&name.name, known, "define it with `fn`, or see the prelude");
        let cause = Cause::UnknownName { what: "function", name: name.name.clone(), near };
        self.fail(Report::new(cause, name.span, "not a function"))
    }

    /// Expands a function at a call.
    fn expand(&mut self, template: &Template, call: &Call, span: Span) -> Eval {
        let function = template.function.clone();
        let name = function.name.name.clone();
        if self.active.iter().any(|active| Rc::ptr_eq(active, &function)) {
            return self.fail(Report::new(
                Cause::Recursion { name },
                call.name.span,
                "calls it again",
            ));
        }
        let (values, listed) = self.evaluate_call(&function, call);
        let (values, listed) = (values?, listed?);
        self.check_given(&function, &values, call)?;
        let axes = self.bind_axes(&function, &values, listed, call)?;
        let frame = Frame {
            tables: if template.origin == Origin::Model { vec![0] } else { Vec::new() },
            before: function.name.span.start,
            axes,
            prefix: format!("{name}."),
            ..Frame::default()
        };
        self.active.push(function.clone());
        self.origins.push(template.origin);
        self.calls.push((span, name));
        let result = self.with_frame(frame, |checker| {
            checker.bind_values(&function, values)?;
            let result = checker.block(&function.body)?;
            checker.check_escape(&result, function.body.result.span)?;
            Ok(result)
        });
        self.calls.pop();
        self.origins.pop();
        self.active.pop();
        result
    }

    /// Evaluates what the call passes, in the caller's frame: a value for each argument given, and the axes listed.
    #[allow(clippy::type_complexity, reason = "a pair that is taken apart at once")]
    fn evaluate_call(
        &mut self,
        function: &Function,
        call: &Call,
    ) -> (Eval<Vec<Option<Operand>>>, Eval<Option<Vec<(AxisId, Span)>>>) {
        if function.args.is_empty() && call.axes.is_none() && !call.args.is_empty() {
            return (Ok(Vec::new()), self.axes_as_arguments(function, call).map(Some));
        }
        let slots = self.match_arguments(function, call);
        let listed = match &call.axes {
            None => Ok(None),
            Some(list) => self.axis_list(list).map(Some),
        };
        (slots, listed)
    }

    /// `causal(T, S)`: a function of axes only takes them without `;`.
    fn axes_as_arguments(&mut self, function: &Function, call: &Call) -> Eval<Vec<(AxisId, Span)>> {
        let mut idents = Vec::new();
        for arg in &call.args {
            match (&arg.value.kind, &arg.name) {
                (ExprKind::Axis(name), None) => {
                    idents.push(Ident { name: name.clone(), span: arg.value.span });
                }
                _ => {
                    let found = "a value".to_string();
                    return self.wrong_arguments(
                        function,
                        "axes only".into(),
                        found,
                        arg.value.span,
                    );
                }
            }
        }
        self.distinct_axes(&idents)
    }

    fn match_arguments(&mut self, function: &Function, call: &Call) -> Eval<Vec<Option<Operand>>> {
        let mut slots: Vec<Option<Operand>> = vec![None; function.args.len()];
        let mut failed = false;
        for (at, arg) in call.args.iter().enumerate() {
            let value = self.argument(&arg.value);
            let slot = match &arg.name {
                None if at < slots.len() => at,
                None => {
                    let wanted = plural(slots.len(), "value");
                    let found = call.args.len().to_string();
                    return self.wrong_arguments(function, wanted, found, arg.value.span);
                }
                Some(name) => match function.args.iter().position(|a| a.name.name == name.name) {
                    Some(slot) => slot,
                    None => return self.unknown_argument(function, name),
                },
            };
            if slots[slot].is_some() {
                let name = function.args[slot].name.name.clone();
                let report = Report::new(Cause::Twice { name }, arg.value.span, "given again");
                return self.fail(report);
            }
            match value {
                Ok(value) => slots[slot] = Some(value),
                Err(Failed) => failed = true,
            }
        }
        if failed { Err(Failed) } else { Ok(slots) }
    }

    /// An argument may be a tuple: functions only pass it on.
    fn argument(&mut self, expr: &Expr) -> Eval<Operand> {
        Ok(Operand { value: self.eval(expr)?, span: expr.span })
    }

    fn unknown_argument<T>(&mut self, function: &Function, name: &Ident) -> Eval<T> {
        let known = function.args.iter().map(|arg| arg.name.name.as_str());
        let near = nearest(&name.name, known, signature(function));
        let cause = Cause::UnknownArgument {
            name: function.name.name.clone(),
            arg: name.name.clone(),
            near,
        };
        self.fail(Report::new(cause, name.span, "no such argument"))
    }

    fn wrong_arguments<T>(
        &mut self,
        function: &Function,
        wanted: String,
        found: String,
        span: Span,
    ) -> Eval<T> {
        let cause = Cause::Arguments {
            name: function.name.name.clone(),
            wanted,
            found,
            signature: signature(function),
        };
        self.fail(Report::new(cause, span, "does not fit"))
    }

    /// The axes after `;` of a call that lists plain axes.
    pub(crate) fn axis_list(&mut self, list: &[AxisArg]) -> Eval<Vec<(AxisId, Span)>> {
        let mut idents = Vec::new();
        for entry in list {
            match (&entry.parts[..], &entry.to) {
                ([Some(axis)], None) => idents.push(axis.clone()),
                _ => {
                    let expected = "one axis between commas".to_string();
                    let found = self.sources.text(entry.span).to_string();
                    let cause = Cause::Syntax { expected, found: format!("`{found}`") };
                    return self.fail(Report::new(cause, entry.span, "not a single axis"));
                }
            }
        }
        self.distinct_axes(&idents)
    }

    fn distinct_axes(&mut self, idents: &[Ident]) -> Eval<Vec<(AxisId, Span)>> {
        let mut all: Vec<(AxisId, Span)> = Vec::new();
        let mut failed = false;
        for ident in idents {
            let Ok(ids) = self.axes_named(ident) else {
                failed = true;
                continue;
            };
            for id in ids {
                if let Some((_, first)) = all.iter().find(|(known, _)| *known == id) {
                    let cause = Cause::AxisTwice { axis: ident.name.clone() };
                    let report =
                        Report::new(cause, ident.span, "again here").also(*first, "first here");
                    return self.fail(report);
                }
                all.push((id, ident.span));
            }
        }
        if failed { Err(Failed) } else { Ok(all) }
    }

    /// Gives each axis of the template one of the caller's; `More...` takes those that are left, or all of the first value.
    fn bind_axes(
        &mut self,
        function: &Function,
        values: &[Option<Operand>],
        listed: Option<Vec<(AxisId, Span)>>,
        call: &Call,
    ) -> Eval<Vec<FrameAxis>> {
        let listed: Vec<AxisId> =
            listed.unwrap_or_default().into_iter().map(|(id, _)| id).collect();
        let single = function.axes.iter().filter(|axis| !axis.several).count();
        let open = single < function.axes.len();
        if listed.len() < single || (listed.len() > single && !open) {
            let wanted = plural(single, "axis") + if open { " or more" } else { "" };
            return self.wrong_arguments(
                function,
                wanted,
                listed.len().to_string(),
                call.name.span,
            );
        }
        let (fixed, more) = listed.split_at(single);
        let mut fixed = fixed.iter().copied();
        let rest = match values.first() {
            _ if !more.is_empty() => more.to_vec(),
            Some(Some(first)) => {
                let own = self.axes_of(&first.value);
                own.into_iter().filter(|axis| !listed.contains(axis)).collect()
            }
            _ => Vec::new(),
        };
        let bind = |axis: &FormalAxis| {
            let ids = if axis.several { rest.clone() } else { fixed.next().into_iter().collect() };
            FrameAxis { name: axis.name.name.clone(), ids: Ok(ids) }
        };
        Ok(function.axes.iter().map(bind).collect())
    }

    /// Every argument is given or has a default.
    fn check_given(
        &mut self,
        function: &Function,
        values: &[Option<Operand>],
        call: &Call,
    ) -> Eval<()> {
        let given = |at: usize| values.get(at).is_some_and(Option::is_some);
        let mut formals = function.args.iter().enumerate();
        let missing = formals.find(|(at, formal)| formal.default.is_none() && !given(*at));
        let Some((_, formal)) = missing else { return Ok(()) };
        let cause = Cause::MissingArgument {
            name: function.name.name.clone(),
            arg: formal.name.name.clone(),
            signature: signature(function),
        };
        self.fail(Report::new(cause, call.name.span, "this call"))
    }

    /// Puts the arguments into the new frame; a default sees the axes and the arguments before it.
    fn bind_values(&mut self, function: &Function, values: Vec<Option<Operand>>) -> Eval<()> {
        let mut values = values.into_iter();
        for formal in &function.args {
            let value = match (values.next().flatten(), &formal.default) {
                (Some(given), _) => given.value,
                (None, Some(default)) => self.eval(default)?,
                (None, None) => return Err(Failed),
            };
            self.frame().values.push((formal.name.name.clone(), Ok(value)));
        }
        Ok(())
    }

    /// Local axes may not be on the result.
    fn check_escape(&mut self, result: &Value, span: Span) -> Eval<()> {
        if let Value::Tuple(items) = result {
            return items.iter().try_for_each(|item| self.check_escape(item, span));
        }
        let axes = self.axes_of(result);
        let escaped = axes.into_iter().find(|axis| self.frame().locals.contains(axis));
        let Some(axis) = escaped else { return Ok(()) };
        let axis = self.axis_text(axis).to_string();
        self.fail(Report::new(Cause::Escapes { axis }, span, "the result has it"))
    }
}

/// `name(value, other = …; Axis, More...)`, for help lines.
pub(crate) fn signature(function: &Function) -> String {
    let arg = |arg: &FormalArg| {
        let default = if arg.default.is_some() { " = …" } else { "" };
        format!("{}{default}", arg.name.name)
    };
    let axis = |axis: &FormalAxis| {
        let dots = if axis.several { "..." } else { "" };
        format!("{}{dots}", axis.name.name)
    };
    let args: Vec<String> = function.args.iter().map(arg).collect();
    let axes: Vec<String> = function.axes.iter().map(axis).collect();
    let between = if args.is_empty() || axes.is_empty() { "" } else { "; " };
    format!("it is `{}({}{between}{})`", function.name.name, args.join(", "), axes.join(", "))
}

fn plural(count: usize, what: &str) -> String {
    match (count, what) {
        (1, _) => format!("1 {what}"),
        (_, "axis") => format!("{count} axes"),
        _ => format!("{count} {what}s"),
    }
}
