//! Products with few tiles and long sums become two kernels, so that the multiprocessors of a GPU can
//! share them out: pieces of the contracted axis are multiplied by themselves, then added.
//!
//! ```text
//! %2: f32[F, D] = dot[T] %0, %1           %2 = split[T -> T.pieces*T.piece] %0
//!                                    →    %3 = split[T -> T.pieces*T.piece] %1
//!                                         %4: f32[T.pieces, F, D] = dot[T.piece] %2, %3
//!                                         %5: f32[F, D] = reduce[sum: T.pieces] %4
//! ```
//! The partial sums are f32 and are added in a fixed order: no atomics, the same bits on every run
//! (split-K; source of the idea: J. Thakur et al., CUTLASS, "Efficient GEMM", section
//! "Parallelized Reductions"). What follows the product joins the second kernel.
//!
//! Which products are split, and into how many pieces, is decided by the roofline of the device that the
//! plan is for: waves of tiles on its multiprocessors against one launch more and the way of the
//! partial sums through memory. On CPUs tiles are cut for the threads as it is.
//!
//! Requires a verified graph; preserves results but for the order of additions. O(nodes + products ·
//! divisors of their axes) time.

use std::collections::{BTreeSet, HashMap, HashSet};

use gigac_cost::target::{Device, Kind};
use gigac_cost::time::time;
use gigac_cost::work::{Product, Work};
use gigac_ir::graph::{AxisId, Builder, DType, Graph, Node, Op, Region, ValueId};
use gigac_ir::kernel::{Reduction, Storage};
use gigac_ir::ops::OpError;

use crate::depth::repeated_axes;
use crate::options::Options;
use crate::pass::{Need, Pass, Report, Run, Scope};
use crate::rebuild::{Map, regions, repeat};

/// The pass.
pub const SPLIT_PRODUCTS: Pass = Pass {
    name: "split-products",
    about: "a product with few tiles and a long sum becomes several and their sum",
    need: Need::Optional,
    scope: Scope::All,
    run: Run::Graph(|graph, context| match context.options {
        Options { exact: true, .. } => (graph, Report::new().note("off: it adds in another order")),
        options if options.device().kind == Kind::Gpu => run(graph, options),
        _ => (graph, Report::new().note("off: for GPUs")),
    }),
};

/// Shortest sums of a piece: the main loop is then much longer than what stands around it.
const LEAST_DEPTH: u64 = 256;

/// Most pieces: what adds them up reads so many numbers for each that it writes.
const MOST_PIECES: u64 = 64;

/// A split must take at most this share of the time that the product takes whole.
const WORTH: f64 = 0.9;

fn run(graph: Graph, options: &Options) -> (Graph, Report) {
    let depth = repeated_axes(&graph.root);
    let mut split = Splitting { options, depth, axes: HashMap::new(), products: 0 };
    let graph = regions(graph, &mut |b, from, map| split.region(b, from, map));
    (graph, Report::new().count(split.products, "products in pieces"))
}

struct Splitting<'o> {
    options: &'o Options,
    /// Axes that repeats run over.
    depth: BTreeSet<AxisId>,
    /// The axes that an axis has become, by the number of pieces: products that share an operand read the same pieces
    /// of it.
    axes: HashMap<(AxisId, u64), [AxisId; 2]>,
    products: usize,
}

/// What a region knows of its values in the new graph.
#[derive(Default)]
struct Known {
    /// Values that a gather makes, or what only renames or computes on it: products read through it.
    gathered: HashSet<ValueId>,
    /// Values by what was split and the axes that it got.
    pieces: HashMap<(ValueId, AxisId), ValueId>,
}

