//! From chosen terms back to a graph, region by region.

use std::collections::{HashMap, HashSet};

use egg::{Id, Rewrite};
use gigac_ir::graph::{Builder, Graph, Node, Op, Region, ValueId};

use super::attend::{self, Attention};
use super::certify::Certificate;
use super::extract::{Candidate, Problem, Solution, extract};
use super::facts::{Context, Terms, operation};
use super::import::{Imported, captured, import};
use super::joined::join;
use super::price::Price;
use super::search::{rewrites, saturate};
use super::term::{Head, Term};
use super::{Options, RegionReport};

/// The pass over a whole graph.
struct Fuse<'g> {
    old: &'g Graph,
    options: &'g Options,
    price: Price,
    rules: Vec<Rewrite<Term, Context>>,
    /// The nodes of all regions.
    definitions: HashMap<ValueId, &'g Node>,
    builder: Builder,
    /// Values of the old graph in the new one.
    values: HashMap<ValueId, ValueId>,
    reports: Vec<RegionReport>,
}

pub(super) fn fuse(graph: &Graph, options: &Options) -> (Graph, Vec<RegionReport>) {
    let mut definitions = HashMap::new();
    define(&graph.root, &mut definitions);
    let mut pass = Fuse {
        old: graph,
        options,
        price: Price::new(&options.device),
        rules: rewrites(options.exact),
        definitions,
        builder: Builder::new(declarations(graph)),
        values: HashMap::new(),
        reports: Vec::new(),
    };
    let results = pass.region(&graph.root, None);
    for (role, value) in graph.roles.iter().zip(results) {
        pass.builder.result(role.clone(), value);
    }
    (pass.builder.finish(), pass.reports)
}

fn define<'g>(region: &'g Region, definitions: &mut HashMap<ValueId, &'g Node>) {
    for node in &region.nodes {
        definitions.extend(node.results.iter().map(|r| (*r, node)));
        node.region.iter().for_each(|body| define(body, definitions));
    }
}

/// A graph's axes, parameters and inputs.
fn declarations(graph: &Graph) -> Graph {
    let mut declared = Graph::new(graph.name.clone());
    declared.axes = graph.axes.clone();
    declared.params = graph.params.clone();
    declared.inputs = graph.inputs.clone();
    declared
}

/// A region being built again.
struct Rebuilt<'g> {
    region: &'g Region,
    terms: Terms,
    /// The chosen term of each class.
    chosen: HashMap<Id, Term>,
    /// What is built already.
    built: HashMap<Id, ValueId>,
    /// A value of the old region in each class, for its name.
    names: HashMap<Id, ValueId>,
}

impl<'g> Fuse<'g> {
    /// Builds a region's nodes into the open region. Gives its results.
    fn region(&mut self, region: &'g Region, name: Option<String>) -> Vec<ValueId> {
        let declared = declarations(&self.builder.graph);
        let available = |v| self.values.contains_key(&v);
        let imported = import(self.old, declared, region, &self.definitions, available);
        let Imported { terms, classes, originals } = imported;
        let before = terms.total_number_of_nodes();
        let searched = saturate(terms, &self.rules, self.options.nodes, self.options.iterations);
        let mut terms = searched.terms;
        let find = self.options.attention && !self.options.exact;
        let refused = if find {
            join(&mut terms);
            attend::find(&mut terms, &self.price)
        } else {
            Vec::new()
        };
        let roots: Vec<Id> = region.results.iter().map(|v| terms.find(classes[v])).collect();
        let choice = Choice::new(&terms, &self.price, &originals, &roots);
        self.builder.graph.axes.clone_from(&terms.analysis.graph.axes);
        self.reports.push(RegionReport {
            name,
            values: before,
            nodes: terms.total_number_of_nodes(),
            classes: terms.number_of_classes(),
            iterations: searched.iterations,
            stop: searched.stop,
            applied: searched.applied,
            attentions: choice.attentions(&terms),
            refused,
            seconds: choice.seconds,
            optimal: choice.optimal,
        });
        let mut names = HashMap::new();
        let made = region.nodes.iter().flat_map(|n| &n.results);
        for value in made.chain(&region.results) {
            names.entry(terms.find(classes[value])).or_insert(*value);
        }
        let order: Vec<Id> = region
            .nodes
            .iter()
            .flat_map(|n| &n.results)
            .map(|v| terms.find(classes[v]))
            .filter(|class| choice.terms.contains_key(class))
            .collect();
        let mut rebuilt =
            Rebuilt { region, terms, chosen: choice.terms, built: HashMap::new(), names };
        // In the old order, as far as values are still there.
        for class in order.iter().chain(&roots) {
            self.value(&mut rebuilt, *class);
        }
        roots.iter().map(|class| rebuilt.built[class]).collect()
    }

