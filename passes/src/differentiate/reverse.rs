//! The backward pass: walks a tape from its end and adds up cotangents.

use std::collections::{HashMap, HashSet};

use gigac_ir::graph::{Builder, Node, ValueId};
use gigac_ir::ops::{self, vjp::Vjp};
use gigac_ir::pointwise::Pointwise;

use super::forward::{Loop, Taped};
use super::{full, map, must};

/// Cotangents by value of the forward pass.
pub(super) type Cotangents = HashMap<ValueId, ValueId>;

/// The state of a backward pass.
pub(super) struct Reverse<'a> {
    pub(super) b: &'a mut Builder,
    active: HashSet<ValueId>,
    available: Available,
}

/// Where values of the forward pass are found while a backward body is built. Values of the root
/// are there anyway.
struct Available {
    /// For each open backward body: what stands for a value of the forward body.
    scopes: Vec<HashMap<ValueId, ValueId>>,
    /// Definitions of values of bodies that are computed again.
    nodes: HashMap<ValueId, Node>,
}

impl Available {
    fn known(&self, value: ValueId) -> Option<ValueId> {
        let found = self.scopes.iter().rev().find_map(|s| s.get(&value).copied());
        found.or_else(|| (!self.nodes.contains_key(&value)).then_some(value))
    }

    /// A value of the forward pass, here: known, or its definition cloned into the open region,
    /// operands first.
    fn fetch(&mut self, b: &mut Builder, value: ValueId) -> ValueId {
        let mut pending = vec![value];
        while let Some(top) = pending.last().copied() {
            if self.known(top).is_some() {
                pending.pop();
                continue;
            }
            let node = &self.nodes[&top];
            let found: Vec<Option<ValueId>> =
                node.operands.iter().map(|v| self.known(*v)).collect();
            match found.iter().copied().collect::<Option<Vec<ValueId>>>() {
                Some(operands) => {
                    let clones = must(b.copy(node, &operands));
                    let clones = node.results.clone().into_iter().zip(clones);
                    let scope = self.scopes.last_mut().expect("bodies are cloned into bodies");
                    scope.extend(clones);
                }
                None => {
                    let missing = node.operands.iter().zip(found).filter(|(_, f)| f.is_none());
                    pending.extend(missing.map(|(v, _)| *v));
                }
            }
        }
        self.known(value).expect("fetched above")
    }
}

impl<'a> Reverse<'a> {
    /// A backward pass over a tape with the given active values.
    pub(super) fn new(b: &'a mut Builder, active: HashSet<ValueId>, tape: &[Taped]) -> Self {
        let mut nodes = HashMap::new();
        collect_bodies(tape, false, &mut nodes);
        Self { b, active, available: Available { scopes: Vec::new(), nodes } }
    }

    /// Adds a contribution to the cotangent of a value, when that is wanted.
    pub(super) fn add(&mut self, cotangents: &mut Cotangents, value: ValueId, g: ValueId) {
        if !self.active.contains(&value) {
            return;
        }
        let sum = match cotangents.get(&value) {
            Some(known) => map(self.b, Pointwise::Add, &[*known, g]),
            None => g,
        };
        cotangents.insert(value, sum);
    }

    /// Takes the cotangents of a region's values back to what the region reads.
    pub(super) fn region(&mut self, tape: &[Taped], cotangents: &mut Cotangents) {
        for item in tape.iter().rev() {
            let g: Vec<Option<ValueId>> =
                item.results().iter().map(|v| cotangents.remove(v)).collect();
            match item {
                _ if g.iter().all(Option::is_none) => {}
                Taped::Node(node) => self.node(node, &g, cotangents),
                Taped::Repeat(repeat) => self.repeat(repeat, &g, cotangents),
            }
        }
    }

    fn node(&mut self, node: &Node, g: &[Option<ValueId>], cotangents: &mut Cotangents) {
        let wanted: Vec<bool> = node.operands.iter().map(|v| self.active.contains(v)).collect();
        self.b.span = self.b.graph.values[node.results[0].index()].span;
        let available = &mut self.available;
        let mut fetch = |b: &mut Builder, v: ValueId| available.fetch(b, v);
        let mut vjp = Vjp { builder: self.b, node, wanted: &wanted, fetch: &mut fetch };
        let parts = (ops::def(&node.op).vjp)(&mut vjp, g);
        for (operand, part) in node.operands.iter().zip(parts) {
            if let Some(part) = part {
                self.add(cotangents, *operand, part);
            }
        }
    }

