//! Chooses the values that lie in memory; all others are computed where they are used.
//!
//! Stored are: parameters, inputs, arguments and results of regions, results of reductions,
//! products, attention, scatters and concatenations, operands of products and attention, and pointwise
//! values that would cost more to compute again than to read back.

use std::collections::{BTreeSet, HashMap, HashSet};

use gigac_ir::graph::{AxisId, DType, Graph, Node, Op, Region, ValueId};
use gigac_ir::ops::attend;
use gigac_ir::pointwise::Pointwise;

use super::defs::{Class, Def, Defs, class};

/// Operations per element from which a value with fewer axes than its user is kept.
const DEAR_TO_REPEAT: u64 = 8;
/// Operations per element from which a value with several users is kept.
const DEAR_TO_SHARE: u64 = 24;
/// Loads per element from which a value with several users is kept.
const MANY_LOADS: u64 = 3;
/// Loads per element from which any value is kept.
const MOST_LOADS: u64 = 12;

/// Price of computing one element of an inlined value.
#[derive(Clone, Copy, Default)]
struct Price {
    flops: u64,
    loads: u64,
}

struct Select<'g> {
    graph: &'g Graph,
    defs: Defs<'g>,
    stored: HashSet<ValueId>,
    prices: HashMap<ValueId, Price>,
    /// Products, and pointwise values that their epilogues compute.
    fresh: HashSet<ValueId>,
    /// Direct users, as values (or the region itself), with the size of what they compute in all
    /// turns.
    users: HashMap<ValueId, Vec<u64>>,
    /// How often nodes' results are defined.
    turns: HashMap<ValueId, u64>,
}

/// The stored values of a normalised graph.
pub(crate) fn stored(graph: &Graph) -> HashSet<ValueId> {
    let mut select = Select {
        graph,
        defs: Defs::new(graph),
        stored: HashSet::new(),
        prices: HashMap::new(),
        fresh: HashSet::new(),
        users: HashMap::new(),
        turns: HashMap::new(),
    };
    select.count_users(&graph.root, 1);
    select.region(&graph.root);
    select.stored
}

/// Whether a product is computed by multiplying and reducing element by element: one of its
/// operands is a gather that would be larger than what it reads (`w[E = e]`), or it has no
/// free axis at all.
pub(crate) fn is_product_reduction(graph: &Graph, defs: &Defs<'_>, node: &Node) -> bool {
    let [a, b] = [0, 1].map(|i| graph.ty(node.operands[i]));
    let no_free = a.axes.iter().all(|x| b.has(*x)) && b.axes.iter().all(|x| a.has(*x));
    no_free || node.operands.iter().any(|v| grows_by_gather(graph, defs, *v))
}

fn grows_by_gather(graph: &Graph, defs: &Defs<'_>, mut value: ValueId) -> bool {
    loop {
        let Some(node) = defs.node(value) else { return false };
        match class(&node.op) {
            Class::View => value = node.operands[0],
            Class::Inline if matches!(node.op, Op::Gather { .. }) => {
                let elements = |v: ValueId| graph.elements(&graph.ty(v).axes);
                return elements(node.results[0]) > elements(node.operands[0]);
            }
            _ => return false,
        }
    }
}

/// The stored value that a view reads, through any chain of views.
pub(crate) fn base(defs: &Defs<'_>, mut value: ValueId) -> ValueId {
    while let Some(node) = defs.node(value) {
        if class(&node.op) != Class::View {
            break;
        }
        value = node.operands[0];
    }
    value
}