    /// The value of a class in the new graph.
    fn value(&mut self, rebuilt: &mut Rebuilt<'g>, class: Id) -> ValueId {
        let class = rebuilt.terms.find(class);
        if let Some(value) = rebuilt.built.get(&class) {
            return *value;
        }
        let term = rebuilt.chosen[&class].clone();
        let value = match &term.head {
            Head::Value(old) => self.values[old],
            Head::Result(old) => {
                let tuple = rebuilt.terms.find(term.children[0]);
                self.node(rebuilt, tuple);
                self.values[old]
            }
            Head::Attend(number) => {
                let attention = rebuilt.terms.analysis.attentions[*number as usize].clone();
                self.attention(rebuilt, &attention)
            }
            _ => {
                let operands: Vec<ValueId> =
                    term.operands().iter().map(|x| self.value(rebuilt, *x)).collect();
                let op = operation(&rebuilt.terms, &term).expect("a chosen term has a form");
                must(self.builder.op(op, &operands))
            }
        };
        if !matches!(term.head, Head::Value(_) | Head::Result(_))
            && let Some(old) = rebuilt.names.get(&class)
        {
            self.name(*old, value);
        }
        rebuilt.built.insert(class, value);
        value
    }

    /// Builds a node that is kept as it is, once.
    fn node(&mut self, rebuilt: &mut Rebuilt<'g>, tuple: Id) {
        let Head::Node(number) = rebuilt.chosen[&tuple].head else {
            unreachable!("a result belongs to a node")
        };
        let node = &rebuilt.region.nodes[number as usize];
        if self.values.contains_key(&node.results[0]) {
            return;
        }
        // What the node and its body read stands in front of it.
        let term = rebuilt.chosen[&tuple].clone();
        let read: Vec<ValueId> = term.children.iter().map(|x| self.value(rebuilt, *x)).collect();
        let operands = &read[..node.operands.len()];
        let results = match (&node.op, &node.region) {
            (Op::Repeat { axis, reversed, carried }, Some(body)) => {
                let captured = captured(body, &self.definitions);
                self.values
                    .extend(captured.into_iter().zip(read[operands.len()..].iter().copied()));
                let (carried, stacked) = operands.split_at(*carried as usize);
                let args = self.builder.open_repeat(*axis, carried, stacked);
                self.values.extend(body.args.iter().copied().zip(args));
                let name = self.old.axes[axis.index()].name.clone();
                let out = self.region(body, Some(name));
                let (next, stack) = out.split_at(carried.len());
                let shape = (*axis, *reversed);
                must(self.builder.close_repeat(shape, carried, stacked, next, stack))
            }
            _ => must(self.builder.like(node, operands)),
        };
        for (old, new) in node.results.iter().zip(&results) {
            self.values.insert(*old, *new);
            self.name(*old, *new);
        }
    }

    fn attention(&mut self, rebuilt: &mut Rebuilt<'g>, attention: &Attention) -> ValueId {
        let operands: Vec<ValueId> = attention.operands().map(|x| self.value(rebuilt, x)).collect();
        let op = Op::Attend { keys: attention.keys, inner: attention.inner.clone() };
        let args = must(self.builder.open_score(&op, &operands));
        let mut built: HashMap<Id, ValueId> =
            attention.captured.iter().copied().zip(args[1..].iter().copied()).collect();
        let (terms, root) = (&rebuilt.terms, attention.score);
        let score = attend::score(&mut self.builder, terms, attention, root, args[0], &mut built);
        let made = must(self.builder.close_score(op, &operands, &[score]));
        match attention.sink {
            Some(z) => {
                let z = self.value(rebuilt, z);
                must(attend::sunk(&mut self.builder, made[0], made[1], z))
            }
            None => made[0],
        }
    }

