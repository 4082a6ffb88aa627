//! In which order of axes every stored value lies in memory, and copies where one value would
//! have to lie in two places.
//!
//! A value lies in the order of the largest value that it is computed from, except that
//! - gradients and updates lie like their parameter,
//! - a matrix product has its batch axes in front when the last axis would be one of them,
//! - what enters or leaves a turn of a repeat lies like the loop's buffer, the repeated axis first.

use std::collections::{HashMap, HashSet};

use gigac_ir::graph::{AxisId, Graph, Node, Op, Region, Role, ValueId, ValueInfo};

use super::attention;
use super::defs::{Class, class};

/// The order of axes of every value.
pub(crate) struct Layouts {
    order: Vec<Vec<AxisId>>,
}

impl Layouts {
    /// The axes of a value, slowest first.
    pub(crate) fn of(&self, value: ValueId) -> &[AxisId] {
        &self.order[value.index()]
    }
}

/// Gives every value that a repeat, a result or an update keeps a place of its own, by copies
/// where needed, and fixes all layouts.
pub(crate) fn normalise(mut graph: Graph) -> (Graph, Layouts) {
    let mut forced = Forced::new();
    let mut natural = Orders::new(&graph);
    orders(&graph, &graph.root, &forced, &mut natural);
    let natural = natural.axes;
    let mut root = std::mem::take(&mut graph.root);
    let uses = count_uses(&root);
    let mut state = State { graph: &mut graph, forced: &mut forced, uses: &uses, natural };
    let wants: Vec<Want> = state.graph.roles.clone().iter().map(|role| state.role(role)).collect();
    state.region(&mut root, &wants, true);
    graph.root = root;
    let mut order = Orders::new(&graph);
    orders(&graph, &graph.root, &forced, &mut order);
    let layouts = Layouts { order: order.axes };
    (graph, layouts)
}

/// Orders that something demands.
type Forced = HashMap<ValueId, Vec<AxisId>>;

/// What a result of a region asks for.
#[derive(Clone)]
enum Want {
    /// Some memory, in any order.
    Any,
    /// Memory in this order.
    Order(Vec<AxisId>),
}

struct State<'a> {
    graph: &'a mut Graph,
    forced: &'a mut Forced,
    uses: &'a HashMap<ValueId, usize>,
    /// The orders that nothing forces.
    natural: Vec<Vec<AxisId>>,
}