impl Select<'_> {
    /// Counts users; a user inside a repeat counts for every turn.
    fn count_users(&mut self, region: &Region, turns: u64) {
        for node in &region.nodes {
            self.turns.extend(node.results.iter().map(|r| (*r, turns)));
            let size = node.results.iter().map(|r| self.size(*r)).max().unwrap_or(1);
            let work = match class(&node.op) {
                Class::Attend => self.pairs(node),
                _ => node.operands.iter().map(|v| self.size(*v)).max().unwrap_or(1),
            };
            // What reads a view reads what is viewed.
            if class(&node.op) != Class::View {
                for (i, value) in node.operands.iter().enumerate() {
                    let work = match &node.op {
                        Op::Cat { pieces, to } => self.piece(node.results[0], pieces[i], *to),
                        _ => size.max(work),
                    };
                    self.used(*value, work * turns);
                }
            }
            if let (Some(body), Op::Repeat { axis, .. }) = (&node.region, &node.op) {
                self.count_users(body, turns * self.graph.size(*axis));
            }
        }
    }

    /// Elements of a concatenation along `to` that are one piece.
    fn piece(&self, whole: ValueId, piece: Option<AxisId>, to: AxisId) -> u64 {
        let along = piece.map_or(1, |axis| self.graph.size(axis));
        self.size(whole) / self.graph.size(to).max(1) * along
    }

    /// Counts a user of a value, and of what it is a view of.
    fn used(&mut self, mut value: ValueId, work: u64) {
        loop {
            self.users.entry(value).or_default().push(work);
            let Some(node) = self.defs.node(value) else { return };
            if class(&node.op) != Class::View {
                return;
            }
            value = node.operands[0];
        }
    }

    /// Elements of the score of attention, for each of which captured values are read.
    fn pairs(&self, node: &Node) -> u64 {
        let types: Vec<_> = node.operands.iter().map(|v| self.graph.ty(*v)).collect();
        self.graph.elements(&attend::Parts::new(&node.op, &types).score)
    }

    fn size(&self, value: ValueId) -> u64 {
        self.graph.elements(&self.graph.ty(value).axes).max(1)
    }

    fn region(&mut self, region: &Region) {
        self.stored.extend(region.args.iter().skip(1).copied());
        for node in &region.nodes {
            self.node(node);
        }
        self.stored.extend(region.results.iter().copied());
    }

    fn node(&mut self, node: &Node) {
        match class(&node.op) {
            Class::State | Class::Reduce | Class::Scatter | Class::Cat => {
                self.stored.extend(node.results.iter().copied());
            }
            Class::Contract => {
                self.stored.insert(node.results[0]);
                if !is_product_reduction(self.graph, &self.defs, node) {
                    self.fresh.insert(node.results[0]);
                    for value in &node.operands {
                        let base = base(&self.defs, *value);
                        if self.needs_memory(base) {
                            self.stored.insert(base);
                        }
                    }
                }
            }
            Class::Attend => {
                self.stored.extend(node.results.iter().copied());
                // Captured values are read or computed where the score is.
                for value in &node.operands[..attend::fixed(&node.op)] {
                    let base = base(&self.defs, *value);
                    if self.needs_memory(base) {
                        self.stored.insert(base);
                    }
                }
            }
            Class::Repeat => {
                self.stored.extend(node.operands.iter().chain(&node.results).copied());
                let body = node.region.as_ref().expect("a repeat has a region");
                self.region(body);
            }
            Class::View | Class::Inline => self.inline(node),
        }
    }

    /// Whether a product's operand must be computed beforehand.
    fn needs_memory(&self, value: ValueId) -> bool {
        !matches!(self.defs.get(value), Def::Turn(_))
    }

    fn inline(&mut self, node: &Node) {
        let value = node.results[0];
        let price = self.price(node);
        let users = self.users.get(&value).map_or(&[][..], |u| u);
        let computed = self.size(value) * self.turns[&value];
        let repeated = users.iter().any(|work| *work > computed);
        let shared = users.len() > 1;
        let keep = class(&node.op) == Class::Inline
            && (price.loads > MOST_LOADS
                || repeated && price.flops >= DEAR_TO_REPEAT
                || shared && (price.flops >= DEAR_TO_SHARE || price.loads >= MANY_LOADS));
        if keep || self.ends_product(node) {
            self.stored.insert(value);
        }
        self.prices.insert(value, price);
    }

    /// Whether a node is the only reader of a product, or of the end of its epilogue so far, and
    /// takes its place: what is in registers need not reach memory before its last function.
    fn ends_product(&mut self, node: &Node) -> bool {
        if !matches!(node.op, Op::Pointwise(_) | Op::Cast(_)) {
            return false;
        }
        let axes = |v: ValueId| self.graph.ty(v).axes.iter().collect::<BTreeSet<_>>();
        let only_reader = |v: &&ValueId| {
            self.fresh.contains(v)
                && self.users.get(v).is_some_and(|u| u.len() == 1)
                && axes(**v) == axes(node.results[0])
        };
        let replaced: Vec<ValueId> = node.operands.iter().filter(only_reader).copied().collect();
        if let [value] = replaced[..]
            && !self.defs.node(value).is_some_and(|n| class(&n.op) == Class::Contract)
        {
            self.stored.remove(&value);
        }
        if !replaced.is_empty() {
            self.fresh.insert(node.results[0]);
        }
        !replaced.is_empty()
    }

    /// The price of one element, down to stored values.
    fn price(&self, node: &Node) -> Price {
        let own = match &node.op {
            Op::Pointwise(function) => u64::from(function.def().flops),
            Op::Cast(DType::Bf16) => u64::from(Pointwise::Bf16.def().flops),
            Op::Noise { .. } => 20,
            Op::Dot { .. } => 1,
            _ => 0,
        };
        let mut price = Price { flops: own, loads: 0 };
        let size = self.size(node.results[0]);
        for (i, operand) in node.operands.iter().enumerate() {
            // A square reads its operand once.
            if node.operands[..i].contains(operand) {
                continue;
            }
            let one = self.operand_price(*operand);
            // What has few elements is read once for many of the result's.
            let large = self.size(*operand) >= size.div_ceil(4);
            price.flops += one.flops;
            price.loads += if large { one.loads } else { 0 };
        }
        price
    }

    fn operand_price(&self, value: ValueId) -> Price {
        if self.stored.contains(&value) || matches!(self.defs.get(value), Def::Argument) {
            return Price { flops: 0, loads: 1 };
        }
        self.prices.get(&value).copied().unwrap_or_default()
    }
}
