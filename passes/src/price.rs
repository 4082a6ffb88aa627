//! The price of a model: floating-point operations for each token, by the field's formulas.
//!
//! Derived from the graph, so that they hold for any architecture: products with a parameter cost
//! 2 operations per multiply-add forward and twice that backward; products of activations are
//! attention, of which the causal half counts as useful.

use std::collections::HashMap;

use gigac_ir::graph::{Feed, Graph, Node, Op, Region, ValueId};
use gigac_ir::ops;

/// Operations for each token of a training step, forward and backward.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// `6N + 12·layers·d·T`, N all parameters: nothing is left out of attention.
    pub flops_per_token: f64,
    /// `6·(parameters used in products) + 6·layers·d·T`: the causal half, no recomputation.
    pub model_flops_per_token: f64,
}

/// The price of a forward graph.
pub fn price(forward: &Graph) -> Price {
    let mut walk = Walk { graph: forward, weight: HashMap::new(), weights: 0, activations: 0 };
    walk.region(&forward.root, 1);
    let data = |i: &&gigac_ir::graph::Input| i.feed == Feed::Data;
    let tokens = forward.inputs.iter().find(|i| i.name == "tokens");
    let tokens = tokens.or_else(|| forward.inputs.iter().find(data));
    let tokens = tokens.map_or(1, |i| forward.elements(&i.ty.axes)) as f64;
    let attention = 3.0 * walk.activations as f64 / tokens;
    Price {
        flops_per_token: 6.0 * forward.parameter_count() as f64 + attention,
        model_flops_per_token: 3.0 * walk.weights as f64 / tokens + attention / 2.0,
    }
}

struct Walk<'g> {
    graph: &'g Graph,
    /// Whether a value is made of parameters and constants alone.
    weight: HashMap<ValueId, bool>,
    /// Forward operations of products with a weight.
    weights: u128,
    /// Forward operations of products of activations.
    activations: u128,
}

impl Walk<'_> {
    fn region(&mut self, region: &Region, turns: u64) {
        for node in &region.nodes {
            if let (Op::Repeat { axis, carried, .. }, Some(body)) = (&node.op, &node.region) {
                self.weight.insert(body.args[0], true);
                for (i, (arg, operand)) in body.args[1..].iter().zip(&node.operands).enumerate() {
                    let weight = i >= *carried as usize && self.is_weight(*operand);
                    self.weight.insert(*arg, weight);
                }
                self.region(body, turns * self.graph.size(*axis));
                self.weight.extend(node.results.iter().map(|r| (*r, false)));
            } else {
                self.node(node, turns);
            }
        }
    }

    fn node(&mut self, node: &Node, turns: u64) {
        // What a gather reads decides, not where.
        let sources = if matches!(node.op, Op::Gather { .. }) { 1 } else { node.operands.len() };
        let weights = node.operands[..sources].iter().all(|v| self.is_weight(*v));
        let weight = weights && !matches!(node.op, Op::Input(_) | Op::Noise { .. });
        self.weight.extend(node.results.iter().map(|r| (*r, weight)));
        let types: Vec<_> = node.operands.iter().map(|v| self.graph.ty(*v)).collect();
        let flops = match &node.op {
            Op::Dot { axes } if !axes.is_empty() => {
                (ops::def(&node.op).flops)(&node.op, self.graph, &types, &[])
            }
            Op::Attend { .. } => {
                ops::attend::Parts::new(&node.op, &types).product_flops(self.graph)
            }
            _ => return,
        };
        let flops = u128::from(flops) * u128::from(turns);
        if node.operands.iter().any(|v| self.is_weight(*v)) {
            self.weights += flops;
        } else {
            self.activations += flops;
        }
    }

    fn is_weight(&self, value: ValueId) -> bool {
        self.weight.get(&value).copied().unwrap_or(false)
    }
}
