//! The forward pass as a tape: a copy of the graph whose repeats return what the backward needs.

use std::collections::{HashMap, HashSet};

use gigac_ir::graph::{AxisId, Builder, Graph, InputId, Node, Op, ParamId, Region, ValueId};
use gigac_ir::pointwise::Pointwise;

use super::{map, must, operands};

/// A node of the copy, in a legal order.
pub(super) enum Taped {
    /// An operation.
    Node(Node),
    /// A repeat.
    Repeat(Loop),
}

/// A repeat of the copy.
pub(super) struct Loop {
    pub(super) axis: AxisId,
    pub(super) reversed: bool,
    /// Operands: initial values of carried values.
    pub(super) inits: Vec<ValueId>,
    /// Operands: stacked values.
    pub(super) stacked: Vec<ValueId>,
    /// Arguments of the body: turn, carried values, slices.
    pub(super) args: Vec<ValueId>,
    pub(super) body: Vec<Taped>,
    /// Results of the body: next carried values.
    pub(super) next: Vec<ValueId>,
    /// Results of the body: slices of stacked results.
    pub(super) stack: Vec<ValueId>,
    /// Results of the node, without those added for saved values.
    pub(super) results: Vec<ValueId>,
    /// Values of the body and the stacks that keep them.
    pub(super) saved: Vec<(ValueId, ValueId)>,
}

impl Loop {
    /// The carried values as the body sees them.
    pub(super) fn carried(&self) -> &[ValueId] {
        &self.args[1..=self.inits.len()]
    }

    /// The slices of stacked operands.
    pub(super) fn slices(&self) -> &[ValueId] {
        &self.args[1 + self.inits.len()..]
    }
}

/// Copies a graph into the region that is open.
pub(super) struct Copier {
    values: HashMap<ValueId, ValueId>,
    inputs: HashMap<InputId, ValueId>,
    /// The turn of the repeat over micro-batches and its number of turns.
    micro: Option<(ValueId, u64)>,
    /// What the tape defines already: equal nodes share one value.
    taped: HashSet<ValueId>,
}

impl Copier {
    /// A copy for the whole batch. Parameters are values already.
    pub(super) fn new(params: &[(ParamId, ValueId)]) -> Self {
        Self {
            values: HashMap::new(),
            inputs: HashMap::new(),
            micro: None,
            taped: params.iter().map(|(_, v)| *v).collect(),
        }
    }

    /// A copy for one micro-batch: inputs are slices, and noise depends on the turn.
    pub(super) fn micro(
        params: &[(ParamId, ValueId)],
        turn: ValueId,
        count: u64,
        inputs: impl Iterator<Item = (InputId, ValueId)>,
    ) -> Self {
        Self { inputs: inputs.collect(), micro: Some((turn, count)), ..Self::new(params) }
    }

    /// The tape of the root region and its results.
    pub(super) fn root(mut self, b: &mut Builder, graph: &Graph) -> (Vec<Taped>, Vec<ValueId>) {
        let tape = self.region(b, graph, &graph.root);
        let results = graph.root.results.iter().map(|v| self.values[v]).collect();
        (tape, results)
    }

    fn region(&mut self, b: &mut Builder, graph: &Graph, region: &Region) -> Vec<Taped> {
        let mut tape = Vec::new();
        for node in &region.nodes {
            let taped = match (&node.op, &node.region) {
                (Op::Input(input), _) if self.inputs.contains_key(input) => {
                    self.values.insert(node.results[0], self.inputs[input]);
                    continue;
                }
                (Op::Repeat { .. }, Some(body)) => Taped::Repeat(self.repeat(b, graph, node, body)),
                _ => Taped::Node(self.node(b, graph, node)),
            };
            if taped.results().iter().all(|v| self.taped.insert(*v)) {
                tape.push(taped);
            }
        }
        tape
    }