impl State<'_> {
    fn role(&self, role: &Role) -> Want {
        match role {
            Role::Gradient(p) | Role::Update(p, _) => {
                Want::Order(self.graph.params[p.index()].axes())
            }
            _ => Want::Any,
        }
    }

    /// Settles the results of a region, then everything inside, last node first, so that what a
    /// loop must produce is known before its body is looked at.
    fn region(&mut self, region: &mut Region, wants: &[Want], root: bool) {
        let own: HashSet<ValueId> = region.nodes.iter().flat_map(|n| n.results.clone()).collect();
        let classes: HashMap<ValueId, Class> = region
            .nodes
            .iter()
            .flat_map(|n| n.results.iter().map(|r| (*r, class(&n.op))))
            .collect();
        let mut claimed = HashSet::new();
        for (i, want) in wants.iter().enumerate() {
            let value = region.results[i];
            let made_here = own.contains(&value)
                && match classes[&value] {
                    Class::State => false,
                    Class::Repeat => root,
                    _ => true,
                };
            let order = match want {
                Want::Any => self.forced.get(&value).cloned().unwrap_or_else(|| self.order(value)),
                Want::Order(order) => order.clone(),
            };
            let agrees = self.forced.get(&value).is_none_or(|o| *o == order);
            let may_share = root && matches!(want, Want::Any);
            if made_here && agrees && (claimed.insert(value) || may_share) {
                self.forced.insert(value, order);
            } else if !(root && matches!(want, Want::Any)) {
                let copy = self.copy(value, order);
                region.results[i] = copy.results[0];
                region.nodes.push(copy);
            }
        }
        let mut index = region.nodes.len();
        while index > 0 {
            index -= 1;
            if matches!(region.nodes[index].op, Op::Repeat { .. }) {
                let copies = self.repeat(&mut region.nodes, index, &mut claimed);
                region.nodes.splice(index..index, copies);
            }
        }
    }

    /// Settles one repeat; gives the copies of operands that must stand before it.
    fn repeat(
        &mut self,
        nodes: &mut [Node],
        index: usize,
        claimed: &mut HashSet<ValueId>,
    ) -> Vec<Node> {
        let before: HashMap<ValueId, Class> = nodes[..index]
            .iter()
            .flat_map(|n| n.results.iter().map(|r| (*r, class(&n.op))))
            .collect();
        let node = &mut nodes[index];
        let Op::Repeat { axis, carried, .. } = node.op else { unreachable!("a repeat") };
        let carried = carried as usize;
        let mut body = node.region.take().expect("a repeat has a region");
        let mut copies = Vec::new();
        let mut wants = Vec::new();
        for i in 0..carried {
            let arg = body.args[1 + i];
            let given = self.forced.get(&node.results[i]).cloned();
            let order = given.unwrap_or_else(|| self.order(arg));
            self.forced.insert(arg, order.clone());
            self.forced.insert(node.results[i], order.clone());
            wants.push(Want::Order(order.clone()));
            let init = node.operands[i];
            let free =
                before.get(&init).is_some_and(|c| !matches!(c, Class::State | Class::Repeat))
                    && self.uses.get(&init) == Some(&1)
                    && self.forced.get(&init).is_none_or(|o| *o == order);
            if free && claimed.insert(init) {
                self.forced.insert(init, order);
            } else {
                let copy = self.copy(init, order);
                node.operands[i] = copy.results[0];
                copies.push(copy);
            }
        }
        for i in carried..node.operands.len() {
            let operand = node.operands[i];
            let now = self.forced.get(&operand).cloned().unwrap_or_else(|| self.order(operand));
            let rest = now.iter().copied().filter(|a| *a != axis);
            let order: Vec<AxisId> = [axis].into_iter().chain(rest).collect();
            if now == order {
                self.forced.insert(operand, order.clone());
            } else {
                let copy = self.copy(operand, order.clone());
                node.operands[i] = copy.results[0];
                copies.push(copy);
            }
            self.forced.insert(body.args[1 + i], order[1..].to_vec());
        }
        for result in &node.results[carried..] {
            let now = self.forced.get(result).cloned().unwrap_or_else(|| self.order(*result));
            let rest = now.into_iter().filter(|a| *a != axis);
            let order: Vec<AxisId> = [axis].into_iter().chain(rest).collect();
            wants.push(Want::Order(order[1..].to_vec()));
            self.forced.insert(*result, order);
        }
        self.region(&mut body, &wants, false);
        node.region = Some(body);
        copies
    }

    fn order(&self, value: ValueId) -> Vec<AxisId> {
        self.natural[value.index()].clone()
    }

    /// A node that copies a value: a broadcast along no axes.
    fn copy(&mut self, value: ValueId, order: Vec<AxisId>) -> Node {
        let info = ValueInfo { ..self.graph.values[value.index()].clone() };
        self.graph.values.push(info);
        let copy = ValueId(self.graph.values.len() as u32 - 1);
        self.forced.insert(copy, order);
        let op = Op::Broadcast { axes: Vec::new() };
        Node { op, operands: vec![value], results: vec![copy], region: None }
    }
}

/// How often each value is used, by nodes and as results, nested regions included.
pub(crate) fn count_uses(region: &Region) -> HashMap<ValueId, usize> {
    fn walk(region: &Region, uses: &mut HashMap<ValueId, usize>) {
        for value in &region.results {
            *uses.entry(*value).or_default() += 1;
        }
        for node in &region.nodes {
            for value in &node.operands {
                *uses.entry(*value).or_default() += 1;
            }
            if let Some(body) = &node.region {
                walk(body, uses);
            }
        }
    }
    let mut uses = HashMap::new();
    walk(region, &mut uses);
    uses
}

/// Orders of all values of a region, operands first. What is forced stays.
fn orders(graph: &Graph, region: &Region, forced: &Forced, order: &mut Orders) {
    let forced_or = |value: &ValueId, natural: Vec<AxisId>| match forced.get(value) {
        Some(order) => order.clone(),
        None => natural,
    };
    for node in &region.nodes {
        if let (Some(body), Op::Repeat { axis, carried, .. }) = (&node.region, &node.op) {
            for (i, operand) in node.operands.iter().enumerate() {
                let arg = body.args[1 + i];
                let mut natural = order.axes[operand.index()].clone();
                if i >= *carried as usize {
                    natural.retain(|a| a != axis);
                }
                order.weight[arg.index()] = graph.elements(&natural);
                order.axes[arg.index()] = forced_or(&arg, natural);
            }
            orders(graph, body, forced, order);
            for (i, result) in node.results.iter().enumerate() {
                let mut natural = order.axes[body.results[i].index()].clone();
                if i >= *carried as usize {
                    natural.insert(0, *axis);
                }
                order.weight[result.index()] = graph.elements(&natural);
                order.axes[result.index()] = forced_or(result, natural);
            }
            continue;
        }
        for result in &node.results {
            let natural = natural(graph, node, *result, order);
            order.axes[result.index()] = forced_or(result, natural);
            order.weight[result.index()] = weight(graph, node, *result, order);
        }
    }
}

