//! Forms kernels: partitions a graph into tile programs and loops over them.
//!
//! Requires a verified graph without `top` (see `decompose`). Layout gives everything a place,
//! [`select`](self) chooses what lies in memory, grouping fuses loops, and one file per family
//! emits the kernels. Equal kernels are compiled once.

mod absorb;
mod attention;
mod contraction;
mod defs;
mod digits;
mod group;
mod interpret;
mod layout;
mod nest;
mod print;
mod scatter;
mod select;
mod shape;
mod trace;

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use gigac_ir::graph::{AxisId, Graph, Node, Op, Region, Span, ValueId};
use gigac_ir::kernel::{Kernel, Machine};
use gigac_ir::plan::Memory;

pub(crate) use attention::has_kernels;
pub(crate) use layout::count_uses;

use crate::depth::repeated_axes;
use crate::pass::{Need, Pass, Report, Run, Scope};
use group::Work;
use trace::{Context, Traced};

/// The pass.
pub const FORM: Pass = Pass {
    name: "form",
    about: "the graph becomes tile programs and loops over them",
    need: Need::Necessary("without it there are no kernels"),
    scope: Scope::All,
    run: Run::Form(|graph, context| {
        let name = format!("{}{}", context.prefix, context.purpose.name());
        let formed = form(graph, &name, context.options.exact, context.options.machine());
        let report = Report::new().count(formed.kernels.len(), "distinct kernels");
        (formed, report)
    }),
};

/// One launch of a kernel.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Index in [`Formed::kernels`].
    pub kernel: usize,
    /// The values behind the argument buffers.
    pub arguments: Vec<ValueId>,
    /// Nesting depths of the loops whose turns are the scalars.
    pub turns: Vec<u32>,
    /// Floating-point operations of the launch.
    pub flops: u64,
    /// What it computes, in the model's words.
    pub origin: String,
    /// The expressions of the model that it comes from.
    pub places: Vec<Span>,
}

/// A unit of a region.
#[derive(Clone, Debug)]
pub enum Unit {
    /// A kernel launch.
    Launch(Launch),
    /// One launch of several kernels, none of which writes what another one touches: see [`crate::together`].
    Together(Vec<Launch>),
    /// A loop.
    Repeat(Loop),
}

impl Unit {
    /// The kernels that a unit launches by itself: none when it is a loop.
    pub fn launches(&self) -> &[Launch] {
        match self {
            Self::Launch(launch) => std::slice::from_ref(launch),
            Self::Together(launches) => launches,
            Self::Repeat(_) => &[],
        }
    }

    /// Whether a unit touches a value.
    pub(crate) fn mentions(&self, value: ValueId) -> bool {
        let mut found = false;
        self.each_mention(&mut |v| found |= v == value);
        found
    }

    /// Visits all values that a unit mentions, but for the results of a loop.
    pub(crate) fn each_mention(&self, visit: &mut dyn FnMut(ValueId)) {
        match self {
            Self::Launch(_) | Self::Together(_) => {
                let arguments = self.launches().iter().flat_map(|launch| &launch.arguments);
                arguments.for_each(|v| visit(*v));
            }
            Self::Repeat(inner) => {
                inner.operands.iter().for_each(|v| visit(*v));
                for segment in &inner.segments {
                    segment.next.iter().for_each(|v| visit(*v));
                    segment.stacks.iter().for_each(|s| visit(s.whole));
                    segment.stacks.iter().for_each(|s| visit(s.slice));
                    segment.body.iter().for_each(|u| u.each_mention(visit));
                }
            }
        }
    }
}

/// A repeat with its body in kernels.
#[derive(Clone, Debug)]
pub struct Loop {
    /// The axis.
    pub axis: AxisId,
    /// Whether turns run down.
    pub reversed: bool,
    /// Number of carried values.
    pub carried: usize,
    /// Operands of the repeat.
    pub operands: Vec<ValueId>,
    /// Results of the repeat.
    pub results: Vec<ValueId>,
    /// Runs of turns with a body each, in the order in which they run; together they are all turns.
    pub segments: Vec<Segment>,
}

