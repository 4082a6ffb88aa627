//! Chunking: what is much larger than what it is computed from is never whole in memory.
//!
//! The logits of a language model have `tokens × vocabulary` elements, some sixteen times as many
//! as the hidden values that they are a product of, and live only until the cross-entropy and its
//! gradient have read them. The pass cuts the part of a region around such a product along one of
//! its token axes: a `repeat` over chunks computes the logits of a few tokens, their losses, and
//! their share of every gradient, before the next chunk overwrites them.
//!
//! ```text
//! logits = dot(h, head; D)                      repeat over chunks, carrying d_head:
//! lse    = logsumexp(logits; V)                   h' = chunk of h
//! ce     = lse - logits[V = targets]       →      logits' = dot(h', head; D)
//! p      = exp(logits - lse) - one_hot            lse', ce', p' of these tokens
//! d_h    = dot(p, head; V)                        d_head += dot(p', h'; tokens)
//! d_head = dot(p, h; B, T)                      ce, d_h: stacked chunks
//! ```
//! Nothing in it knows cross-entropy: any spelling is found, with soft-caps, z-losses, masks and
//! label smoothing, as long as along the axis every value is computed position by position or is
//! a sum. Unlike a fused kernel that computes logits once for the loss and again for the
//! gradient, a chunk computes them once (source of the idea: Liger kernel, arXiv:2410.10989, §3.2).
//!
//! What chunks of equal size leave over, fewer tokens than there are chunks, is computed behind them.
//!
//! Requires a verified joint graph. Sums along the axis are added chunk by chunk, so rounding
//! differs from the whole sum; which chunks there are depends on sizes alone.
//! O(nodes) time per product that expands its operand.

mod cut;

use gigac_ir::graph::{AxisId, Builder, DType, Graph, Node, Op, Region, ValueId};
use gigac_ir::ops::OpError;
use gigac_ir::pointwise::Pointwise;

use crate::pass::{Need, Pass, Report, Run, Scope};
use crate::rebuild::{Map, regions, repeat};
use cut::Cut;

/// The pass.
pub const CHUNK: Pass = Pass {
    name: "chunk",
    about: "what is much larger than what it is computed from is computed chunk by chunk",
    need: Need::Optional,
    scope: Scope::All,
    run: Run::Graph(|graph, context| match context.options.exact {
        true => (graph, Report::new().note("off: it adds in another order")),
        false => {
            let before = graph.axes.len();
            let graph = chunk(graph, &Limits::default());
            let axes = graph.axes[before..].iter().filter(|a| a.name.contains(".chunk"));
            let report =
                axes.fold(Report::new(), |r, a| r.note(format!("{} of {}", a.size, a.name)));
            (graph, report)
        }
    }),
};

/// When to cut, and how fine.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A product with fewer elements stays whole.
    pub least_elements: u64,
    /// A product is cut when it has this many times the elements of the operand that is cut.
    pub expansion: u64,
    /// Rows of the product in one chunk, at least: enough for fast products, and few enough
    /// chunks that adding to the sums costs little.
    pub least_rows: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { least_elements: 1 << 20, expansion: 4, least_rows: 512 }
    }
}

/// Cuts every region of a graph around its expanding products.
pub fn chunk(mut graph: Graph, limits: &Limits) -> Graph {
    // One cut of each region at a time: several heads have logits that nothing joins.
    loop {
        let axes = graph.axes.len();
        graph = regions(graph, &mut |b, from, map| region(b, from, map, limits));
        if graph.axes.len() == axes {
            return graph;
        }
    }
}

fn region(b: &mut Builder, from: &Region, map: &mut Map, limits: &Limits) -> Result<(), OpError> {
    let Some(cut) = cut::find(&b.graph, from, limits) else {
        return nodes(b, from.nodes.iter(), map, limits);
    };
    nodes(b, cut.outside(from, false), map, limits)?;
    Chunked { b, from, cut: &cut, map }.emit()?;
    nodes(b, cut.outside(from, true), map, limits)
}

