//! Graph → text. See `parse.rs` for the grammar.

use std::collections::HashMap;
use std::fmt;

use super::{DType, Feed, Graph, Init, Input, NamePart, Node, Op, Param, Region, Role, Stored};
use super::{Type, ValueId};
use crate::ops::attributes::{print_axes, print_axis};
use crate::ops::{self, leaf::print_param};
use crate::text::{joined, print_name, print_string};

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::F32 => write!(f, "f32"),
            Self::Bf16 => write!(f, "bf16"),
            Self::Bool => write!(f, "bool"),
            Self::Int { lo, hi } => write!(f, "int({lo}, {hi})"),
        }
    }
}

/// Values are numbered in the order in which the text mentions their definitions.
impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "graph {} {{", print_name(&self.name))?;
        if !self.axes.is_empty() {
            let axes = self.axes.iter().map(|a| format!("{} = {}", print_name(&a.name), a.size));
            writeln!(f, "  axes {}", joined(", ", axes))?;
        }
        for param in &self.params {
            writeln!(f, "  param {}", print_declaration(self, param))?;
        }
        for input in &self.inputs {
            writeln!(f, "  input {}", print_input(self, input))?;
        }
        let mut printer = Printer { graph: self, numbers: HashMap::new(), out: String::new() };
        printer.nodes(&self.root, 1);
        for (role, value) in self.results() {
            let line = format!("result {} = {}", role_text(self, role), printer.value(value));
            printer.line(1, &line);
        }
        write!(f, "{}}}", printer.out)
    }
}

/// The text of a type.
pub(super) fn print_type(graph: &Graph, ty: &Type) -> String {
    match ty.axes.is_empty() {
        true => ty.dtype.to_string(),
        false => format!("{}[{}]", ty.dtype, print_axes(graph, ", ", &ty.axes)),
    }
}

fn print_declaration(graph: &Graph, param: &Param) -> String {
    let dims = param.dims.iter().map(|dim| print_axes(graph, "*", dim));
    let mut out = format!("{}[{}]", print_name(&param.name), joined(", ", dims));
    out += &match param.init {
        Init::Constant(x) => format!(" = {x:?}"),
        Init::Normal { std } => format!(" ~ normal({std:?})"),
        Init::Truncated { std } => format!(" ~ truncated({std:?})"),
        Init::Uniform { lo, hi } => format!(" ~ uniform({lo:?}, {hi:?})"),
    };
    if param.lr != 1.0 {
        out += &format!(" lr {:?}", param.lr);
    }
    if param.decay != 1.0 {
        out += &format!(" decay {:?}", param.decay);
    }
    if param.frozen {
        out += " frozen";
    }
    if param.rounded {
        out += " rounded";
    }
    if param.stored != Stored::plain(&param.name, param.dims.len()) {
        out += &print_stored(graph, &param.stored);
    }
    out
}

fn print_stored(graph: &Graph, stored: &Stored) -> String {
    let parts = stored.name.iter().map(|part| match part {
        NamePart::Text(text) => print_string(text),
        NamePart::Number { constant, terms } => {
            let terms = terms.iter().map(|(a, c)| format!(" + {c}*{}", print_axis(graph, *a)));
            format!("number({constant}{})", joined("", terms))
        }
        NamePart::Choice { axis, names } => {
            let names = joined(", ", names.iter().map(|n| print_string(n)));
            format!("choice({}: {names})", print_axis(graph, *axis))
        }
    });
    let mut out = format!(" as [{}]", joined(", ", parts));
    if !stored.spread.is_empty() {
        out += &format!(" spread [{}]", print_axes(graph, ", ", &stored.spread));
    }
    out + &format!(" from ({})", joined(", ", &stored.from))
}

fn print_input(graph: &Graph, input: &Input) -> String {
    let feed = match input.feed {
        Feed::Data => "data".to_owned(),
        Feed::Optional(x) => format!("optional {x:?}"),
        Feed::Step => "step".to_owned(),
        Feed::Steps => "steps".to_owned(),
        Feed::Seed => "seed".to_owned(),
    };
    format!("{}: {} from {feed}", print_name(&input.name), print_type(graph, &input.ty))
}

fn role_text(graph: &Graph, role: &Role) -> String {
    match role {
        Role::LossTerm(i) => format!("term {i}"),
        Role::LossPer(i) => format!("per {i}"),
        Role::Metric(name) => format!("metric {}", print_name(name)),
        Role::Output(name) => format!("output {}", print_name(name)),
        Role::Loss => "loss".to_owned(),
        Role::Gradient(p) => format!("gradient {}", print_name(&graph.params[p.index()].name)),
        Role::GradNorm => "gradient_norm".to_owned(),
        Role::LearningRate => "learning_rate".to_owned(),
        Role::NanGradients => "nan_gradients".to_owned(),
        Role::Update(p, slot) => format!("update {}", print_param(graph, *p, *slot)),
    }
}