/// Turns of a loop that are computed alike. The bodies of two segments define no value in common.
#[derive(Clone, Debug)]
pub struct Segment {
    /// The turns.
    pub turns: Range<u64>,
    /// Arguments of the body: the turn, carried values, slices of the loop's operands.
    pub arguments: Vec<ValueId>,
    /// Results of the body: next carried values, slices of the loop's results.
    pub next: Vec<ValueId>,
    /// Stacks of these turns alone, with the slice that the body writes or reads.
    pub stacks: Vec<Stack>,
    /// The body.
    pub body: Vec<Unit>,
}

/// What a segment of a forward loop keeps for the segment of a reversed loop with the same turns.
/// What lies in the host's memory is copied there when it was made, and back before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stack {
    /// Name of the whole: a value of the slice's type that stands for one slice a turn.
    pub whole: ValueId,
    /// The slice of a turn.
    pub slice: ValueId,
    /// Where the whole lies.
    pub memory: Memory,
}

/// A graph in kernels.
#[derive(Clone)]
pub struct Formed {
    /// The graph, with copies where values needed a second place.
    pub graph: Graph,
    /// Order of axes in memory of every value, by id.
    pub layouts: Vec<Vec<AxisId>>,
    /// Distinct kernels.
    pub kernels: Vec<Kernel>,
    /// The program.
    pub units: Vec<Unit>,
    /// Which value lies over which: see [`crate::reuse`].
    pub over: HashMap<ValueId, ValueId>,
}

impl Formed {
    /// Bytes of a value in memory.
    pub fn bytes(&self, value: ValueId) -> u64 {
        let ty = self.graph.ty(value);
        self.graph.elements(&ty.axes) * ty.dtype.storage().bytes()
    }
}

impl Segment {
    /// The slices that a turn keeps, or finds kept.
    pub fn kept(&self) -> impl Iterator<Item = ValueId> + '_ {
        self.stacks.iter().map(|stack| stack.slice)
    }
}

/// Forms the kernels of a graph. Unless `exact`, sums of products are added up product by product,
/// which rounds otherwise than the graph says. Tiles are chosen for the machine.
pub fn form(graph: Graph, name: &str, exact: bool, machine: Machine) -> Formed {
    let (graph, layouts) = layout::normalise(absorb::absorb(graph));
    let stored = select::stored(&graph);
    let (defs, depth) = (defs::Defs::new(&graph), repeated_axes(&graph.root));
    let uses = count_uses(&graph.root);
    let context = Context { graph: &graph, defs, stored, layouts, depth, uses, exact, machine };
    let mut former = Former { context, kernels: Vec::new(), known: HashMap::new(), name };
    let units = former.region(&graph.root);
    let kernels = former.kernels;
    let layouts = (0..graph.values.len())
        .map(|i| former.context.layouts.of(ValueId(i as u32)).to_vec())
        .collect();
    Formed { layouts, kernels, units, graph, over: HashMap::new() }
}

struct Former<'g, 'n> {
    context: Context<'g>,
    kernels: Vec<Kernel>,
    known: HashMap<String, usize>,
    name: &'n str,
}

