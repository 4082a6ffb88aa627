//! A whole model: collects declarations, then expands the statements in order.

use std::collections::HashSet;
use std::rc::Rc;

use gigac_ir::graph::{AxisId, DType, Feed, ParamId, Type};

use super::call::{Origin, Template};
use super::layer::DeclaredLayer;
use super::mention;
use super::primitive;
use super::scope::{Declared, Frame, Global, Lazy, Table};
use super::set::Sets;
use super::train::LINES;
use super::value::{Eval, Failed};
use super::{Checked, Checker, Loader};
use crate::error::{Cause, Report};
use crate::source::{Source, SourceMap, Span};
use crate::syntax::ast::*;
use crate::syntax::{self, File};
use crate::{Mode, PRELUDE};

/// Checks a model. Gives the texts in any case; without a result, the reports say why.
pub(crate) fn check(
    source: &Source,
    load: Loader<'_>,
    sets: &[(String, String)],
    mode: Mode,
) -> (SourceMap, Vec<Report>, Option<Checked>) {
    let first = attempt(source, load, sets, mode, false);
    match first {
        // Noise takes seed and step, which are inputs of the graph only where something needs them.
        (_, _, Some((_, true))) => {
            let (sources, reports, result) = attempt(source, load, sets, mode, true);
            (sources, reports, result.map(|(checked, _)| checked))
        }
        (sources, reports, result) => (sources, reports, result.map(|(checked, _)| checked)),
    }
}

/// One expansion; says whether it met noise without the inputs for it.
fn attempt(
    source: &Source,
    load: Loader<'_>,
    sets: &[(String, String)],
    mode: Mode,
    chance: bool,
) -> (SourceMap, Vec<Report>, Option<(Checked, bool)>) {
    let mut sources = SourceMap::default();
    let model = syntax::parse_file(&source.text, sources.add(source.clone()));
    let prelude = sources.add(Source::new("prelude.giga", PRELUDE));
    let (sets, mut reports) = Sets::parse(sets, &mut sources);
    let mut checker = Checker::new(sources, mode, sets);
    checker.reports.append(&mut reports);
    let prelude = syntax::parse_file(PRELUDE, prelude);
    checker.library(prelude, Origin::Prelude);
    checker.use_files(&model.items, load);
    checker.poison(&model);
    checker.reports.extend(model.errors);
    let items = model.items;
    let train = checker.model(&items, chance);
    let wanted = LINES.iter().any(|line| checker.sets.for_line(line).is_some());
    let train = train.or_else(|| wanted.then(Vec::new));
    let settings = train.and_then(|settings| checker.train(&settings));
    checker.check_sets();
    let missing = checker.noises > 0 && checker.run_inputs.is_none();
    let Checker { builder, sources, reports, .. } = checker;
    if !reports.is_empty() {
        return (sources, reports, None);
    }
    let checked = Checked { graph: builder.finish(), train: settings };
    (sources, reports, Some((checked, missing)))
}

impl Checker {
    /// The functions of a library file; anything else in it is an error.
    fn library(&mut self, file: File, origin: Origin) {
        self.reports.extend(file.errors);
        for item in file.items {
            match item {
                Item::Function(function) => self.declare_function(function, origin),
                Item::Model(_) => {}
                other => {
                    let span = item_span(&other);
                    self.report(Report::new(Cause::UseDeclares, span, "not a function"));
                }
            }
        }
    }

    fn declare_function(&mut self, function: Function, origin: Origin) {
        let name = &function.name;
        if primitive::find(&name.name).is_some() {
            let cause = Cause::Hides { name: name.name.clone(), what: "a primitive" };
            self.report(Report::new(cause, name.span, "this function"));
        }
        let same = |t: &&Template| t.origin == origin && t.function.name.name == name.name;
        if let Some(first) = self.functions.iter().find(same) {
            let cause = Cause::Twice { name: name.name.clone() };
            let first = first.function.name.span;
            self.report(Report::new(cause, name.span, "again here").also(first, "first here"));
        }
        self.functions.push(Template { function: Rc::new(function), origin });
    }

