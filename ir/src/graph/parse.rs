//! Text → graph.
//!
//! ```text
//! graph   = "graph" name "{" ["axes" name "=" size {"," …}] {"param" param} {"input" input}
//!           {node} {"result" role "=" value} "}"
//! param   = name "[" [dim {"," dim}] "]" [init] ["lr" real] ["decay" real] ["frozen"] ["rounded"]
//!           [stored]
//! dim     = axis {"*" axis}
//! init    = "=" real | "~" ("normal" | "truncated") "(" real ")" | "~" "uniform" "(" real "," real ")"
//! stored  = "as" "[" part {"," part} "]" ["spread" "[" axes "]"] "from" "(" ints ")"
//! part    = string | "number" "(" int {"+" int "*" axis} ")" | "choice" "(" axis ":" strings ")"
//! input   = name ":" type "from" ("data" | "optional" real | "step" | "steps" | "seed")
//! node    = definition {"," definition} "=" operation [value {"," value}]
//!         | [definition {"," definition} "="] "repeat" "[" axis ["," "reversed"] "]"
//!           "turn" definition ["carry" "(" pairs ")"] ["stack" "(" pairs ")"]
//!           "{" {node} ["next" values] ["stack" values] "}"
//!         | definition {"," definition} "=" attention values
//!           "score" "(" definition ["," definition] {"," definition "=" value} ")"
//!           "{" {node} "give" values "}"
//! attention = ("attend" | "attend_grad") "[" axis "," factors ["," "full"] "]"
//! factors = axis {"*" axis}
//! pairs   = definition "=" value {"," …}
//! definition = value [string] [":" type]           the string is the name it has in the model
//! operation  = function | name "[" attributes "]"  attributes stand in the op table
//! type    = ("f32" | "bf16" | "bool" | "int" "(" int "," int ")") ["[" axes "]"]
//! role    = ("term" | "per") int | ("metric" | "output") name | "loss" | "gradient" name
//!         | "gradient_norm" | "learning_rate" | "nan_gradients" | "update" name [slot]
//! ```
//! A name is a word, or a string. White space separates tokens and means nothing else, except that
//! operands begin on the line of their operation; `;` starts a comment. Types may be left out where they follow from the operation. What a parameter leaves
//! out is zero, one, not frozen, without a copy in bf16, and stored under its own name.

use std::collections::HashMap;

use super::{Axis, AxisId, Feed, Graph, Init, Input, NamePart, Node, Op, Param, ParamId, Region};
use super::{Role, Stored, Type, ValueId, ValueInfo};
use crate::ops::attributes::{axes, axis, dtype};
use crate::ops::{self, leaf::parse_param};
use crate::text::{ParseError, Parsed, accept, accept_word, blank, fault, integer, list, name};
use crate::text::{real, string, symbol, word};

impl Graph {
    /// Reads one graph. The result is well formed as a text only: see [`Graph::verify`]. Spans of
    /// values point to their definitions in the text.
    ///
    /// # Errors
    /// The first place that does not follow the grammar or names something undeclared.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        match graph(text) {
            Ok((rest, graph)) if blank(rest).is_empty() => Ok(graph),
            Ok((rest, _)) => {
                Err(ParseError::locate(text, blank(rest), "expected the end of the text".into()))
            }
            Err(nom::Err::Error(f) | nom::Err::Failure(f)) => {
                Err(ParseError::locate(text, f.rest, f.message))
            }
            Err(nom::Err::Incomplete(_)) => unreachable!("the text is complete"),
        }
    }
}

impl Stored {
    /// One tensor under the given name.
    pub fn plain(name: &str, dims: usize) -> Self {
        let text = NamePart::Text(name.to_owned());
        Self { name: vec![text], spread: Vec::new(), from: vec![0; dims] }
    }
}

fn graph(text: &str) -> Parsed<'_, Graph> {
    let whole = text.len();
    let text = keyword(text, "graph")?;
    let (text, title) = name(text)?;
    let (mut text, ()) = symbol(text, "{")?;
    let mut graph = Graph::new(title);
    if let (after, true) = accept_word(text, "axes") {
        text = axis_list(&mut graph, after)?;
    }
    while let (after, true) = accept_word(text, "param") {
        let (after, param) = param(&graph, after)?;
        graph.params.push(param);
        text = after;
    }
    while let (after, true) = accept_word(text, "input") {
        let (after, input) = input(&graph, after)?;
        graph.inputs.push(input);
        text = after;
    }
    let mut reader = Reader { graph, labels: HashMap::new(), depth: 0, whole };
    let (mut text, nodes) = reader.nodes(text)?;
    reader.graph.root.nodes = nodes;
    while let (after, true) = accept_word(text, "result") {
        let (after, role) = role(&reader.graph, after)?;
        let (after, ()) = symbol(after, "=")?;
        let (after, value) = reader.value(after)?;
        reader.graph.roles.push(role);
        reader.graph.root.results.push(value);
        text = after;
    }
    let (text, ()) = symbol(text, "}")?;
    Ok((text, reader.graph))
}