impl Splitting<'_> {
    fn region(&mut self, b: &mut Builder, from: &Region, map: &mut Map) -> Result<(), OpError> {
        let mut known = Known::default();
        for node in &from.nodes {
            if matches!(node.op, Op::Repeat { .. }) {
                repeat(b, node, map, &mut |b, body, map| self.region(b, body, map))?;
                continue;
            }
            let operands: Vec<ValueId> = node.operands.iter().map(|v| map[v]).collect();
            b.span = b.graph.values[node.results[0].index()].span;
            let results = match self.product(b, node, &operands, &mut known)? {
                Some(result) => vec![result],
                None => b.copy(node, &operands)?,
            };
            let through = match node.op {
                Op::Gather { .. } => true,
                Op::Rename { .. }
                | Op::Split { .. }
                | Op::Merge { .. }
                | Op::Slice { .. }
                | Op::Pad { .. }
                | Op::Broadcast { .. }
                | Op::Cast(_)
                | Op::Pointwise(_) => operands.iter().any(|v| known.gathered.contains(v)),
                _ => false,
            };
            if through {
                known.gathered.extend(&results);
            }
            map.extend(node.results.iter().copied().zip(results));
        }
        Ok(())
    }

    /// A product as the sum of its pieces, when that is faster.
    fn product(
        &mut self,
        b: &mut Builder,
        node: &Node,
        operands: &[ValueId],
        known: &mut Known,
    ) -> Result<Option<ValueId>, OpError> {
        let Op::Dot { axes } = &node.op else { return Ok(None) };
        if operands.iter().any(|v| known.gathered.contains(v)) {
            return Ok(None);
        }
        let Some((axis, pieces)) = self.choice(&b.graph, axes, operands) else { return Ok(None) };
        let whole = b.graph.size(axis) == pieces;
        let [outer, inner] = if whole { [axis, axis] } else { self.split(b, axis, pieces) };
        let mut split = Vec::new();
        for operand in operands {
            split.push(match known.pieces.get(&(*operand, outer)) {
                _ if whole => *operand,
                Some(value) => *value,
                None => b.op(Op::Split { from: axis, to: vec![outer, inner] }, &[*operand])?,
            });
            known.pieces.insert((*operand, outer), split[split.len() - 1]);
        }
        let rest = axes.iter().filter(|a| **a != axis).copied();
        let rest = if whole { rest.collect() } else { rest.chain([inner]).collect() };
        let part = b.op(Op::Dot { axes: rest }, &split)?;
        let sum = b.op(Op::Reduce { op: Reduction::Sum, axes: vec![outer] }, &[part])?;
        let name = b.graph.values[node.results[0].index()].name.clone();
        b.graph.values[sum.index()].name = name;
        self.products += 1;
        Ok(Some(sum))
    }

    /// The axes of the pieces and of one piece.
    fn split(&mut self, b: &mut Builder, axis: AxisId, pieces: u64) -> [AxisId; 2] {
        *self.axes.entry((axis, pieces)).or_insert_with(|| {
            let (name, size) = (b.graph.axes[axis.index()].name.clone(), b.graph.size(axis));
            let outer = b.graph.add_axis(&format!("{name}.pieces"), pieces);
            [outer, b.graph.add_axis(&format!("{name}.piece"), size / pieces)]
        })
    }

    /// The axis to split and the number of pieces, when the product is worth splitting: the fastest, and of
    /// equals the fewest.
    fn choice(&self, graph: &Graph, axes: &[AxisId], of: &[ValueId]) -> Option<(AxisId, u64)> {
        let types = [0, 1].map(|i| graph.ty(of[i]));
        if types.iter().flat_map(|t| &t.axes).any(|a| self.depth.contains(a)) {
            return None;
        }
        let size = |of: usize, shared: bool| -> u64 {
            let kept = types[of].axes.iter().filter(|a| !axes.contains(a));
            kept.filter(|a| types[1 - of].has(**a) == shared).map(|a| graph.size(*a)).product()
        };
        let shape = Shape {
            batch: size(0, true),
            sides: [size(0, false), size(1, false)],
            depth: graph.elements(axes),
            bf16: types.iter().all(|t| t.dtype == DType::Bf16),
        };
        let device = self.options.device();
        let whole = shape.seconds(1, device);
        let sizes = axes.iter().flat_map(|axis| {
            let size = graph.size(*axis);
            let most = MOST_PIECES.min(size).min(shape.depth / LEAST_DEPTH);
            (2..=most).filter(move |n| size.is_multiple_of(*n)).map(move |n| (*axis, n))
        });
        let timed = sizes.map(|(axis, n)| (shape.seconds(n, device), n, axis));
        let best = timed.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)))?;
        (best.0 <= WORTH * whole).then_some((best.2, best.1))
    }
}