    fn node(&mut self, b: &mut Builder, graph: &Graph, node: &Node) -> Node {
        let mut operands = self.mapped(&node.operands);
        if let (Op::Noise { .. }, Some((turn, count))) = (&node.op, self.micro) {
            operands = noise_operands(b, operands, turn, count);
        }
        let results = must(b.like(node, &operands));
        self.define(b, graph, &node.results, &results);
        // A score function is closed, so it means the same in both graphs.
        Node { op: node.op.clone(), operands, results, region: node.region.clone() }
    }

    fn repeat(&mut self, b: &mut Builder, graph: &Graph, node: &Node, body: &Region) -> Loop {
        let Op::Repeat { axis, reversed, carried } = node.op else {
            unreachable!("called for repeats")
        };
        let carried = carried as usize;
        let operands = self.mapped(&node.operands);
        let (inits, stacked) = (operands[..carried].to_vec(), operands[carried..].to_vec());
        let args = b.open_repeat(axis, &inits, &stacked);
        self.define(b, graph, &body.args, &args);
        let tape = self.region(b, graph, body);
        let returned = self.mapped(&body.results);
        let (next, stack) = (returned[..carried].to_vec(), returned[carried..].to_vec());

        let mut keep: Vec<ValueId> = args[1..=carried].to_vec();
        keep.extend(tape.iter().flat_map(Taped::kept));
        keep.extend(operands::moved(&tape, &args));
        keep.retain(|v| !b.ty(*v).has(axis) && !stack.contains(v));
        let all: Vec<ValueId> = stack.iter().chain(&keep).copied().collect();
        let results = must(b.close_repeat((axis, reversed), &inits, &stacked, &next, &all));
        self.define(b, graph, &node.results, &results);
        let saved = all.into_iter().zip(results[carried..].iter().copied()).collect();
        let results = results[..carried + stack.len()].to_vec();
        Loop { axis, reversed, inits, stacked, args, body: tape, next, stack, results, saved }
    }

    fn mapped(&self, values: &[ValueId]) -> Vec<ValueId> {
        values.iter().map(|v| self.values[v]).collect()
    }

    fn define(&mut self, b: &mut Builder, graph: &Graph, old: &[ValueId], new: &[ValueId]) {
        for (old, new) in old.iter().zip(new) {
            self.values.insert(*old, *new);
            let known = &graph.values[old.index()];
            let info = &mut b.graph.values[new.index()];
            info.name = info.name.take().or_else(|| known.name.clone());
            info.span = info.span.or(known.span);
        }
    }
}

/// Adds the turn to the key of a noise. A key has four operands at most: the turn joins the last
/// one as its lower digit when all are taken.
fn noise_operands(
    b: &mut Builder,
    mut operands: Vec<ValueId>,
    turn: ValueId,
    count: u64,
) -> Vec<ValueId> {
    match operands.last() {
        Some(last) if operands.len() == 4 => {
            let count = b.int(count as i64);
            let high = map(b, Pointwise::Mul, &[*last, count]);
            operands[3] = map(b, Pointwise::Add, &[high, turn]);
        }
        _ => operands.push(turn),
    }
    operands
}

impl Taped {
    /// Values it defines in its region, without saved stacks.
    pub(super) fn results(&self) -> &[ValueId] {
        match self {
            Self::Node(node) => &node.results,
            Self::Repeat(repeat) => &repeat.results,
        }
    }

    /// What a backward body reads from stacks instead of computing it again: what sums over many
    /// elements, or has no other way back. Lookups are not kept, a second read costs what reading
    /// the stack would.
    pub(super) fn kept(&self) -> Vec<ValueId> {
        match self {
            Self::Repeat(repeat) => {
                let stacks = repeat.saved.iter().map(|(_, stack)| *stack);
                let own = repeat.results[..repeat.inits.len()].iter().copied();
                own.chain(stacks).collect()
            }
            Self::Node(node) => match node.op {
                Op::Dot { .. }
                | Op::Reduce { .. }
                | Op::Scatter { .. }
                | Op::Top { .. }
                | Op::Attend { .. } => node.results.clone(),
                _ => Vec::new(),
            },
        }
    }
}