fn keyword<'a>(text: &'a str, wanted: &str) -> Result<&'a str, nom::Err<crate::text::Fault<'a>>> {
    match accept_word(text, wanted) {
        (rest, true) => Ok(rest),
        _ => fault(blank(text), format!("expected `{wanted}`")).map(|(rest, ())| rest),
    }
}

fn axis_list<'a>(
    graph: &mut Graph,
    mut text: &'a str,
) -> Result<&'a str, nom::Err<crate::text::Fault<'a>>> {
    loop {
        let start = blank(text);
        let (rest, name) = name(text)?;
        let (rest, ()) = symbol(rest, "=")?;
        let (rest, size) = integer(rest)?;
        if graph.axes.iter().any(|a| a.name == name) {
            return fault(start, format!("axis `{name}` is declared twice")).map(|(r, ())| r);
        }
        graph.axes.push(Axis { name, size });
        match accept(rest, ",") {
            (rest, true) => text = rest,
            (rest, false) => return Ok(rest),
        }
    }
}

fn param<'a>(graph: &Graph, text: &'a str) -> Parsed<'a, Param> {
    let start = blank(text);
    let (text, name) = name(text)?;
    if graph.params.iter().any(|p| p.name == name) {
        return fault(start, format!("parameter `{name}` is declared twice"));
    }
    let (text, ()) = symbol(text, "[")?;
    let (text, dims) = list(text, ",", "]", |t| dim(graph, t))?;
    let (text, init) = init(text)?;
    let (text, lr) = factor(text, "lr")?;
    let (text, decay) = factor(text, "decay")?;
    let (text, frozen) = accept_word(text, "frozen");
    let (text, rounded) = accept_word(text, "rounded");
    let (text, stored) = match accept_word(text, "as") {
        (text, true) => stored(graph, text)?,
        (text, false) => (text, Stored::plain(&name, dims.len())),
    };
    Ok((text, Param { name, dims, init, lr, decay, frozen, rounded, stored, span: None }))
}

fn dim<'a>(graph: &Graph, text: &'a str) -> Parsed<'a, Vec<AxisId>> {
    let (mut text, first) = axis(graph, text)?;
    let mut dim = vec![first];
    while let (after, true) = accept(text, "*") {
        let (after, next) = axis(graph, after)?;
        dim.push(next);
        text = after;
    }
    Ok((text, dim))
}

fn init(text: &str) -> Parsed<'_, Init> {
    if let (text, true) = accept(text, "=") {
        return real(text).map(|(rest, x)| (rest, Init::Constant(x)));
    }
    let (text, true) = accept(text, "~") else { return Ok((text, Init::Constant(0.0))) };
    let start = blank(text);
    let (text, kind) = word(text)?;
    let (text, ()) = symbol(text, "(")?;
    let (text, numbers) = list(text, ",", ")", real)?;
    let init = match (kind, &numbers[..]) {
        ("normal", [std]) => Init::Normal { std: *std },
        ("truncated", [std]) => Init::Truncated { std: *std },
        ("uniform", [lo, hi]) => Init::Uniform { lo: *lo, hi: *hi },
        _ => return fault(start, "expected `normal(σ)`, `truncated(σ)` or `uniform(lo, hi)`"),
    };
    Ok((text, init))
}

fn factor<'a>(text: &'a str, wanted: &str) -> Parsed<'a, f64> {
    match accept_word(text, wanted) {
        (text, true) => real(text),
        (text, false) => Ok((text, 1.0)),
    }
}

fn stored<'a>(graph: &Graph, text: &'a str) -> Parsed<'a, Stored> {
    let (text, ()) = symbol(text, "[")?;
    let (mut text, name) = list(text, ",", "]", |t| name_part(graph, t))?;
    let mut spread = Vec::new();
    if let (after, true) = accept_word(text, "spread") {
        let (after, ()) = symbol(after, "[")?;
        (text, spread) = axes(graph, after, ",", "]")?;
    }
    let text = keyword(text, "from")?;
    let (text, ()) = symbol(text, "(")?;
    let (text, from) = list(text, ",", ")", integer)?;
    Ok((text, Stored { name, spread, from }))
}