/// Orders under construction.
struct Orders {
    /// By value.
    axes: Vec<Vec<AxisId>>,
    /// Elements of the largest value in memory that a value is computed from.
    weight: Vec<u64>,
}

impl Orders {
    fn new(graph: &Graph) -> Self {
        Self { axes: vec![Vec::new(); graph.values.len()], weight: vec![0; graph.values.len()] }
    }
}

/// Inlined values weigh what they read, positions and constants nothing, all others themselves.
fn weight(graph: &Graph, node: &Node, result: ValueId, order: &Orders) -> u64 {
    match class(&node.op) {
        Class::Inline | Class::View => {
            node.operands.iter().map(|v| order.weight[v.index()]).max().unwrap_or(0)
        }
        _ => graph.elements(&graph.ty(result).axes),
    }
}

/// The order in which computing a value streams through what it reads: that of its largest
/// operand, axes that only others have last.
fn natural(graph: &Graph, node: &Node, result: ValueId, order: &Orders) -> Vec<AxisId> {
    let ty = graph.ty(result);
    let mut operands: Vec<ValueId> = node.operands.clone();
    if !matches!(node.op, Op::Dot { .. }) {
        let size = |v: &ValueId| graph.elements(&graph.ty(*v).axes);
        operands.sort_by_key(|v| std::cmp::Reverse((order.weight[v.index()], size(v))));
    }
    let replace = |axes: &[AxisId], from: &[AxisId], to: &[AxisId]| -> Vec<AxisId> {
        let place = axes.iter().position(|a| from.contains(a)).unwrap_or(axes.len());
        let mut new: Vec<AxisId> = axes[..place].to_vec();
        new.extend(to);
        new.extend(axes[place..].iter().filter(|a| !from.contains(a)));
        new
    };
    let of = |value: &ValueId| &order.axes[value.index()][..];
    if class(&node.op) == Class::Attend {
        return attention::order(graph, node, result, &|v| of(&v).to_vec());
    }
    let mut found: Vec<AxisId> = match (&node.op, operands.first()) {
        (Op::Rename { from, to }, Some(x)) => replace(of(x), &[*from], &[*to]),
        (Op::Split { from, to }, Some(x)) => replace(of(x), &[*from], to),
        (Op::Merge { from, to }, Some(x)) => replace(of(x), from, &[*to]),
        (Op::Slice { axis, to, .. }, Some(x)) => replace(of(x), &[*axis], to.as_slice()),
        (Op::Pad { axis, to, .. }, Some(x)) => replace(of(x), axis.as_slice(), &[*to]),
        (Op::Gather { axis }, Some(_)) => {
            let [x, e] = [0, 1].map(|i| of(&node.operands[i]));
            replace(x, &[*axis], e)
        }
        (Op::Scatter { axes, to }, Some(_)) => replace(of(&node.operands[0]), axes, &[*to]),
        (Op::Cat { pieces, to }, Some(_)) => {
            replace(of(&node.operands[0]), pieces[0].as_slice(), &[*to])
        }
        (Op::Param(..) | Op::Input(_) | Op::Broadcast { .. }, _) => ty.axes.clone(),
        _ => operands.iter().flat_map(|v| of(v).iter().copied()).collect(),
    };
    found.extend(&ty.axes);
    let mut axes: Vec<AxisId> = Vec::new();
    for axis in found {
        if ty.has(axis) && !axes.contains(&axis) {
            axes.push(axis);
        }
    }
    if class(&node.op) == Class::Contract {
        batch_first(graph, node, &mut axes);
    }
    axes
}

/// Moves the batch axes of a product to the front when one of them would be the fastest.
fn batch_first(graph: &Graph, node: &Node, order: &mut Vec<AxisId>) {
    let [a, b] = [0, 1].map(|i| graph.ty(node.operands[i]));
    let batch = |axis: &AxisId| a.has(*axis) && b.has(*axis);
    if order.last().is_some_and(batch) {
        let (mut front, back): (Vec<_>, Vec<_>) = order.iter().copied().partition(batch);
        front.extend(back);
        *order = front;
    }
}