/// Copies nodes, bodies of repeats cut in turn.
fn nodes<'r>(
    b: &mut Builder,
    nodes: impl Iterator<Item = &'r Node>,
    map: &mut Map,
    limits: &Limits,
) -> Result<(), OpError> {
    for node in nodes {
        if matches!(node.op, Op::Repeat { .. }) {
            repeat(b, node, map, &mut |b, body, map| region(b, body, map, limits))?;
            continue;
        }
        let operands: Vec<ValueId> = node.operands.iter().map(|v| map[v]).collect();
        let results = b.copy(node, &operands)?;
        map.extend(node.results.iter().copied().zip(results));
    }
    Ok(())
}

/// The cut part of a region as a repeat.
struct Chunked<'a> {
    b: &'a mut Builder,
    from: &'a Region,
    cut: &'a Cut,
    map: &'a mut Map,
}

/// Sums along the cut axis, and values that have it.
type Cuts = (Vec<ValueId>, Vec<ValueId>);

/// Where along the cut axis the positions of a piece begin.
#[derive(Clone, Copy)]
enum Start {
    /// At a turn of the repeat, times the positions of a chunk.
    Turn(ValueId),
    At(u64),
}

impl Chunked<'_> {
    fn emit(mut self) -> Result<(), OpError> {
        let axis = self.cut.axis;
        let sliced = self.cut.sliced(&self.b.graph, self.from);
        let operands: Vec<ValueId> = sliced.iter().map(|v| self.map[v]).collect();
        let equal = self.cut.chunks * self.cut.rows;
        let left = self.b.graph.size(axis) - equal;
        let (sums, values) = match left {
            0 => self.chunks(axis, &sliced, &operands)?,
            _ => {
                let name = self.b.graph.axes[axis.index()].name.clone();
                let ends = [(equal, 0), (left, equal)]
                    .map(|(size, start)| (self.b.graph.add_axis(&name, size), start));
                let [heads, tails] = ends.map(|(to, start)| self.part(&operands, to, start));
                let [(head, _), (tail, start)] = ends;
                let chunks = self.chunks(head, &sliced, &heads?)?;
                let rest = self.rest(tail, start, &sliced, &tails?)?;
                self.joined(chunks, rest, [head, tail])?
            }
        };
        self.map.extend(self.cut.sums.iter().copied().zip(sums));
        self.map.extend(self.cut.stacked.iter().copied().zip(values));
        Ok(())
    }

    /// The same positions of all operands, as an axis of their own.
    fn part(
        &mut self,
        operands: &[ValueId],
        to: AxisId,
        start: u64,
    ) -> Result<Vec<ValueId>, OpError> {
        let (axis, start) = (self.cut.axis, start as i64);
        let slice = Op::Slice { axis, to: Some(to), start, stride: 1 };
        operands.iter().map(|v| self.b.op(slice.clone(), &[*v])).collect()
    }

    /// The part in equal chunks of operands along an axis.
    fn chunks(
        &mut self,
        axis: AxisId,
        sliced: &[ValueId],
        operands: &[ValueId],
    ) -> Result<Cuts, OpError> {
        let name = self.b.graph.axes[self.cut.axis.index()].name.clone();
        let outer = self.b.graph.add_axis(&format!("{name}.chunk"), self.cut.chunks);
        let inner = self.b.graph.add_axis(&name, self.cut.rows);
        let split = Op::Split { from: axis, to: vec![outer, inner] };
        let stacked: Vec<ValueId> =
            operands.iter().map(|v| self.b.op(split.clone(), &[*v])).collect::<Result<_, _>>()?;
        let sums: Vec<ValueId> = self.cut.sums.clone();
        let zeros: Vec<ValueId> = sums.iter().map(|v| self.zero(*v)).collect::<Result<_, _>>()?;

        let args = self.b.open_repeat(outer, &zeros, &stacked);
        let mut local = self.map.clone();
        local.extend(sliced.iter().copied().zip(args[1 + sums.len()..].iter().copied()));
        self.nodes(Start::Turn(args[0]), inner, &mut local)?;
        let mut next = Vec::new();
        for (value, sum) in sums.iter().zip(&args[1..]) {
            next.push(self.b.map(Pointwise::Add, &[*sum, local[value]])?);
        }
        let out: Vec<ValueId> = self.cut.stacked.iter().map(|v| local[v]).collect();
        let results = self.b.close_repeat((outer, false), &zeros, &stacked, &next, &out)?;

        let (totals, stacks) = results.split_at(sums.len());
        let whole = Op::Merge { from: vec![outer, inner], to: axis };
        let whole = stacks.iter().map(|stack| self.b.op(whole.clone(), &[*stack]));
        Ok((totals.to_vec(), whole.collect::<Result<_, _>>()?))
    }

    /// The part once, of operands along an axis whose positions begin at some of the cut one.
    fn rest(
        &mut self,
        axis: AxisId,
        start: u64,
        sliced: &[ValueId],
        operands: &[ValueId],
    ) -> Result<Cuts, OpError> {
        let mut local = self.map.clone();
        local.extend(sliced.iter().copied().zip(operands.iter().copied()));
        self.nodes(Start::At(start), axis, &mut local)?;
        let made = |values: &[ValueId]| values.iter().map(|v| local[v]).collect();
        Ok((made(&self.cut.sums), made(&self.cut.stacked)))
    }

    /// What the chunks give and what the rest gives, together.
    fn joined(&mut self, chunks: Cuts, rest: Cuts, pieces: [AxisId; 2]) -> Result<Cuts, OpError> {
        let sums = chunks.0.iter().zip(&rest.0);
        let sums = sums.map(|(a, b)| self.b.map(Pointwise::Add, &[*a, *b]));
        let sums = sums.collect::<Result<_, _>>()?;
        let cat = Op::Cat { pieces: pieces.map(Some).to_vec(), to: self.cut.axis };
        let values = chunks.1.iter().zip(&rest.1);
        let values = values.map(|(a, b)| self.b.op(cat.clone(), &[*a, *b]));
        Ok((sums, values.collect::<Result<_, _>>()?))
    }

    /// Zeros of a sum's shape.
    fn zero(&mut self, sum: ValueId) -> Result<ValueId, OpError> {
        let axes = self.b.ty(sum).axes.clone();
        let zero = self.b.real(0.0);
        self.b.op(Op::Broadcast { axes }, &[zero])
    }

    /// The nodes of a piece: the cut axis becomes that of the piece.
    fn nodes(&mut self, start: Start, axis: AxisId, local: &mut Map) -> Result<(), OpError> {
        for node in self.cut.nodes(self.from) {
            let operands: Vec<ValueId> = node.operands.iter().map(|v| local[v]).collect();
            let result = match &node.op {
                Op::Pos(_) => self.position(start, axis)?,
                op => {
                    let op = within(op, self.cut.axis, axis);
                    let copy =
                        Node { op, operands: vec![], results: node.results.clone(), region: None };
                    self.b.copy(&copy, &operands)?[0]
                }
            };
            local.insert(node.results[0], result);
        }
        Ok(())
    }

    /// Positions along the cut axis, for the positions of a piece.
    fn position(&mut self, start: Start, axis: AxisId) -> Result<ValueId, OpError> {
        let first = match start {
            Start::Turn(turn) => {
                let size = self.b.graph.size(axis) as i64;
                let size = self.b.int(size);
                self.b.map(Pointwise::Mul, &[turn, size])?
            }
            Start::At(first) => self.b.int(first as i64),
        };
        let place = self.b.op(Op::Pos(axis), &[])?;
        self.b.map(Pointwise::Add, &[first, place])
    }
}

/// An operation with the cut axis replaced where it lists axes.
fn within(op: &Op, axis: AxisId, inner: AxisId) -> Op {
    let swap = |axes: &[AxisId]| axes.iter().map(|a| if *a == axis { inner } else { *a }).collect();
    match op {
        Op::Reduce { op, axes } => Op::Reduce { op: *op, axes: swap(axes) },
        Op::Dot { axes } => Op::Dot { axes: swap(axes) },
        Op::Broadcast { axes } => Op::Broadcast { axes: swap(axes) },
        op => op.clone(),
    }
}

/// Whether sums of a type may be carried from chunk to chunk.
fn adds_up(dtype: DType) -> bool {
    dtype == DType::F32
}
