//! Roundings that a store does: what lies in memory as bf16 is rounded on its way there.
//!
//! A cast of attention's result that nothing else reads becomes that result, and casts of the pieces
//! of a concatenation that lies in memory as bf16 go. The other casts are computed like any pointwise
//! function, in the epilogue of a product where they follow one.

use std::collections::{HashMap, HashSet};

use gigac_ir::graph::{DType, Graph, Node, Op, Region, ValueId};

use super::defs::Defs;
use super::layout::count_uses;

/// Leaves out the casts that stores do. Attention may then have results of type bf16, and
/// concatenations that do may have pieces of f32.
pub(crate) fn absorb(mut graph: Graph) -> Graph {
    let mut casts = Casts::default();
    casts.find(&graph, &graph.root, &Defs::new(&graph), &count_uses(&graph.root));
    for (result, cast) in &casts.results {
        let name = graph.values[result.index()].name.clone();
        graph.values[cast.index()].name = name;
    }
    casts.leave_out(&mut graph.root);
    graph
}

/// The casts that stores do.
#[derive(Default)]
struct Casts {
    /// What they give, for results of attention that they round.
    results: HashMap<ValueId, ValueId>,
    /// What they round, for casts that are pieces.
    pieces: HashMap<ValueId, ValueId>,
    /// All of them.
    gone: HashSet<ValueId>,
}

impl Casts {
    fn find(
        &mut self,
        graph: &Graph,
        region: &Region,
        defs: &Defs<'_>,
        uses: &HashMap<ValueId, usize>,
    ) {
        let once = |v: &ValueId| uses.get(v) == Some(&1);
        for node in &region.nodes {
            match &node.op {
                Op::Cast(DType::Bf16) if once(&node.operands[0]) => {
                    let (rounded, cast) = (node.operands[0], node.results[0]);
                    if defs.node(rounded).is_some_and(|n| is_stored_once(n, rounded)) {
                        self.results.insert(rounded, cast);
                        self.gone.insert(cast);
                    }
                }
                Op::Cat { .. } if graph.ty(node.results[0]).dtype == DType::Bf16 => {
                    for piece in node.operands.iter().filter(|v| once(v)) {
                        if let Some(cast) = defs.node(*piece)
                            && matches!(cast.op, Op::Cast(_))
                            && self.gone.insert(*piece)
                        {
                            self.pieces.insert(*piece, cast.operands[0]);
                        }
                    }
                }
                _ => {}
            }
            if let Some(body) = &node.region {
                self.find(graph, body, defs, uses);
            }
        }
    }

    fn leave_out(&self, region: &mut Region) {
        region.nodes.retain(|node| !self.gone.contains(&node.results[0]));
        for node in &mut region.nodes {
            for result in &mut node.results {
                *result = self.results.get(result).copied().unwrap_or(*result);
            }
            if matches!(node.op, Op::Cat { .. }) {
                for piece in &mut node.operands {
                    *piece = self.pieces.get(piece).copied().unwrap_or(*piece);
                }
            }
            if let Some(body) = &mut node.region {
                self.leave_out(body);
            }
        }
    }
}

/// Whether a value is a result of attention that its kernel stores once; the gradient of the queries
/// may be added to in memory.
fn is_stored_once(node: &Node, value: ValueId) -> bool {
    match node.op {
        Op::Attend { .. } => true,
        Op::AttendGrad { .. } => node.results[0] != value,
        _ => false,
    }
}