fn name_part<'a>(graph: &Graph, text: &'a str) -> Parsed<'a, NamePart> {
    if blank(text).starts_with('"') {
        return string(text).map(|(rest, text)| (rest, NamePart::Text(text)));
    }
    let start = blank(text);
    let (text, kind) = word(text)?;
    let (text, ()) = symbol(text, "(")?;
    match kind {
        "number" => {
            let (mut text, constant) = integer(text)?;
            let mut terms = Vec::new();
            while let (after, true) = accept(text, "+") {
                let (after, coefficient) = integer(after)?;
                let (after, ()) = symbol(after, "*")?;
                let (after, axis) = axis(graph, after)?;
                terms.push((axis, coefficient));
                text = after;
            }
            let (text, ()) = symbol(text, ")")?;
            Ok((text, NamePart::Number { constant, terms }))
        }
        "choice" => {
            let (text, axis) = axis(graph, text)?;
            let (text, ()) = symbol(text, ":")?;
            let (text, names) = list(text, ",", ")", string)?;
            Ok((text, NamePart::Choice { axis, names }))
        }
        _ => fault(start, "expected a string, `number` or `choice`"),
    }
}

fn input<'a>(graph: &Graph, text: &'a str) -> Parsed<'a, Input> {
    let start = blank(text);
    let (text, name) = name(text)?;
    if graph.inputs.iter().any(|i| i.name == name) {
        return fault(start, format!("input `{name}` is declared twice"));
    }
    let (text, ()) = symbol(text, ":")?;
    let (text, ty) = value_type(graph, text)?;
    let text = keyword(text, "from")?;
    let start = blank(text);
    let (mut text, kind) = word(text)?;
    let feed = match kind {
        "data" => Feed::Data,
        "step" => Feed::Step,
        "steps" => Feed::Steps,
        "seed" => Feed::Seed,
        "optional" => {
            let (rest, x) = real(text)?;
            text = rest;
            Feed::Optional(x)
        }
        _ => return fault(start, "expected `data`, `optional`, `step`, `steps` or `seed`"),
    };
    Ok((text, Input { name, ty, feed, span: None }))
}

fn value_type<'a>(graph: &Graph, text: &'a str) -> Parsed<'a, Type> {
    let (text, dtype) = dtype(text)?;
    let (text, axes) = match accept(text, "[") {
        (text, true) => axes(graph, text, ",", "]")?,
        (text, false) => (text, Vec::new()),
    };
    Ok((text, Type { dtype, axes }))
}

fn role<'a>(graph: &Graph, text: &'a str) -> Parsed<'a, Role> {
    let start = blank(text);
    let (text, kind) = word(text)?;
    Ok(match kind {
        "term" => integer(text).map(|(rest, i)| (rest, Role::LossTerm(i)))?,
        "per" => integer(text).map(|(rest, i)| (rest, Role::LossPer(i)))?,
        "metric" => name(text).map(|(rest, n)| (rest, Role::Metric(n)))?,
        "output" => name(text).map(|(rest, n)| (rest, Role::Output(n)))?,
        "loss" => (text, Role::Loss),
        "gradient" => {
            let (rest, (param, _)): (_, (ParamId, _)) = parse_param(graph, text)?;
            (rest, Role::Gradient(param))
        }
        "gradient_norm" => (text, Role::GradNorm),
        "learning_rate" => (text, Role::LearningRate),
        "nan_gradients" => (text, Role::NanGradients),
        "update" => {
            let (rest, (param, slot)) = parse_param(graph, text)?;
            (rest, Role::Update(param, slot))
        }
        _ => return fault(start, format!("there is no role `{kind}`")),
    })
}

/// Deepest nesting of repeats in a text, so that reading needs a bounded stack.
const DEEPEST: usize = 64;

/// Reads nodes. Values are numbered in the order of their definitions.
struct Reader {
    graph: Graph,
    labels: HashMap<u32, ValueId>,
    depth: usize,
    /// Length of the text, from which places follow.
    whole: usize,
}

/// A definition whose type may be missing yet.
struct Definition<'a> {
    at: &'a str,
    value: ValueId,
    typed: bool,
}