    fn use_files(&mut self, items: &[Item], load: Loader<'_>) {
        for item in items {
            let Item::Use(path) = item else { continue };
            match load(&path.value) {
                Ok(source) => {
                    let text = source.text.clone();
                    let file = syntax::parse_file(&text, self.sources.add(source));
                    self.library(file, Origin::Library);
                }
                Err(reason) => {
                    let cause = Cause::Use { path: path.value.clone(), reason };
                    self.report(Report::new(cause, path.span, "this file"));
                }
            }
        }
    }

    /// Names in statements that could not be read are not reported as unknown.
    fn poison(&mut self, file: &File) {
        for span in &file.skipped {
            let text = self.sources.text(*span).to_string();
            let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            self.poisoned.extend(words.filter(|word| !word.is_empty()).map(String::from));
        }
    }

    /// Declares and expands everything; gives the settings of the `train` block.
    fn model(&mut self, items: &[Item], chance: bool) -> Option<Vec<Setting>> {
        for item in items {
            self.declare(item);
        }
        self.force_declarations(0);
        self.check_formals();
        if chance {
            let int = || Type {
                dtype: DType::Int { lo: 0, hi: i64::from(i32::MAX) + 1 },
                axes: Vec::new(),
            };
            let seed = self.add_input("run.seed", int(), Feed::Seed, None);
            let step = self.add_input("run.step", int(), Feed::Step, None);
            self.run_inputs = seed.and_then(|seed| step.map(|step| [seed, step])).ok();
        }
        for item in items {
            match item {
                Item::Input(list) => list.iter().for_each(|input| self.declare_input(input)),
                Item::Param(statement) => self.declare_params(statement, 0, None),
                Item::Layer(layer) => self.declare_layer_body(layer),
                _ => {}
            }
        }
        let frame = Frame { before: u32::MAX, ..self.declaration_frame(0) };
        let train = self.with_frame(frame, |checker| checker.statements(items));
        self.check_results();
        self.check_use(items);
        self.check_claims();
        train
    }

    /// First pass: every name that may be used before its line.
    fn declare(&mut self, item: &Item) {
        match item {
            Item::Model(name) => self.builder.graph.name = name.name.clone(),
            Item::Axes(list) | Item::Const(list) => {
                let axes = matches!(item, Item::Axes(_));
                list.iter().for_each(|binding| self.declare_binding(binding, axes, 0));
            }
            Item::Param(statement) => {
                for param in &statement.params {
                    self.declare_name(&param.name, Declared::Param(Err(Failed)), 0);
                }
            }
            Item::Input(list) => {
                for input in list {
                    self.declare_name(&input.name, Declared::Input(Err(Failed)), 0);
                }
            }
            Item::Function(function) => self.declare_function(function.clone(), Origin::Model),
            Item::Layer(layer) => self.declare_layer(layer),
            Item::Let(binding) => {
                for name in &binding.names {
                    self.let_lines.entry(name.name.clone()).or_insert(name.span);
                }
            }
            Item::Output { name, .. } => {
                self.let_lines.entry(name.name.clone()).or_insert(name.span);
            }
            _ => {}
        }
    }

    /// An axis or a constant; `--set` replaces its value.
    fn declare_binding(&mut self, binding: &Binding, axis: bool, table: usize) {
        let set = if table == 0 { self.sets.take(&binding.name.name) } else { None };
        let expr = set.unwrap_or_else(|| binding.value.clone());
        let lazy = Rc::new(expr);
        let declared =
            if axis { Declared::Axis(Lazy::Todo(lazy)) } else { Declared::Const(Lazy::Todo(lazy)) };
        self.declare_name(&binding.name, declared, table);
    }

    fn declare_name(&mut self, name: &Ident, declared: Declared, table: usize) {
        let reserved = ["training", "inf", "pi"].contains(&name.name.as_str());
        if reserved {
            let cause =
                Cause::Hides { name: name.name.clone(), what: "a constant of the language" };
            self.report(Report::new(cause, name.span, "declared here"));
        }
        let outer = self.tables[0].names.get(&name.name).filter(|_| table != 0);
        if let Some((known, first)) = outer {
            let cause = Cause::Hides { name: name.name.clone(), what: known.what() };
            let report = Report::new(cause, name.span, "hides it").also(*first, "declared here");
            return self.report(report);
        }
        if let Some((_, first)) = self.tables[table].names.get(&name.name) {
            let cause = Cause::Twice { name: name.name.clone() };
            let report = Report::new(cause, name.span, "again here").also(*first, "first here");
            return self.report(report);
        }
        self.tables[table].names.insert(name.name.clone(), (declared, name.span));
    }

