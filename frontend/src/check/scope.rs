//! Names: declarations, frames of calls, and how a name or an axis is found.

use std::collections::HashMap;
use std::rc::Rc;

use gigac_ir::graph::{AxisId, ParamId, ValueId};

use super::Checker;
use super::value::{Eval, Failed, Value};
use crate::error::{Cause, Report};
use crate::number::Number;
use crate::source::Span;
use crate::syntax::ast::{Expr, Ident};
use gigac_ir::nearest::nearest;

/// A declared axis or constant, evaluated when first needed.
#[derive(Clone)]
pub(crate) enum Lazy<T> {
    Todo(Rc<Expr>),
    Busy,
    Done(Eval<T>),
}

/// Something that may be used before its line.
#[derive(Clone)]
pub(crate) enum Declared {
    Axis(Lazy<AxisId>),
    Const(Lazy<Value>),
    Param(Eval<ParamId>),
    Input(Eval<ValueId>),
}

impl Declared {
    pub(crate) fn what(&self) -> &'static str {
        match self {
            Declared::Axis(_) => "an axis",
            Declared::Const(_) => "a constant",
            Declared::Param(_) => "a parameter",
            Declared::Input(_) => "an input",
        }
    }
}

/// The declarations of the model (table 0) or of one layer.
#[derive(Default)]
pub(crate) struct Table {
    pub(crate) names: HashMap<String, (Declared, Span)>,
    /// Prefix of the graph names of its axes and parameters.
    pub(crate) prefix: String,
}

/// One call under way.
#[derive(Clone, Default)]
pub(crate) struct Frame {
    /// Tables that are searched after the frame itself, innermost first; none for library functions.
    pub(crate) tables: Vec<usize>,
    /// Top-level `let`s above this byte are visible.
    pub(crate) before: u32,
    /// `let`s and arguments; later ones hide earlier ones.
    pub(crate) values: Vec<(String, Eval)>,
    pub(crate) axes: Vec<FrameAxis>,
    /// Axes made by this call: they may not leave it.
    pub(crate) locals: Vec<AxisId>,
    /// Prefix of the graph names of local axes.
    pub(crate) prefix: String,
}

/// An axis name in a frame: an argument or a local axis.
#[derive(Clone)]
pub(crate) struct FrameAxis {
    pub(crate) name: String,
    pub(crate) ids: Eval<Vec<AxisId>>,
}

/// A top-level `let`.
pub(crate) struct Global {
    pub(crate) name: String,
    pub(crate) at: u32,
    pub(crate) value: Eval,
}

impl Checker {
    pub(crate) fn frame(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("a frame is open while a model is expanded")
    }

    fn current(&self) -> &Frame {
        self.frames.last().expect("a frame is open while a model is expanded")
    }

    /// Runs `body` with a frame of its own.
    pub(crate) fn with_frame<T>(&mut self, frame: Frame, body: impl FnOnce(&mut Self) -> T) -> T {
        self.frames.push(frame);
        let result = body(self);
        self.frames.pop();
        result
    }

    /// The value of a name.
    pub(crate) fn lookup(&mut self, name: &str, span: Span) -> Eval {
        let frame = self.current();
        if let Some((_, value)) = frame.values.iter().rev().find(|(own, _)| own == name) {
            return value.clone();
        }
        match name {
            "inf" => return Ok(Value::Number(Number::Float(f64::INFINITY))),
            "pi" => return Ok(Value::Number(Number::Float(std::f64::consts::PI))),
            "training" => return Ok(Value::Bool(self.mode.training)),
            _ => {}
        }
        let (tables, before) = (frame.tables.clone(), frame.before);
        if tables.contains(&0)
            && let Some(found) = self.globals.iter().rev().find(|g| g.name == name && g.at < before)
        {
            return found.value.clone();
        }
        for table in tables {
            if self.tables[table].names.contains_key(name) {
                return self.declared(table, name, span);
            }
        }
        self.unknown_name(name, span)
    }

    /// The value of a declaration.
    fn declared(&mut self, table: usize, name: &str, span: Span) -> Eval {
        let declared = self.tables[table].names.get(name).map(|(declared, _)| declared.clone());
        match declared {
            Some(Declared::Const(lazy)) => self.constant(table, name, lazy, span),
            Some(Declared::Param(param)) => {
                let param = param?;
                self.used_params.insert(param);
                self.param_values.get(&param).copied().map(Value::Tensor).ok_or(Failed)
            }
            Some(Declared::Input(input)) => Ok(Value::Tensor(input?)),
            Some(Declared::Axis(_)) | None => Err(Failed),
        }
    }

    fn constant(&mut self, table: usize, name: &str, lazy: Lazy<Value>, span: Span) -> Eval {
        let expr = match lazy {
            Lazy::Done(value) => return value,
            Lazy::Busy => return self.cycle(name, span),
            Lazy::Todo(expr) => expr,
        };
        self.store(table, name, Declared::Const(Lazy::Busy));
        let value = self.with_frame(self.declaration_frame(table), |checker| {
            let value = checker.eval(&expr)?;
            match value {
                Value::Number(_) | Value::Bool(_) => Ok(value),
                _ => checker.not_constant(&format!("constant `{name}`"), expr.span),
            }
        });
        self.store(table, name, Declared::Const(Lazy::Done(value.clone())));
        value
    }

