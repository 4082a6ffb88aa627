//! Groups the stored values of a region into kernels.
//!
//! A **task** computes one stored value by loops over its elements: a reduction, a pointwise
//! value, or a concatenation. Tasks are taken in program order; each joins the group of one of
//! its producers, or of a neighbour that reads the same large value, when
//! - both run over the same **rows** (the axes that a reduction keeps; a pointwise task fits any
//!   rows that are part of its axes),
//! - it reads the group's values at the same position, through pointwise functions alone,
//! - no path leads from the group through another unit to the task (petgraph answers that).
//!
//! So softmax, normalisations and their gradients each become one kernel over rows.
//!
//! A pointwise task that reads a product at its own position is part of the product's epilogue, and
//! so is one that reads nothing but what the epilogue reads. A sum of products over the same rows and columns (what reaches `h` from queries, keys and
//! values) is one kernel, which adds them up in registers.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use gigac_ir::graph::{AxisId, Node, Op, Region, ValueId};
use gigac_ir::pointwise::Pointwise;
use petgraph::algo::has_path_connecting;
use petgraph::graph::{DiGraph, NodeIndex};

use super::contraction::Sides;
use super::defs::{Class, Def, class};
use super::select::is_product_reduction;
use super::trace::Context;

/// Most tasks of one kernel, roundings of its own values left out.
const MOST_TASKS: usize = 16;
/// Fewest rows for which pointwise work may be bound to the rows of a reduction.
const FEWEST_ROWS: u64 = 16;

/// Elements that one thread may compute alone.
const LITTLE_WORK: u64 = 1024;

/// A stored value computed by loops over elements.
#[derive(Clone)]
pub(crate) struct Task<'g> {
    /// The value.
    pub(crate) value: ValueId,
    /// The node that defines it.
    pub(crate) node: &'g Node,
    /// All axes that it iterates over, slowest first.
    pub(crate) axes: Vec<AxisId>,
    /// Axes that a reduction removes.
    pub(crate) reduced: Vec<AxisId>,
}

impl Task<'_> {
    fn rows(&self) -> BTreeSet<AxisId> {
        self.axes.iter().copied().filter(|a| !self.reduced.contains(a)).collect()
    }

    fn set(&self) -> BTreeSet<AxisId> {
        self.axes.iter().copied().collect()
    }
}

/// Tasks that become one kernel.
pub(crate) struct Group<'g> {
    /// In a legal order.
    pub(crate) tasks: Vec<Task<'g>>,
    /// The axes that reductions keep, when there is one.
    pub(crate) rows: Option<BTreeSet<AxisId>>,
}

/// A matrix product, or a sum of several, and pointwise tasks that its kernel computes from the
/// sums in registers.
pub(crate) struct Product<'g> {
    /// What is summed: products with the same rows and columns, in order.
    pub(crate) terms: Vec<&'g Node>,
    /// The additions, the last one last. Nobody else reads what they add.
    pub(crate) additions: Vec<&'g Node>,
    /// Its epilogue, in a legal order; all tasks have the axes of the product.
    pub(crate) epilogue: Vec<Task<'g>>,
}

impl<'g> Product<'g> {
    /// A product alone.
    fn of(node: &'g Node) -> Self {
        Self { terms: vec![node], additions: Vec::new(), epilogue: Vec::new() }
    }

    /// What the sums in registers are.
    pub(crate) fn sum(&self) -> ValueId {
        self.additions.last().unwrap_or(&self.terms[0]).results[0]
    }

    /// All nodes that the kernel computes, the epilogue last.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &'g Node> {
        let ends = self.epilogue.iter().map(|t| t.node);
        self.terms.iter().chain(&self.additions).copied().chain(ends)
    }
}