/// The sizes of a product.
struct Shape {
    batch: u64,
    sides: [u64; 2],
    depth: u64,
    bf16: bool,
}

impl Shape {
    /// Seconds of the product in so many pieces, with what adds them up.
    fn seconds(&self, pieces: u64, device: &Device) -> f64 {
        let Self { sides: [rows, cols], bf16, .. } = *self;
        let machine = device.machine();
        let (batch, depth) = (self.batch * pieces, self.depth / pieces);
        let tiles = machine.products(batch, [rows, cols], [1, 1], &[depth], bf16)[0];
        let storage = if bf16 { Storage::Bf16 } else { Storage::F32 };
        let points = batch * rows.div_ceil(tiles.rows) * cols.div_ceil(tiles.cols);
        let read = |lines: u64, count: u64| (count * lines * depth * storage.bytes()) as f64;
        let result = (self.batch * rows * cols * Storage::F32.bytes()) as f64;
        let written = pieces as f64 * result;
        let tile = [tiles.rows, tiles.cols];
        let loads = [true; 2];
        let product = Product { batch, rows, cols, depth, tile, storage, share: 1.0, loads };
        let product = Work {
            products: vec![product],
            vector: 0.0,
            read: read(rows + cols, batch),
            written,
            moved: read(tiles.rows + tiles.cols, points) + written,
            points,
        };
        let product = time(&product, device).seconds;
        if pieces == 1 {
            return product;
        }
        let region = machine.regions();
        let elements = self.batch * rows * cols;
        let sum = Work {
            products: Vec::new(),
            vector: (pieces * elements) as f64,
            read: written,
            written: result,
            moved: written + result,
            points: elements.div_ceil(region.vector),
        };
        product + time(&sum, device).seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(rows: u64, cols: u64, depth: u64) -> u64 {
        let text = format!(
            "graph product {{\n  axes M = {rows}, N = {cols}, K = {depth}\n  param x[M, K] = 1.0\n  \
             param w[N, K] = 1.0\n  %0 = param[x]\n  %1 = param[w]\n  %2 = cast[bf16] %0\n  \
             %3 = cast[bf16] %1\n  %4 = dot[K] %2, %3\n  result output y = %4\n}}\n"
        );
        let graph = Graph::parse(&text).unwrap_or_else(|e| panic!("{}: {}", e.line, e.message));
        let mut options = Options::default();
        options.aim(&Device::named("a100").expect("a device of the list"));
        let (graph, _) = run(graph, &options);
        let pieces = graph.axes.iter().find(|a| a.name == "K.pieces");
        pieces.map_or(1, |axis| axis.size)
    }

    /// The table of `docs/passes/split-products.md`, in microseconds.
    #[test]
    fn pieces_take_less_time() {
        let device = Device::named("a100").expect("a device of the list");
        for (sides, depth, pieces, whole, split) in [
            ([256, 256], 8192, 4, 28.7, 11.4),
            ([512, 256], 8192, 8, 28.7, 16.6),
            ([128, 64], 65536, 16, 215.9, 18.8),
        ] {
            let shape = Shape { batch: 1, sides, depth, bf16: true };
            assert_eq!(chosen(sides[0], sides[1], depth), pieces, "{sides:?}");
            let of = |n| (shape.seconds(n, &device) * 1e7).round() / 10.0;
            assert_eq!([of(1), of(pieces)], [whole, split], "{sides:?}");
        }
    }

    #[test]
    fn what_fills_the_device_is_not_split() {
        assert_eq!(chosen(4096, 4096, 4096), 1);
        assert_eq!(chosen(1024, 2048, 8192), 1);
    }

    #[test]
    fn short_sums_are_not_worth_a_launch() {
        assert_eq!(chosen(256, 256, 512), 1);
    }
}