    fn repeat(&mut self, repeat: &Loop, g: &[Option<ValueId>], cotangents: &mut Cotangents) {
        let plan = Backward::new(self, repeat, g);
        let args = self.b.open_repeat(repeat.axis, &plan.inits, &plan.stacked);
        let (carried, slices) = args[1..].split_at(plan.inits.len());
        let mut scope = HashMap::from([(repeat.args[0], args[0])]);
        scope.extend(plan.values.iter().copied().zip(slices.iter().copied()));
        self.available.scopes.push(scope);

        let mut inner = Cotangents::new();
        for (i, arg) in plan.carried.iter().zip(carried) {
            self.add(&mut inner, repeat.next[*i], *arg);
        }
        for (value, slice) in plan.stack_cotangents(repeat, slices) {
            self.add(&mut inner, value, slice);
        }
        self.region(&repeat.body, &mut inner);

        let mut next = Vec::new();
        for i in &plan.carried {
            let arg = repeat.carried()[*i];
            let axes = self.b.ty(arg).axes.clone();
            next.push(full(self.b, inner.remove(&arg), &axes));
        }
        for (value, sum) in plan.captured.iter().zip(&carried[plan.carried.len()..]) {
            let part = inner.remove(value);
            next.push(part.map_or(*sum, |part| map(self.b, Pointwise::Add, &[*sum, part])));
        }
        let (mut owners, mut stack) = (Vec::new(), Vec::new());
        for (slice, operand) in repeat.slices().iter().zip(&repeat.stacked) {
            if let Some(g) = inner.remove(slice) {
                owners.push(*operand);
                stack.push(g);
            }
        }
        self.available.scopes.pop();
        let shape = (repeat.axis, !repeat.reversed);
        let results = must(self.b.close_repeat(shape, &plan.inits, &plan.stacked, &next, &stack));
        let initial = plan.carried.iter().map(|i| repeat.inits[*i]);
        let receivers = initial.chain(plan.captured.iter().copied()).chain(owners);
        for (value, g) in receivers.zip(results) {
            self.add(cotangents, value, g);
        }
    }
}

/// The interface of the backward repeat.
struct Backward {
    /// Which carried values of the forward have a cotangent.
    carried: Vec<usize>,
    /// Active values from outside the body.
    captured: Vec<ValueId>,
    /// Initial cotangents of the carried values, then zeros for the captured ones.
    inits: Vec<ValueId>,
    /// Values of the forward body that slices stand for.
    values: Vec<ValueId>,
    /// Stacked operands: one for each of `values`, then cotangents of stacked results.
    stacked: Vec<ValueId>,
    /// Cotangents of stacked results: which result, and the cotangent itself when it does not
    /// vary from turn to turn.
    stack: Vec<(usize, Option<ValueId>)>,
}

impl Backward {
    fn new(reverse: &mut Reverse, repeat: &Loop, g: &[Option<ValueId>]) -> Self {
        let count = repeat.inits.len();
        let active = |v: &ValueId| reverse.active.contains(v);
        let carried: Vec<usize> = (0..count).filter(|i| active(&repeat.carried()[*i])).collect();
        let captured = captured(repeat, &reverse.active);
        let mut inits = Vec::new();
        for i in &carried {
            let axes = reverse.b.ty(repeat.inits[*i]).axes.clone();
            inits.push(full(reverse.b, g[*i], &axes));
        }
        for value in &captured {
            let axes = reverse.b.ty(*value).axes.clone();
            inits.push(full(reverse.b, None, &axes));
        }
        let slices = repeat.slices().iter().copied().zip(repeat.stacked.iter().copied());
        let (mut values, mut stacked) = (Vec::new(), Vec::new());
        for (value, stack) in repeat.saved.iter().copied().chain(slices) {
            values.push(value);
            stacked.push(reverse.available.fetch(reverse.b, stack));
        }
        let mut stack = Vec::new();
        for (i, g) in g[count..].iter().enumerate() {
            match *g {
                Some(g) if reverse.b.ty(g).has(repeat.axis) => {
                    stacked.push(g);
                    stack.push((i, None));
                }
                Some(g) => stack.push((i, Some(g))),
                None => {}
            }
        }
        Self { carried, captured, inits, values, stacked, stack }
    }

    /// The body's stacked results and their cotangents inside the backward body.
    fn stack_cotangents(&self, repeat: &Loop, slices: &[ValueId]) -> Vec<(ValueId, ValueId)> {
        let mut own = slices[self.values.len()..].iter();
        let mut cotangent = |constant: Option<ValueId>| {
            constant.unwrap_or_else(|| *own.next().expect("one slice per varying cotangent"))
        };
        self.stack.iter().map(|(i, g)| (repeat.stack[*i], cotangent(*g))).collect()
    }
}

/// Active values that a repeat reads and does not define, in the order of their first use.
fn captured(repeat: &Loop, active: &HashSet<ValueId>) -> Vec<ValueId> {
    let mut scan = Scan { active, defined: HashSet::new(), captured: Vec::new() };
    scan.repeat(repeat);
    scan.captured
}

struct Scan<'a> {
    active: &'a HashSet<ValueId>,
    defined: HashSet<ValueId>,
    captured: Vec<ValueId>,
}

impl Scan<'_> {
    fn repeat(&mut self, repeat: &Loop) {
        self.defined.extend(&repeat.args);
        for item in &repeat.body {
            match item {
                Taped::Node(node) => self.read(&node.operands),
                Taped::Repeat(inner) => {
                    self.read(&inner.inits);
                    self.read(&inner.stacked);
                    self.repeat(inner);
                }
            }
            self.defined.extend(item.results());
        }
        self.read(&repeat.next);
        self.read(&repeat.stack);
    }

    fn read(&mut self, values: &[ValueId]) {
        for value in values {
            let outside = !self.defined.contains(value) && !self.captured.contains(value);
            if outside && self.active.contains(value) {
                self.captured.push(*value);
            }
        }
    }
}

/// Collects the nodes of repeats' bodies that are computed again.
fn collect_bodies(tape: &[Taped], inside: bool, nodes: &mut HashMap<ValueId, Node>) {
    for item in tape {
        match item {
            Taped::Repeat(repeat) => collect_bodies(&repeat.body, true, nodes),
            Taped::Node(node) if inside => {
                nodes.extend(node.results.iter().map(|v| (*v, node.clone())));
            }
            Taped::Node(_) => {}
        }
    }
}