    fn declare_layer(&mut self, layer: &Layer) {
        let name = &layer.name;
        let clash = self.layers.iter().find(|other| other.ast.name.name == name.name);
        let function = self
            .functions
            .iter()
            .find(|t| t.origin == Origin::Model && t.function.name.name == name.name);
        let first = clash.map(|l| l.ast.name.span).or(function.map(|t| t.function.name.span));
        if let Some(first) = first {
            let cause = Cause::Twice { name: name.name.clone() };
            self.report(Report::new(cause, name.span, "again here").also(first, "first here"));
        }
        if primitive::find(&name.name).is_some() {
            let cause = Cause::Hides { name: name.name.clone(), what: "a primitive" };
            self.report(Report::new(cause, name.span, "this layer"));
        }
        let table = self.tables.len();
        self.tables.push(Table { prefix: format!("{}.", name.name), ..Table::default() });
        self.layers.push(DeclaredLayer {
            ast: Rc::new(layer.clone()),
            table,
            repeat: None,
            params: Vec::new(),
            shapes: Vec::new(),
            called: false,
        });
    }

    /// Arguments of the model's own functions hide no declarations.
    fn check_formals(&mut self) {
        let own = self.functions.iter().filter(|t| t.origin == Origin::Model);
        let functions: Vec<Rc<Function>> = own.map(|t| t.function.clone()).collect();
        let frame = self.declaration_frame(0);
        self.with_frame(frame, |checker| {
            for arg in functions.iter().flat_map(|function| &function.args) {
                checker.check_hiding(&arg.name);
            }
        });
    }

    /// Evaluates all axes and constants of a table, used or not, in the order of the text.
    fn force_declarations(&mut self, table: usize) {
        let names = self.tables[table].names.iter();
        let mut names: Vec<(String, Span)> =
            names.map(|(name, (_, at))| (name.clone(), *at)).collect();
        names.sort_by_key(|(_, at)| at.start);
        for (name, span) in names {
            let declared =
                self.tables[table].names.get(&name).map(|(declared, _)| declared.clone());
            let frame = self.declaration_frame(table);
            self.with_frame(frame, |checker| match declared {
                Some(Declared::Axis(_)) => {
                    let _reported = checker.declared_axis(table, &Ident { name, span });
                }
                Some(Declared::Const(_)) => {
                    let _reported = checker.lookup(&name, span);
                }
                _ => {}
            });
        }
    }

    /// Second pass over a layer: its axes, shapes and parameters.
    fn declare_layer_body(&mut self, layer: &Layer) {
        let same = |other: &DeclaredLayer| other.ast.name.span == layer.name.span;
        let Some(at) = self.layers.iter().position(same) else { return };
        let table = self.layers[at].table;
        for statement in &layer.body.statements {
            match statement {
                Statement::Axes(list) => {
                    list.iter().for_each(|b| self.declare_binding(b, true, table))
                }
                Statement::Const(list) => {
                    list.iter().for_each(|b| self.declare_binding(b, false, table))
                }
                Statement::Param(statement) => {
                    for param in &statement.params {
                        self.declare_name(&param.name, Declared::Param(Err(Failed)), table);
                    }
                }
                Statement::Let(_) => {}
            }
        }
        self.force_declarations(table);
        let frame = self.declaration_frame(table);
        let (repeat, shapes) = self.with_frame(frame, |checker| {
            let repeat = layer.repeat.as_ref().map(|axis| checker.axis_named(axis));
            let shapes: Vec<Eval<Vec<AxisId>>> =
                layer.args.iter().map(|(_, shape)| checker.flat_shape(shape)).collect();
            for (name, _) in &layer.args {
                checker.check_hiding(name);
            }
            (repeat, shapes)
        });
        self.layers[at].shapes = shapes;
        match repeat {
            Some(Err(Failed)) => return,
            repeat => self.layers[at].repeat = repeat.and_then(Result::ok),
        }
        for statement in &layer.body.statements {
            if let Statement::Param(statement) = statement {
                self.declare_params(statement, table, Some(at));
            }
        }
    }