    /// Gives a value the name and place that it had.
    fn name(&mut self, old: ValueId, new: ValueId) {
        let known = &self.old.values[old.index()];
        let info = &mut self.builder.graph.values[new.index()];
        info.name = info.name.take().or_else(|| known.name.clone());
        info.span = info.span.or(known.span);
    }
}

/// The chosen terms of a region.
struct Choice {
    /// The term of each class that the results need.
    terms: HashMap<Id, Term>,
    seconds: [f64; 2],
    optimal: bool,
}

impl Choice {
    fn new(terms: &Terms, price: &Price, originals: &[Term], roots: &[Id]) -> Self {
        let canonical = |term: &Term| {
            let mut term = term.clone();
            term.children.iter_mut().for_each(|child| *child = terms.find(*child));
            term
        };
        let originals: HashSet<Term> = originals.iter().map(canonical).collect();
        let mut ids: Vec<Id> = terms.classes().map(|c| c.id).collect();
        ids.sort_unstable();
        let number: HashMap<Id, usize> = ids.iter().enumerate().map(|(i, id)| (*id, i)).collect();
        let mut problem: Problem = Vec::new();
        let mut candidates: Vec<Vec<Term>> = Vec::new();
        for id in &ids {
            let (mut costs, mut possible) = (Vec::new(), Vec::new());
            for term in terms[*id].iter().map(canonical) {
                let Some(cost) = price.term(terms, *id, &term) else { continue };
                let mut needs: Vec<usize> =
                    term.operands().iter().map(|x| number[&terms.find(*x)]).collect();
                needs.sort_unstable();
                needs.dedup();
                // Among equals what was written stays.
                let news = u64::from(!originals.contains(&term));
                costs.push(Candidate { cost: cost * FINE + news, needs });
                possible.push(term);
            }
            problem.push(costs);
            candidates.push(possible);
        }
        let roots: Vec<usize> = roots.iter().map(|r| number[r]).collect();
        let before = only(&problem, &candidates, &originals);
        let before = extract(&before, &roots).expect("the region itself is a solution");
        let solution = extract(&problem, &roots).expect("the region itself is a solution");
        Self::of(&problem, &candidates, &ids, &roots, solution, before.cost)
    }

    fn of(
        problem: &Problem,
        candidates: &[Vec<Term>],
        ids: &[Id],
        roots: &[usize],
        solution: Solution,
        before: u64,
    ) -> Self {
        let mut terms = HashMap::new();
        let mut stack = roots.to_vec();
        while let Some(class) = stack.pop() {
            let chosen = solution.choice[class].expect("what is needed is chosen");
            if terms.insert(ids[class], candidates[class][chosen].clone()).is_none() {
                stack.extend(&problem[class][chosen].needs);
            }
        }
        let seconds = [before, solution.cost].map(|cost| cost as f64 / FINE as f64 / 1e12);
        Self { terms, seconds, optimal: solution.optimal }
    }

    /// The certificates of the attentions that were chosen.
    fn attentions(&self, terms: &Terms) -> Vec<Certificate> {
        let number = |t: &Term| match t.head {
            Head::Attend(number) => Some(number as usize),
            _ => None,
        };
        let mut numbers: Vec<usize> = self.terms.values().filter_map(number).collect();
        numbers.sort_unstable();
        numbers.into_iter().map(|number| terms.analysis.certificates[number]).collect()
    }
}

/// The problem of which only what was written is a solution.
fn only(problem: &Problem, candidates: &[Vec<Term>], originals: &HashSet<Term>) -> Problem {
    let written = |term: &Term| {
        let leaf = term.operands().is_empty();
        leaf || matches!(term.head, Head::Node(_) | Head::Result(_)) || originals.contains(term)
    };
    let class = |(costs, terms): (&Vec<Candidate>, &Vec<Term>)| {
        let pairs = costs.iter().zip(terms).filter(|(_, term)| written(term));
        pairs.map(|(cost, _)| cost.clone()).collect()
    };
    problem.iter().zip(candidates).map(class).collect()
}

/// Steps of a price between which ties are broken.
const FINE: u64 = 1 << 10;

fn must<T>(result: Result<T, gigac_ir::ops::OpError>) -> T {
    result.unwrap_or_else(|e| panic!("fusion built an ill-typed node: {e}"))
}
