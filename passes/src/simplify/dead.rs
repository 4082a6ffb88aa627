//! Dead values: removes every value that no result of the graph needs.
//!
//! Requires a well-formed graph. Preserves results and the order of nodes. Repeats lose stacked
//! results that nobody reads, operands that the body does not read, and carried values that only
//! feed themselves; attention loses captured values that its score does not need.

use gigac_ir::graph::{Graph, Node, Op, Region, ValueId};
use gigac_ir::ops::attend;

use super::nodes;
use crate::pass::{Need, Pass, Report, Run, Scope};

/// The pass.
pub const DEAD: Pass = Pass {
    name: "dead",
    about: "what no result needs goes",
    need: Need::Optional,
    scope: Scope::All,
    run: Run::Graph(|graph, _| {
        let before = nodes(&graph.root);
        let graph = dead(graph);
        let removed = before - nodes(&graph.root);
        (graph, Report::new().count(removed, "nodes removed"))
    }),
};

/// Removes dead values.
pub fn dead(mut graph: Graph) -> Graph {
    let mut live = Live { live: vec![false; graph.values.len()], changed: false };
    graph.root.results.iter().for_each(|v| live.mark(*v));
    live.region(&graph.root);
    sweep(&mut graph.root, &live);
    graph
}

struct Live {
    live: Vec<bool>,
    changed: bool,
}

impl Live {
    fn is(&self, value: ValueId) -> bool {
        self.live[value.index()]
    }

    fn mark(&mut self, value: ValueId) {
        self.changed |= !std::mem::replace(&mut self.live[value.index()], true);
    }

    /// Operands precede their users, so one backward walk reaches every live value; the arguments
    /// of a repeat, which follow its results in the next turn, need walks until nothing changes.
    fn region(&mut self, region: &Region) {
        for node in region.nodes.iter().rev() {
            if !node.results.iter().any(|v| self.is(*v)) {
                continue;
            }
            match (&node.op, &node.region) {
                (_, None) => node.operands.iter().for_each(|v| self.mark(*v)),
                (Op::Repeat { .. }, Some(body)) => self.repeat(node, body),
                (_, Some(score)) => self.attention(node, score),
            }
        }
    }

    fn attention(&mut self, node: &Node, score: &Region) {
        score.results.iter().for_each(|v| self.mark(*v));
        self.region(score);
        let fixed = attend::fixed(&node.op);
        node.operands[..fixed].iter().for_each(|v| self.mark(*v));
        let captured = score.args[attend::leading(&node.op)..].iter();
        for (operand, arg) in node.operands[fixed..].iter().zip(captured) {
            if self.is(*arg) {
                self.mark(*operand);
            }
        }
    }

    fn repeat(&mut self, node: &Node, body: &Region) {
        let carried = carried(node);
        let mut changed = std::mem::take(&mut self.changed);
        loop {
            for (i, result) in node.results.iter().enumerate() {
                let arg = (i < carried).then(|| body.args[1 + i]);
                if self.is(*result) || arg.is_some_and(|a| self.is(a)) {
                    self.mark(body.results[i]);
                    if let Some(arg) = arg {
                        self.mark(arg);
                        self.mark(*result);
                    }
                }
            }
            self.region(body);
            if !std::mem::take(&mut self.changed) {
                break;
            }
            changed = true;
        }
        self.changed = changed;
        for (operand, arg) in node.operands.iter().zip(&body.args[1..]) {
            if self.is(*arg) {
                self.mark(*operand);
            }
        }
    }
}

/// Number of carried values of a repeat.
fn carried(node: &Node) -> usize {
    match node.op {
        Op::Repeat { carried, .. } => carried as usize,
        _ => unreachable!("asked of repeats"),
    }
}

fn sweep(region: &mut Region, live: &Live) {
    region.nodes.retain(|node| node.results.iter().any(|v| live.is(*v)));
    for node in &mut region.nodes {
        match node.op {
            Op::Repeat { .. } => sweep_repeat(node, live),
            Op::Attend { .. } | Op::AttendGrad { .. } => sweep_attention(node, live),
            _ => {}
        }
    }
}

fn sweep_repeat(node: &mut Node, live: &Live) {
    let count = carried(node);
    let Some(body) = &mut node.region else { return };
    let operands: Vec<bool> = body.args[1..].iter().map(|v| live.is(*v)).collect();
    let results: Vec<bool> = node.results.iter().map(|v| live.is(*v)).collect();
    let turn = [true].into_iter().chain(operands.iter().copied()).collect::<Vec<_>>();
    keep(&mut body.args, &turn);
    keep(&mut node.operands, &operands);
    keep(&mut body.results, &results);
    keep(&mut node.results, &results);
    if let Op::Repeat { carried, .. } = &mut node.op {
        *carried = results[..count].iter().filter(|x| **x).count() as u32;
    }
    sweep(body, live);
}

fn sweep_attention(node: &mut Node, live: &Live) {
    let (fixed, leading) = (attend::fixed(&node.op), attend::leading(&node.op));
    let Some(score) = &mut node.region else { return };
    let captured: Vec<bool> = score.args[leading..].iter().map(|v| live.is(*v)).collect();
    let with = |n: usize| [vec![true; n], captured.clone()].concat();
    keep(&mut score.args, &with(leading));
    keep(&mut node.operands, &with(fixed));
    if let Op::AttendGrad { full, .. } = &mut node.op
        && *full
        && !live.is(node.results[3])
    {
        *full = false;
        node.results.truncate(3);
    }
    sweep(score, live);
}

fn keep(values: &mut Vec<ValueId>, mask: &[bool]) {
    let mut mask = mask.iter();
    values.retain(|_| *mask.next().expect("one flag per value"));
}