    fn flat_shape(&mut self, shape: &Shape) -> Eval<Vec<AxisId>> {
        Ok(self.shape_axes(shape, None)?.into_iter().flatten().collect())
    }

    /// Third pass: `let`s and results, downwards.
    fn statements(&mut self, items: &[Item]) -> Option<Vec<Setting>> {
        let mut train: Option<Vec<Setting>> = None;
        for item in items {
            match item {
                Item::Let(binding) => self.global_let(binding),
                Item::Loss { value, per, .. } => self.loss(value, per.as_ref()),
                Item::Metric { name, value } => self.metric(name, value),
                Item::Output { name, value } => self.output(name, value),
                Item::Train { settings, span } => {
                    if train.is_some() {
                        self.report(Report::new(
                            Cause::Again { what: "train" },
                            *span,
                            "again here",
                        ));
                    }
                    train = Some(settings.clone());
                }
                _ => {}
            }
        }
        train
    }

    fn global_let(&mut self, binding: &Let) {
        for (name, value) in self.let_values(binding) {
            self.bind_global(name, value);
        }
    }

    /// Makes a value of the top level known below its line.
    pub(crate) fn bind_global(&mut self, name: &Ident, value: Eval) {
        self.check_hiding(name);
        self.globals.push(Global { name: name.name.clone(), at: name.span.start, value });
    }

    /// Layers that are never called and parameters that nothing uses.
    fn check_use(&mut self, items: &[Item]) {
        let mut written = HashSet::new();
        items.iter().for_each(|item| mention::item(item, &mut written));
        let mentioned = |name: &String| written.contains(name) || self.poisoned.contains(name);
        let unused = self.layers.iter().filter(|layer| !mentioned(&layer.ast.name.name));
        let idle: HashSet<ParamId> = unused.clone().flat_map(|l| l.params.clone()).collect();
        let names: Vec<Ident> = unused.map(|layer| layer.ast.name.clone()).collect();
        for Ident { name, span } in names {
            self.report(Report::new(Cause::UnusedLayer { name }, span, "declared here"));
        }
        self.check_params_used(&written, &idle);
    }

    /// A parameter must be written somewhere and, in the training graph, reach a result. What an error or a branch not
    /// taken hides from expansion counts as used.
    fn check_params_used(&mut self, written: &HashSet<String>, idle: &HashSet<ParamId>) {
        let whole = self.reports.is_empty();
        let reached = self.reached_params();
        let params: Vec<(String, Option<Span>)> = self
            .builder
            .graph
            .params
            .iter()
            .map(|param| (param.name.clone(), param.span))
            .collect();
        for (at, (full, span)) in params.into_iter().enumerate() {
            let id = ParamId(at as u32);
            let name = full.rsplit('.').next().unwrap_or(&full).to_string();
            let hidden = self.mentioned.contains(&name) || self.poisoned.contains(&name);
            let Some(span) = span.filter(|_| !hidden && !idle.contains(&id)) else { continue };
            let cause = if !written.contains(&name) || whole && !self.used_params.contains(&id) {
                Cause::UnusedParam { name }
            } else if whole && self.mode.training && !reached.contains(&id) {
                Cause::UnreachedParam { name }
            } else {
                continue;
            };
            self.report(Report::new(cause, span, "declared here"));
        }
    }
}

fn item_span(item: &Item) -> Span {
    match item {
        Item::Model(name) => name.span,
        Item::Use(text) => text.span,
        Item::Axes(list) | Item::Const(list) => first_span(list.first().map(|b| b.name.span)),
        Item::Param(statement) => first_span(statement.params.first().map(|p| p.name.span)),
        Item::Function(function) => function.name.span,
        Item::Layer(layer) => layer.name.span,
        Item::Input(list) => first_span(list.first().map(|input| input.name.span)),
        Item::Let(binding) => first_span(binding.names.first().map(|name| name.span)),
        Item::Loss { span, .. } | Item::Train { span, .. } => *span,
        Item::Metric { name, .. } | Item::Output { name, .. } => name.span,
    }
}

/// Lists of the grammar are never empty; an empty one would point at the beginning of the text.
fn first_span(span: Option<Span>) -> Span {
    span.unwrap_or(Span { source: 0, start: 0, end: 0 })
}
