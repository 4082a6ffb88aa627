//! A region as terms.
//!
//! Every node becomes a term, but those with several results or a body, which are kept as they
//! are. A value from around the region is a leaf; where it is made of positions, constants and
//! scalar functions alone (a mask that was hoisted), its definition stands beside it in its class,
//! so that rules see through it.

use std::collections::{HashMap, HashSet};

use egg::{EGraph, Id};
use gigac_ir::graph::{Graph, Node, Op, Region, ValueId};
use gigac_ir::kernel::Reduction;
use smallvec::SmallVec;

use super::facts::{Context, Terms};
use super::term::{Head, Term};

/// A region as an e-graph.
pub(crate) struct Imported {
    /// The terms.
    pub(crate) terms: Terms,
    /// The class of each value that the region defines or reads.
    pub(crate) classes: HashMap<ValueId, Id>,
    /// The term that each value of the region was.
    pub(crate) originals: Vec<Term>,
}

/// Imports a region of a graph. `declared` has the axes, parameters and inputs that terms refer to;
/// `definitions` knows the nodes of all regions, `available` the values from outside that terms may
/// name.
pub(crate) fn import(
    graph: &Graph,
    declared: Graph,
    region: &Region,
    definitions: &HashMap<ValueId, &Node>,
    available: impl Fn(ValueId) -> bool,
) -> Imported {
    let mut import = Import {
        graph,
        definitions,
        available: &available,
        terms: EGraph::new(Context::new(declared)),
        classes: HashMap::new(),
        originals: Vec::new(),
    };
    for (number, node) in region.nodes.iter().enumerate() {
        import.node(number as u32, node);
    }
    for result in &region.results {
        import.class(*result);
    }
    import.terms.rebuild();
    Imported { terms: import.terms, classes: import.classes, originals: import.originals }
}

struct Import<'g> {
    graph: &'g Graph,
    definitions: &'g HashMap<ValueId, &'g Node>,
    available: &'g dyn Fn(ValueId) -> bool,
    terms: Terms,
    classes: HashMap<ValueId, Id>,
    originals: Vec<Term>,
}

impl Import<'_> {
    fn node(&mut self, number: u32, node: &Node) {
        let mut operands: Vec<Id> = node.operands.iter().map(|v| self.class(*v)).collect();
        if let ([result], None) = (&node.results[..], &node.region) {
            let term = self.term(&node.op, &operands);
            self.originals.push(term.clone());
            let class = self.terms.add(term);
            self.classes.insert(*result, class);
            return;
        }
        let body = node.region.as_ref().map(|body| captured(body, self.definitions));
        operands.extend(body.into_iter().flatten().map(|v| self.class(v)));
        let tuple = self.terms.add(Term::new(Head::Node(number), &operands));
        for result in &node.results {
            self.terms.analysis.types.insert(*result, self.graph.ty(*result).clone());
            let class = self.terms.add(Term::new(Head::Result(*result), &[tuple]));
            self.classes.insert(*result, class);
        }
    }

    /// The class of a value; one from outside is added.
    fn class(&mut self, value: ValueId) -> Id {
        if let Some(class) = self.classes.get(&value) {
            return *class;
        }
        let node = self.definitions.get(&value).copied();
        let leaf = node.is_some_and(|n| is_leaf(&n.op));
        let definition = node.filter(|n| leaf || transparent(&n.op)).map(|node| {
            let operands: Vec<Id> = node.operands.iter().map(|v| self.class(*v)).collect();
            let term = self.term(&node.op, &operands);
            self.terms.add(term)
        });
        let named = (!leaf && (self.available)(value) || definition.is_none()).then(|| {
            self.terms.analysis.types.insert(value, self.graph.ty(value).clone());
            self.terms.add(Term::leaf(Head::Value(value)))
        });
        if let (Some(definition), Some(named)) = (definition, named) {
            self.terms.union(named, definition);
        }
        let class = named.or(definition).expect("a value is named where it has no definition");
        self.classes.insert(value, class);
        class
    }

    /// An operation with one result and no body.
    fn term(&mut self, op: &Op, operands: &[Id]) -> Term {
        let mut children: SmallVec<[Id; 4]> = SmallVec::new();
        let mut axes = |list: &[gigac_ir::graph::AxisId]| {
            let id = self.terms.add(Term::axes(list));
            children.push(id);
        };
        let head = match op {
            Op::Real(bits) => Head::Real(*bits),
            Op::Int(i) => Head::Int(*i),
            Op::Bool(b) => Head::Bool(*b),
            Op::Pos(axis) => {
                axes(&[*axis]);
                Head::Pos
            }
            Op::Pointwise(function) => Head::Map(*function),
            Op::Rename { from, to } => {
                axes(&[*from]);
                axes(&[*to]);
                Head::Rename
            }
            Op::Split { from, to } => {
                axes(&[*from]);
                axes(to);
                Head::Split
            }
            Op::Merge { from, to } => {
                axes(from);
                axes(&[*to]);
                Head::Merge
            }
            Op::Slice { axis, to, start, stride } => {
                axes(&[*axis]);
                axes(to.as_slice());
                children.push(self.terms.add(Term::leaf(Head::Affine(*start, *stride))));
                Head::Slice
            }
            Op::Broadcast { axes: list } => {
                axes(list);
                Head::Broadcast
            }
            Op::Gather { axis } => {
                axes(&[*axis]);
                Head::Gather
            }
            Op::Reduce { op, axes: list } => {
                axes(list);
                if *op == Reduction::Sum { Head::Sum } else { Head::Largest }
            }
            Op::Dot { axes: list } => {
                axes(list);
                Head::Dot
            }
            Op::Cat { pieces, to } if matches!(pieces[..], [Some(_), None]) => {
                axes(&[pieces[0].expect("it was matched")]);
                axes(&[*to]);
                Head::Append
            }
            op => Head::Other(self.terms.analysis.number(op)),
        };
        children.extend(operands.iter().copied());
        Term { head, children }
    }
}