impl Reader {
    fn nodes<'a>(&mut self, mut text: &'a str) -> Parsed<'a, Vec<Node>> {
        let mut nodes = Vec::new();
        while accept(text, "%").1 || accept_word(text, "repeat").1 {
            let (rest, node) = self.node(text)?;
            nodes.push(node);
            text = rest;
        }
        Ok((text, nodes))
    }

    fn node<'a>(&mut self, text: &'a str) -> Parsed<'a, Node> {
        let mut text = blank(text);
        let mut results = Vec::new();
        if !accept_word(text, "repeat").1 {
            (text, results) = list(text, ",", "=", |t| self.definition(t))?;
        }
        let start = blank(text);
        let (text, op) = self.operation(text)?;
        if let Op::Repeat { axis, reversed, .. } = op {
            return self.repeat(text, results, (axis, reversed));
        }
        let same_line = text.trim_start_matches([' ', '\t']);
        let (text, operands) = match same_line.starts_with('%') {
            true => self.values(text)?,
            false => (text, Vec::new()),
        };
        if matches!(op, Op::Attend { .. } | Op::AttendGrad { .. }) {
            return self.attention(text, start, results, op, operands);
        }
        let types = operands.iter().map(|v| self.graph.ty(*v)).collect::<Vec<_>>();
        let inferred = ops::infer(&op, &self.graph, &types).map_err(|e| e.to_string());
        self.settle(start, &results, inferred)?;
        let results = results.into_iter().map(|d| d.value).collect();
        Ok((text, Node { op, operands, results, region: None }))
    }

    fn operation<'a>(&self, text: &'a str) -> Parsed<'a, Op> {
        let start = blank(text);
        let (text, found) = word(text)?;
        if let (inside, true) = accept(text, "[") {
            return match ops::TABLE.iter().find(|row| row.name == found) {
                Some(row) => (row.parse)(&self.graph, inside),
                None => fault(start, format!("there is no operation `{found}`")),
            };
        }
        (ops::pointwise::POINTWISE.parse)(&self.graph, start)
    }

    fn repeat<'a>(
        &mut self,
        text: &'a str,
        results: Vec<Definition<'a>>,
        (axis, reversed): (AxisId, bool),
    ) -> Parsed<'a, Node> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return fault(blank(text), "repeats are nested too deeply");
        }
        let start = blank(text);
        let text = keyword(text, "turn")?;
        let (text, turn) = self.definition(text)?;
        if !turn.typed {
            let hi = (self.graph.size(axis) as i64).max(1);
            let dtype = super::DType::Int { lo: 0, hi };
            self.graph.values[turn.value.index()].ty = Type { dtype, axes: Vec::new() };
        }
        let (text, carried) = self.pairs(text, "carry", None)?;
        let (text, stacked) = self.pairs(text, "stack", Some(axis))?;
        let (text, ()) = symbol(text, "{")?;
        let (text, nodes) = self.nodes(text)?;
        let (text, next) = self.word_values(text, "next")?;
        let (text, stack) = self.word_values(text, "stack")?;
        let (text, ()) = symbol(text, "}")?;
        self.depth -= 1;

        let count = carried.len() as u32;
        let both = || carried.iter().chain(&stacked);
        let args = [turn.value].into_iter().chain(both().map(|(arg, _)| *arg)).collect();
        let operands: Vec<ValueId> = both().map(|(_, operand)| *operand).collect();
        let region = Region { args, nodes, results: next.into_iter().chain(stack).collect() };
        let op = Op::Repeat { axis, reversed, carried: count };
        let inferred = ops::repeat::results(&op, &self.graph, &operands, &region);
        self.settle(start, &results, inferred.map_err(|e| e.to_string()))?;
        let results = results.into_iter().map(|d| d.value).collect();
        Ok((text, Node { op, operands, results, region: Some(region) }))
    }

    /// The score function of attention, whose fixed operands have been read.
    fn attention<'a>(
        &mut self,
        text: &'a str,
        start: &'a str,
        results: Vec<Definition<'a>>,
        op: Op,
        mut operands: Vec<ValueId>,
    ) -> Parsed<'a, Node> {
        if operands.len() != ops::attend::fixed(&op) {
            let count = ops::attend::fixed(&op);
            return fault(start, format!("expected {count} operands in front of `score`"));
        }
        let text = keyword(text, "score")?;
        let (text, ()) = symbol(text, "(")?;
        let (mut leading, mut definitions) = (ops::attend::leading(&op), Vec::new());
        let (text, captured) = list(text, ",", ")", |t| {
            let (t, arg) = self.definition(t)?;
            definitions.push(arg);
            if leading > 0 {
                leading -= 1;
                return Ok((t, None));
            }
            let (t, ()) = symbol(t, "=")?;
            self.value(t).map(|(t, operand)| (t, Some(operand)))
        })?;
        operands.extend(captured.into_iter().flatten());
        let types: Vec<&Type> = operands.iter().map(|v| self.graph.ty(*v)).collect();
        let arguments = ops::attend::arguments(&op, &self.graph, &types);
        self.settle(start, &definitions, arguments.map_err(|e| e.to_string()))?;
        let (text, ()) = symbol(text, "{")?;
        let (text, nodes) = self.nodes(text)?;
        let text = keyword(text, "give")?;
        let (text, given) = self.values(text)?;
        let (text, ()) = symbol(text, "}")?;
        let args = definitions.iter().map(|d| d.value).collect();
        let region = Region { args, nodes, results: given };
        let types: Vec<&Type> = operands.iter().map(|v| self.graph.ty(*v)).collect();
        let inferred = ops::attend::results(&op, &self.graph, &types, &region);
        self.settle(start, &results, inferred.map_err(|e| e.to_string()))?;
        let results = results.into_iter().map(|d| d.value).collect();
        Ok((text, Node { op, operands, results, region: Some(region) }))
    }

    /// `carry(…)` or `stack(…)`: arguments of the body and their operands.
    fn pairs<'a>(
        &mut self,
        text: &'a str,
        wanted: &str,
        sliced: Option<AxisId>,
    ) -> Parsed<'a, Vec<(ValueId, ValueId)>> {
        let (text, true) = accept_word(text, wanted) else { return Ok((text, Vec::new())) };
        let (text, ()) = symbol(text, "(")?;
        list(text, ",", ")", |t| {
            let (t, arg) = self.definition(t)?;
            let (t, ()) = symbol(t, "=")?;
            let (t, operand) = self.value(t)?;
            if !arg.typed {
                let mut ty = self.graph.ty(operand).clone();
                ty.axes.retain(|a| Some(*a) != sliced);
                self.graph.values[arg.value.index()].ty = ty;
            }
            Ok((t, (arg.value, operand)))
        })
    }

    fn word_values<'a>(&self, text: &'a str, wanted: &str) -> Parsed<'a, Vec<ValueId>> {
        match accept_word(text, wanted) {
            (text, true) => self.values(text),
            (text, false) => Ok((text, Vec::new())),
        }
    }

    /// Gives the definitions that stand without a type the one that follows.
    fn settle<'a>(
        &mut self,
        start: &'a str,
        results: &[Definition<'a>],
        inferred: Result<Vec<Type>, String>,
    ) -> Result<(), nom::Err<crate::text::Fault<'a>>> {
        if results.iter().all(|d| d.typed) {
            return Ok(());
        }
        let types = match inferred {
            Ok(types) => types,
            Err(message) => return fault(start, message).map(|(_, ())| ()),
        };
        for (i, definition) in results.iter().enumerate().filter(|(_, d)| !d.typed) {
            let Some(ty) = types.get(i) else {
                return fault(definition.at, "there are not so many results").map(|(_, ())| ());
            };
            self.graph.values[definition.value.index()].ty = ty.clone();
        }
        Ok(())
    }

    fn definition<'a>(&mut self, text: &'a str) -> Parsed<'a, Definition<'a>> {
        let at = blank(text);
        let (text, label) = label(text)?;
        let (text, name) = match blank(text).starts_with('"') {
            true => string(text).map(|(rest, s)| (rest, Some(s)))?,
            false => (text, None),
        };
        let (text, ty) = match accept(text, ":") {
            (text, true) => value_type(&self.graph, text).map(|(rest, ty)| (rest, Some(ty)))?,
            (text, false) => (text, None),
        };
        let value = ValueId(self.graph.values.len() as u32);
        if self.labels.insert(label, value).is_some() {
            return fault(at, format!("%{label} is defined twice"));
        }
        let typed = ty.is_some();
        let ty = ty.unwrap_or(Type { dtype: super::DType::F32, axes: Vec::new() });
        let start = (self.whole - at.len()) as u32;
        let span = Some(super::Span { source: 0, start, end: start });
        self.graph.values.push(ValueInfo { ty, name, span });
        Ok((text, Definition { at, value, typed }))
    }

    fn value<'a>(&self, text: &'a str) -> Parsed<'a, ValueId> {
        let start = blank(text);
        let (rest, label) = label(text)?;
        match self.labels.get(&label) {
            Some(value) => Ok((rest, *value)),
            None => fault(start, format!("%{label} is not defined above")),
        }
    }

    fn values<'a>(&self, text: &'a str) -> Parsed<'a, Vec<ValueId>> {
        let (mut text, first) = self.value(text)?;
        let mut values = vec![first];
        while let (after, true) = accept(text, ",") {
            let (after, value) = self.value(after)?;
            values.push(value);
            text = after;
        }
        Ok((text, values))
    }
}

fn label(text: &str) -> Parsed<'_, u32> {
    let (text, ()) = symbol(text, "%")?;
    integer(text)
}