    fn store(&mut self, table: usize, name: &str, declared: Declared) {
        if let Some(entry) = self.tables[table].names.get_mut(name) {
            entry.0 = declared;
        }
    }

    /// The frame in which declarations of a table are evaluated: they see each other and no `let`.
    pub(crate) fn declaration_frame(&self, table: usize) -> Frame {
        let tables = if table == 0 { vec![0] } else { vec![table, 0] };
        let prefix = self.tables[table].prefix.clone();
        Frame { tables, prefix, ..Frame::default() }
    }

    fn cycle<T>(&mut self, name: &str, span: Span) -> Eval<T> {
        self.fail(Report::new(Cause::Cycle { name: name.into() }, span, "needed for its own value"))
    }

    pub(crate) fn not_constant<T>(&mut self, what: &str, span: Span) -> Eval<T> {
        let cause = Cause::NotConstant { what: what.into() };
        self.fail(Report::new(cause, span, "depends on data, parameters or positions"))
    }

    /// The axes a name stands for: one, or all of a `More...`.
    pub(crate) fn axes_named(&mut self, axis: &Ident) -> Eval<Vec<AxisId>> {
        let frame = self.current();
        if let Some(own) = frame.axes.iter().rev().find(|own| own.name == axis.name) {
            return own.ids.clone();
        }
        for table in frame.tables.clone() {
            if self.tables[table].names.contains_key(&axis.name) {
                return Ok(vec![self.declared_axis(table, axis)?]);
            }
        }
        self.unknown_axis(axis)
    }

    /// The single axis a name stands for.
    pub(crate) fn axis_named(&mut self, axis: &Ident) -> Eval<AxisId> {
        let ids = self.axes_named(axis)?;
        if let [one] = ids[..] {
            return Ok(one);
        }
        let cause = Cause::WrongKind {
            name: axis.name.clone(),
            is: "list of axes",
            wanted: "single axis",
            help: format!("it stands for {} here", self.axes_text(&ids)),
        };
        self.fail(Report::new(cause, axis.span, "one axis is needed here"))
    }

    pub(crate) fn declared_axis(&mut self, table: usize, axis: &Ident) -> Eval<AxisId> {
        let entry = self.tables[table].names.get(&axis.name);
        let Some((Declared::Axis(lazy), _)) = entry.cloned() else {
            return Err(Failed);
        };
        let expr = match lazy {
            Lazy::Done(id) => return id,
            Lazy::Busy => return self.cycle(&axis.name, axis.span),
            Lazy::Todo(expr) => expr,
        };
        self.store(table, &axis.name, Declared::Axis(Lazy::Busy));
        let size = self.with_frame(self.declaration_frame(table), |checker| {
            checker.axis_size(&axis.name, &expr, 1)
        });
        let name = format!("{}{}", self.tables[table].prefix, axis.name);
        let id = size.map(|size| self.builder.graph.add_axis(&name, size));
        self.store(table, &axis.name, Declared::Axis(Lazy::Done(id)));
        id
    }

    fn unknown_name(&mut self, name: &str, span: Span) -> Eval {
        if self.poisoned.contains(name) {
            return Err(Failed);
        }
        let mut known: Vec<String> =
            self.current().values.iter().map(|(name, _)| name.clone()).collect();
        for table in self.current().tables.clone() {
            known.extend(self.tables[table].names.keys().cloned());
        }
        if self.current().tables.contains(&0) {
            known.extend(self.globals.iter().map(|global| global.name.clone()));
        }
        known.extend(["inf", "pi", "training"].map(String::from));
        let own = self.current().tables.contains(&0);
        let later = self.let_lines.get(name).copied().filter(|_| own);
        let advice = match later {
            Some(_) => format!("`let` runs downwards: move the line that makes `{name}` up"),
            None => "declare it with `let`, `const`, `param` or `input`".to_string(),
        };
        let near = nearest(name, known.iter().map(String::as_str), advice);
        let cause = Cause::UnknownName { what: "name", name: name.into(), near };
        let mut report = Report::new(cause, span, "not known here");
        if let Some(at) = later {
            report = report.also(at, "made only here");
        }
        self.fail(report)
    }

    fn unknown_axis<T>(&mut self, axis: &Ident) -> Eval<T> {
        if self.poisoned.contains(&axis.name) {
            return Err(Failed);
        }
        let mut known: Vec<String> =
            self.current().axes.iter().map(|own| own.name.clone()).collect();
        for table in self.current().tables.clone() {
            let names = self.tables[table].names.iter();
            let axes = names.filter(|(_, (declared, _))| matches!(declared, Declared::Axis(_)));
            known.extend(axes.map(|(name, _)| name.clone()));
        }
        known.sort();
        let advice =
            format!("declare it: `axes {} = …`; there are {}", axis.name, known.join(", "));
        let near = nearest(&axis.name, known.iter().map(String::as_str), advice);
        let cause = Cause::UnknownAxis { name: axis.name.clone(), near };
        self.fail(Report::new(cause, axis.span, "not an axis of the model"))
    }
}