/// Whether rules look through an operation around the region.
fn transparent(op: &Op) -> bool {
    matches!(
        op,
        Op::Pointwise(_)
            | Op::Rename { .. }
            | Op::Split { .. }
            | Op::Merge { .. }
            | Op::Slice { .. }
            | Op::Broadcast { .. }
    )
}

/// Constants and positions are written again wherever they are read.
fn is_leaf(op: &Op) -> bool {
    matches!(op, Op::Real(_) | Op::Int(_) | Op::Bool(_) | Op::Pos(_))
}

/// Values from outside that a body reads, in the order of their first use, and those that their
/// definitions are made of.
pub(crate) fn captured(body: &Region, definitions: &HashMap<ValueId, &Node>) -> Vec<ValueId> {
    let (mut own, mut read) = (HashSet::new(), Vec::new());
    collect(body, &mut own, &mut read);
    let mut next = 0;
    let direct = read.len();
    let mut seen: HashSet<ValueId> = read.iter().copied().collect();
    let mut all = read;
    while let Some(value) = all.get(next).copied() {
        next += 1;
        let node = definitions.get(&value).filter(|n| transparent(&n.op));
        let operands = node.iter().flat_map(|n| &n.operands);
        all.extend(operands.filter(|v| seen.insert(**v)));
    }
    let named = |(i, value): (usize, &ValueId)| {
        let node = definitions.get(value);
        i < direct || node.is_none_or(|n| !transparent(&n.op) && !is_leaf(&n.op))
    };
    all.iter().enumerate().filter(|v| named((v.0, v.1))).map(|(_, v)| *v).collect()
}

fn collect(body: &Region, own: &mut HashSet<ValueId>, read: &mut Vec<ValueId>) {
    own.extend(&body.args);
    let mut reads = |own: &HashSet<ValueId>, value: &ValueId| {
        if !own.contains(value) && !read.contains(value) {
            read.push(*value);
        }
    };
    for node in &body.nodes {
        node.operands.iter().for_each(|v| reads(own, v));
        if let Some(inner) = &node.region {
            let mut inside = Vec::new();
            collect(inner, own, &mut inside);
            inside.iter().for_each(|v| reads(own, v));
        }
        own.extend(&node.results);
    }
    body.results.iter().for_each(|v| reads(own, v));
}