struct Printer<'a> {
    graph: &'a Graph,
    numbers: HashMap<ValueId, usize>,
    out: String,
}

impl Printer<'_> {
    fn line(&mut self, depth: usize, line: &str) {
        self.out += &"  ".repeat(depth);
        self.out += line;
        self.out.push('\n');
    }

    fn nodes(&mut self, region: &Region, depth: usize) {
        for node in &region.nodes {
            match &node.region {
                Some(body) if matches!(node.op, Op::Repeat { .. }) => {
                    self.repeat(node, body, depth);
                }
                Some(score) => self.attention(node, score, depth),
                None => {
                    let results = self.definitions(&node.results);
                    let line = format!("{results} = {}", self.operation(node));
                    self.line(depth, &line);
                }
            }
        }
    }

    fn operation(&self, node: &Node) -> String {
        let row = ops::def(&node.op);
        let attributes = (row.print)(&node.op, self.graph);
        let name = match node.op {
            Op::Pointwise(_) => attributes,
            _ => format!("{}[{attributes}]", row.name),
        };
        match node.operands.is_empty() {
            true => name,
            false => format!("{name} {}", self.values(&node.operands)),
        }
    }

    /// `results = attend[…] operands score(leading arguments, argument = captured value …) { … }`.
    fn attention(&mut self, node: &Node, score: &Region, depth: usize) {
        let (fixed, leading) = (ops::attend::fixed(&node.op), ops::attend::leading(&node.op));
        let (given, captured) = node.operands.split_at(fixed.min(node.operands.len()));
        let (first, rest) = score.args.split_at(leading.min(score.args.len()));
        let row = ops::def(&node.op);
        let results = self.definitions(&node.results);
        let mut line = format!("{results} = {}[{}] ", row.name, (row.print)(&node.op, self.graph));
        line += &self.values(given);
        let mut args: Vec<String> = first.iter().map(|arg| self.definition(*arg)).collect();
        for (arg, operand) in rest.iter().zip(captured) {
            let operand = self.value(*operand);
            args.push(format!("{} = {operand}", self.definition(*arg)));
        }
        self.line(depth, &format!("{line} score({}) {{", joined(", ", args)));
        self.nodes(score, depth + 1);
        let line = format!("give {}", self.values(&score.results));
        self.line(depth + 1, &line);
        self.line(depth, "}");
    }

    fn repeat(&mut self, node: &Node, body: &Region, depth: usize) {
        let Op::Repeat { carried, .. } = node.op else { unreachable!("called for repeats") };
        let carried = carried as usize;
        let results = self.definitions(&node.results);
        let mut line = if results.is_empty() { String::new() } else { format!("{results} = ") };
        line += &format!("repeat[{}]", (ops::repeat::REPEAT.print)(&node.op, self.graph));
        line += &format!(" turn {}", self.definition(body.args[0]));
        let (state, slices) = body.args[1..].split_at(carried);
        for (word, args, operands) in [
            ("carry", state, &node.operands[..carried]),
            ("stack", slices, &node.operands[carried..]),
        ] {
            if !args.is_empty() {
                let pairs = args.iter().zip(operands).map(|(arg, operand)| {
                    let operand = self.value(*operand);
                    format!("{} = {operand}", self.definition(*arg))
                });
                let pairs: Vec<String> = pairs.collect();
                line += &format!(" {word}({})", joined(", ", pairs));
            }
        }
        self.line(depth, &(line + " {"));
        self.nodes(body, depth + 1);
        let (next, stack) = body.results.split_at(carried);
        for (word, values) in [("next", next), ("stack", stack)] {
            if !values.is_empty() {
                let line = format!("{word} {}", self.values(values));
                self.line(depth + 1, &line);
            }
        }
        self.line(depth, "}");
    }

    fn definitions(&mut self, values: &[ValueId]) -> String {
        let texts: Vec<String> = values.iter().map(|v| self.definition(*v)).collect();
        joined(", ", texts)
    }

    fn definition(&mut self, value: ValueId) -> String {
        let number = self.numbers.len();
        self.numbers.insert(value, number);
        let info = &self.graph.values[value.index()];
        let name = info.name.as_ref().map_or_else(String::new, |n| format!(" {}", print_string(n)));
        format!("%{number}{name}: {}", print_type(self.graph, &info.ty))
    }

    fn values(&self, values: &[ValueId]) -> String {
        joined(", ", values.iter().map(|v| self.value(*v)))
    }

    /// A value whose definition the text has not mentioned prints as `%?` and its id: such a graph
    /// is not well formed, and printing it should still help.
    fn value(&self, value: ValueId) -> String {
        match self.numbers.get(&value) {
            Some(number) => format!("%{number}"),
            None => format!("%?{}", value.0),
        }
    }
}