impl<'g> Former<'g, '_> {
    fn region(&mut self, region: &'g Region) -> Vec<Unit> {
        let work = group::group(&self.context, region);
        let external = self.external(region, &work);
        let mut units = Vec::new();
        for item in &work {
            if let Work::Attend(node) = item {
                units.extend(self.attention(node));
                continue;
            }
            units.push(match item {
                Work::Group(group) => {
                    let traced = nest::emit(&self.context, group, &external);
                    let nodes: Vec<&Node> = group.tasks.iter().map(|t| t.node).collect();
                    self.launch(traced, &nodes)
                }
                Work::Contract(product) => {
                    let traced = contraction::emit(&self.context, product, &external);
                    self.launch(traced, &product.nodes().collect::<Vec<_>>())
                }
                Work::Scatter(node) => {
                    let traced = scatter::emit(&self.context, node);
                    self.launch(traced, &[node])
                }
                Work::Attend(_) => unreachable!("taken above"),
                Work::Repeat(node) => self.repeat(node),
            });
        }
        units
    }

    /// Values that a unit other than their own reads, or that leave the region.
    fn external(&self, region: &Region, work: &[Work<'g>]) -> HashSet<ValueId> {
        let mut external: HashSet<ValueId> = region.results.iter().copied().collect();
        for item in work {
            let (nodes, own): (Vec<&Node>, HashSet<ValueId>) = match item {
                Work::Group(g) => (
                    g.tasks.iter().map(|t| t.node).collect(),
                    g.tasks.iter().map(|t| t.value).collect(),
                ),
                Work::Contract(p) => {
                    let nodes: Vec<&Node> = p.nodes().collect();
                    let own = nodes.iter().map(|n| n.results[0]).collect();
                    (nodes, own)
                }
                Work::Scatter(n) | Work::Attend(n) | Work::Repeat(n) => (vec![n], HashSet::new()),
            };
            for node in nodes {
                let read = group::reads(&self.context, node).into_keys();
                external.extend(read.filter(|v| !own.contains(v)));
            }
        }
        external
    }

    /// The launches of attention share its price.
    fn attention(&mut self, node: &'g Node) -> Vec<Unit> {
        let traced = attention::emit(&self.context, node);
        let count = traced.len() as u64;
        let launches = traced.into_iter().map(|traced| match self.launch(traced, &[node]) {
            Unit::Launch(launch) => Unit::Launch(Launch { flops: launch.flops / count, ..launch }),
            other => other,
        });
        launches.collect()
    }

    fn repeat(&mut self, node: &'g Node) -> Unit {
        let Op::Repeat { axis, reversed, carried } = node.op else { unreachable!("a repeat") };
        let body = node.region.as_ref().expect("a repeat has a region");
        Unit::Repeat(Loop {
            axis,
            reversed,
            carried: carried as usize,
            operands: node.operands.clone(),
            results: node.results.clone(),
            segments: vec![Segment {
                turns: 0..self.context.graph.size(axis),
                arguments: body.args.clone(),
                next: body.results.clone(),
                stacks: Vec::new(),
                body: self.region(body),
            }],
        })
    }

    /// Registers a traced kernel, or finds its equal.
    fn launch(&mut self, traced: Traced, nodes: &[&Node]) -> Unit {
        let key = format!("{:?}", traced.kernel);
        let next = self.kernels.len();
        let origin = self.origin(nodes);
        let kernel = *self.known.entry(key).or_insert(next);
        if kernel == next {
            let mut new = traced.kernel;
            new.name = format!("{}_{next}", self.name);
            new.origin = origin.clone();
            self.kernels.push(new);
        }
        let flops = nodes.iter().map(|n| self.flops(n)).sum();
        let info = |node: &&Node| self.context.graph.values[node.results[0].index()].span;
        let places = nodes.iter().filter_map(info).collect();
        let (arguments, turns) = (traced.arguments, traced.turns);
        Unit::Launch(Launch { kernel, arguments, turns, flops, origin, places })
    }

    fn flops(&self, node: &Node) -> u64 {
        let graph = self.context.graph;
        let operands: Vec<_> = node.operands.iter().map(|v| graph.ty(*v)).collect();
        let results: Vec<_> = node.results.iter().map(|v| graph.ty(*v)).collect();
        (gigac_ir::ops::def(&node.op).flops)(&node.op, graph, &operands, &results)
    }

    /// Names of the values computed, or what operation computes them.
    fn origin(&self, nodes: &[&Node]) -> String {
        let name = |node: &&Node| {
            let info = &self.context.graph.values[node.results[0].index()];
            info.name.clone().unwrap_or_else(|| gigac_ir::ops::def(&node.op).name.to_owned())
        };
        nodes.iter().map(name).collect::<Vec<_>>().join(", ")
    }
}