/// What a region is made of.
pub(crate) enum Work<'g> {
    /// A kernel of loops over elements.
    Group(Group<'g>),
    /// A matrix product.
    Contract(Product<'g>),
    /// A scatter.
    Scatter(&'g Node),
    /// Attention.
    Attend(&'g Node),
    /// A loop.
    Repeat(&'g Node),
}

/// Whether a task rounds a value that a group computes: that costs a store and nothing else.
fn rounds(group: &Group<'_>, task: &Task<'_>) -> bool {
    let computes = |value: ValueId| group.tasks.iter().any(|t| t.value == value);
    matches!(task.node.op, Op::Cast(_)) && computes(task.node.operands[0])
}

struct Grouping<'c, 'g> {
    context: &'c Context<'g>,
    units: DiGraph<(), ()>,
    /// By unit; none where it has become part of another.
    work: Vec<Option<Work<'g>>>,
    maker: HashMap<ValueId, NodeIndex>,
}

/// The units of a region, in a legal order.
pub(crate) fn group<'g>(context: &Context<'g>, region: &'g Region) -> Vec<Work<'g>> {
    let mut grouping =
        Grouping { context, units: DiGraph::new(), work: Vec::new(), maker: HashMap::new() };
    for node in &region.nodes {
        grouping.node(node);
    }
    grouping.ordered()
}

/// Stored values that computing a value reads, and whether only at its own position.
pub(crate) fn reads(context: &Context<'_>, node: &Node) -> BTreeMap<ValueId, bool> {
    let mut found = BTreeMap::new();
    for operand in &node.operands {
        collect(context, *operand, true, &mut found);
    }
    if let (Op::Repeat { .. }, Some(body)) = (&node.op, &node.region) {
        captured(context, body, &mut found);
    }
    found
}

fn captured(context: &Context<'_>, region: &Region, found: &mut BTreeMap<ValueId, bool>) {
    for node in &region.nodes {
        found.extend(reads(context, node));
    }
    for value in &region.results {
        collect(context, *value, true, found);
    }
}

fn collect(
    context: &Context<'_>,
    value: ValueId,
    aligned: bool,
    found: &mut BTreeMap<ValueId, bool>,
) {
    if context.stored.contains(&value) {
        let entry = found.entry(value).or_insert(true);
        *entry &= aligned;
        return;
    }
    let Def::Node(node) = context.defs.get(value) else { return };
    let here =
        matches!(node.op, Op::Pointwise(_) | Op::Cast(_) | Op::Broadcast { .. } | Op::Dot { .. });
    for operand in &node.operands {
        collect(context, *operand, aligned && here, found);
    }
}

impl<'g> Grouping<'_, 'g> {
    fn node(&mut self, node: &'g Node) {
        let stored = self.context.stored.contains(&node.results[0]);
        match class(&node.op) {
            Class::State => {}
            Class::Contract
                if !is_product_reduction(self.context.graph, &self.context.defs, node) =>
            {
                self.unit(node, Work::Contract(Product::of(node)));
            }
            Class::Scatter => self.unit(node, Work::Scatter(node)),
            Class::Attend => self.unit(node, Work::Attend(node)),
            Class::Repeat => self.unit(node, Work::Repeat(node)),
            Class::Reduce | Class::Contract | Class::Cat => self.task(node),
            Class::View | Class::Inline if stored => self.task(node),
            Class::View | Class::Inline => {}
        }
    }

    fn unit(&mut self, node: &'g Node, work: Work<'g>) {
        let index = self.units.add_node(());
        self.work.push(Some(work));
        self.connect(node, index);
    }

    /// Adds the edges from the makers of what a node reads, and registers its results.
    fn connect(&mut self, node: &'g Node, index: NodeIndex) {
        for value in reads(self.context, node).keys() {
            if let Some(maker) = self.maker.get(value)
                && *maker != index
            {
                self.units.update_edge(*maker, index, ());
            }
        }
        self.maker.extend(node.results.iter().map(|r| (*r, index)));
    }

    fn task(&mut self, node: &'g Node) {
        if self.add_products(node) {
            return;
        }
        let task = self.describe(node);
        let reads = reads(self.context, node);
        let makers: BTreeSet<NodeIndex> =
            reads.keys().filter_map(|v| self.maker.get(v).copied()).collect();
        let candidates: Vec<NodeIndex> = self.units.node_indices().rev().collect();
        for producers_only in [true, false] {
            for index in &candidates {
                let produces = makers.contains(index);
                let related = if producers_only {
                    produces
                } else {
                    self.shares_large(*index, &task, &reads) || self.reads_alike(*index, &reads)
                };
                if related && self.fits(*index, &task, &reads) && self.acyclic(*index, &makers) {
                    self.join(*index, task, node);
                    return;
                }
            }
        }
        let index = self.units.add_node(());
        let rows = (!task.reduced.is_empty()).then(|| task.rows());
        self.work.push(Some(Work::Group(Group { tasks: vec![task], rows })));
        self.connect(node, index);
    }

    /// Makes one unit of two sums of products when a node adds them and nobody else reads them.
    /// The earlier one moves to the later one: what it reads is still there.
    fn add_products(&mut self, node: &'g Node) -> bool {
        let Some([first, second]) = self.summands(node) else { return false };
        let place = first.max(second);
        let [mut all, more] = [first, second].map(|unit| match self.work[unit.index()].take() {
            Some(Work::Contract(product)) => product,
            _ => unreachable!("summands are products"),
        });
        all.terms.extend(more.terms);
        all.additions.extend(more.additions);
        all.additions.push(node);
        for node in all.nodes().collect::<Vec<_>>() {
            self.connect(node, place);
        }
        self.work[place.index()] = Some(Work::Contract(all));
        true
    }

    /// The units of two sums of products that a node adds up, when they can be one.
    fn summands(&self, node: &Node) -> Option<[NodeIndex; 2]> {
        if self.context.exact || !matches!(node.op, Op::Pointwise(Pointwise::Add)) {
            return None;
        }
        let units = [node.operands[0], node.operands[1]].map(|value| {
            let unit = *self.maker.get(&value)?;
            let Some(Work::Contract(product)) = &self.work[unit.index()] else { return None };
            let alone = product.epilogue.is_empty() && product.sum() == value;
            (alone && self.context.uses.get(&value) == Some(&1)).then_some((unit, product))
        });
        let [Some((a, left)), Some((b, right))] = units else { return None };
        let sides = |p: &Product<'g>| Sides::of(self.context.graph, p.terms[0]);
        (a != b && sides(left).agree(&sides(right))).then_some([a, b])
    }

    fn join(&mut self, index: NodeIndex, task: Task<'g>, node: &'g Node) {
        match &mut self.work[index.index()] {
            Some(Work::Group(group)) => {
                if !task.reduced.is_empty() {
                    group.rows = Some(task.rows());
                }
                group.tasks.push(task);
            }
            Some(Work::Contract(product)) => product.epilogue.push(task),
            _ => unreachable!("a task fits no such unit"),
        }
        self.connect(node, index);
    }

    fn describe(&self, node: &'g Node) -> Task<'g> {
        let graph = self.context.graph;
        let value = node.results[0];
        let result = self.context.layouts.of(value).to_vec();
        let reduced = match &node.op {
            Op::Reduce { axes, .. } | Op::Dot { axes } => axes.clone(),
            _ => Vec::new(),
        };
        if reduced.is_empty() {
            return Task { value, node, axes: result, reduced };
        }
        // The order of the largest value read decides, so that loads are contiguous.
        let mut axes: Vec<AxisId> = Vec::new();
        let mut sources: Vec<ValueId> = reads(self.context, node).into_keys().collect();
        sources.sort_by_key(|v| std::cmp::Reverse(graph.elements(&graph.ty(*v).axes)));
        let order = sources.iter().flat_map(|v| self.context.layouts.of(*v));
        let types = node.operands.iter().flat_map(|v| &graph.ty(*v).axes);
        let all: BTreeSet<AxisId> = types.clone().copied().collect();
        for axis in order.chain(types) {
            if all.contains(axis) && !axes.contains(axis) {
                axes.push(*axis);
            }
        }
        Task { value, node, axes, reduced }
    }

    /// Whether a group reads a value that is at least as large as what the task computes.
    fn shares_large(
        &self,
        index: NodeIndex,
        task: &Task<'g>,
        task_reads: &BTreeMap<ValueId, bool>,
    ) -> bool {
        let Some(Work::Group(group)) = &self.work[index.index()] else { return false };
        let graph = self.context.graph;
        let size = graph.elements(&task.axes);
        let large = |v: &ValueId| graph.elements(&graph.ty(*v).axes) >= size.max(2);
        let mut theirs = group.tasks.iter().map(|t| reads(self.context, t.node));
        theirs.any(|r| r.keys().any(|v| large(v) && task_reads.contains_key(v)))
    }

    /// Whether a product's epilogue reads all that a task reads: then the task costs a store.
    fn reads_alike(&self, index: NodeIndex, task_reads: &BTreeMap<ValueId, bool>) -> bool {
        let Some(Work::Contract(product)) = &self.work[index.index()] else { return false };
        let theirs: BTreeSet<ValueId> =
            product.epilogue.iter().flat_map(|t| reads(self.context, t.node).into_keys()).collect();
        !task_reads.is_empty() && task_reads.keys().all(|value| theirs.contains(value))
    }

    fn fits(&self, index: NodeIndex, task: &Task<'g>, reads: &BTreeMap<ValueId, bool>) -> bool {
        match &self.work[index.index()] {
            Some(Work::Group(group)) => self.fits_group(group, task, reads),
            Some(Work::Contract(product)) => self.ends(product, task, reads),
            _ => false,
        }
    }

    /// Whether a task may be part of a product's epilogue: it is pointwise, has the product's
    /// axes, and what it reads of the kernel's values it reads at its own position.
    fn ends(
        &self,
        product: &Product<'g>,
        task: &Task<'g>,
        reads: &BTreeMap<ValueId, bool>,
    ) -> bool {
        let axes = &self.context.graph.ty(product.sum()).axes;
        let made = product.epilogue.iter().map(|t| t.value).chain([product.sum()]);
        let mut read = made.filter_map(|v| reads.get(&v));
        task.reduced.is_empty()
            && !matches!(task.node.op, Op::Cat { .. })
            && product.epilogue.len() < MOST_TASKS
            && axes.iter().copied().collect::<BTreeSet<_>>() == task.set()
            && read.all(|aligned| *aligned)
    }

    fn fits_group(
        &self,
        group: &Group<'g>,
        task: &Task<'g>,
        reads: &BTreeMap<ValueId, bool>,
    ) -> bool {
        if !rounds(group, task) && group.tasks.len() >= MOST_TASKS {
            return false;
        }
        let aligned = group.tasks.iter().all(|t| {
            let cat = matches!(t.node.op, Op::Cat { .. });
            reads.get(&t.value).is_none_or(|aligned| *aligned && !cat)
        });
        aligned && self.rows_fit(group, task)
    }

    fn rows_fit(&self, group: &Group<'g>, task: &Task<'g>) -> bool {
        let first = &group.tasks[0];
        let cats_fit = |rows: &BTreeSet<AxisId>| {
            group.tasks.iter().chain([task]).all(|t| match &t.node.op {
                Op::Cat { to, .. } => !rows.contains(to),
                _ => true,
            })
        };
        match (&group.rows, task.reduced.is_empty()) {
            (Some(rows), true) => {
                rows.is_subset(&task.set())
                    && self.has_rows_for(rows, task)
                    && cats_fit(rows)
                    && self.runs_along_rows(group, task)
            }
            (Some(rows), false) => *rows == task.rows() && first.axes.last() == task.axes.last(),
            (None, true) => {
                let cat = |t: &Task<'g>| matches!(t.node.op, Op::Cat { .. });
                first.set() == task.set() && !cat(first) && !cat(task)
            }
            (None, false) => {
                let rows = task.rows();
                rows.is_subset(&first.set())
                    && self.elements(&rows) >= FEWEST_ROWS
                    && cats_fit(&rows)
                    && task.axes.last().is_some_and(|a| task.reduced.contains(a))
            }
        }
    }

    /// Whether a task is shared out to enough threads when it runs over the rows of a reduction:
    /// there are many, or it is little work.
    fn has_rows_for(&self, rows: &BTreeSet<AxisId>, task: &Task<'g>) -> bool {
        self.elements(rows) >= FEWEST_ROWS || self.elements(&task.set()) <= LITTLE_WORK
    }

    /// Positions along axes, those of repeats left out.
    fn elements(&self, axes: &BTreeSet<AxisId>) -> u64 {
        axes.difference(&self.context.depth).map(|a| self.context.graph.size(*a)).product()
    }

    /// A pointwise task with axes beyond the rows joins a reduction only when the reduction runs
    /// along the fastest axis, so that both stream through memory.
    fn runs_along_rows(&self, group: &Group<'g>, task: &Task<'g>) -> bool {
        let rows = group.rows.as_ref().map_or(0, BTreeSet::len);
        let reduction = group.tasks.iter().find(|t| !t.reduced.is_empty());
        task.axes.len() == rows
            || reduction.is_none_or(|r| r.axes.last().is_some_and(|a| r.reduced.contains(a)))
    }

    /// Whether joining keeps the units free of cycles: no maker of what the task reads, other
    /// than the group, may itself depend on the group.
    fn acyclic(&self, group: NodeIndex, makers: &BTreeSet<NodeIndex>) -> bool {
        makers.iter().all(|m| *m == group || !has_path_connecting(&self.units, group, *m, None))
    }

    /// Kahn's algorithm; among the units that are ready the one that came first in the text.
    fn ordered(self) -> Vec<Work<'g>> {
        let mut missing: Vec<usize> = self
            .units
            .node_indices()
            .map(|i| self.units.neighbors_directed(i, petgraph::Incoming).count())
            .collect();
        let mut ready: BTreeSet<NodeIndex> =
            self.units.node_indices().filter(|i| missing[i.index()] == 0).collect();
        let mut order = Vec::new();
        while let Some(next) = ready.pop_first() {
            order.push(next);
            for user in self.units.neighbors(next) {
                missing[user.index()] -= 1;
                if missing[user.index()] == 0 {
                    ready.insert(user);
                }
            }
        }
        assert_eq!(order.len(), self.work.len(), "the units of a region form a cycle");
        let mut work = self.work;
        order.into_iter().filter_map(|i| work[i.index()].take()).collect()
    }
}
