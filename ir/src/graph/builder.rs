//! Builds graphs: infers types, folds constants and gives equal pure nodes one value.

use std::collections::HashMap;

use super::{Bits, DType, Graph, Node, Op, Region, Role, Span, Type, ValueId, ValueInfo};
use crate::ops::{self, OpError};
use crate::pointwise::Pointwise;

/// A region being filled.
#[derive(Default)]
struct Open {
    region: Region,
    memo: HashMap<(Op, Vec<ValueId>), Vec<ValueId>>,
    /// Reads nothing of the regions around it.
    closed: bool,
}

impl Open {
    fn new(args: &[ValueId], closed: bool) -> Self {
        let region = Region { args: args.to_vec(), ..Region::default() };
        Self { region, memo: HashMap::new(), closed }
    }
}

/// Builds a graph region by region.
///
/// ```
/// use gigac_ir::graph::{Builder, Graph, Op, Role};
/// use gigac_ir::pointwise::Pointwise;
///
/// let mut b = Builder::new(Graph::new("square"));
/// let t = b.graph.add_axis("T", 4);
/// let x = b.op(Op::Pos(t), &[]).unwrap();
/// let y = b.op(Op::Pointwise(Pointwise::Mul), &[x, x]).unwrap();
/// b.result(Role::Output("y".into()), y);
/// assert_eq!(b.finish().root.nodes.len(), 2);
/// ```
pub struct Builder {
    /// The graph so far. Nodes of open regions are not in it yet.
    pub graph: Graph,
    /// The span given to values made from now on.
    pub span: Option<Span>,
    open: Vec<Open>,
    constants: HashMap<ValueId, f64>,
}

impl Builder {
    /// Continues a graph: nodes are added at the end of its root region.
    pub fn new(mut graph: Graph) -> Self {
        let mut root = Open { region: std::mem::take(&mut graph.root), ..Open::default() };
        let mut constants = HashMap::new();
        for node in &root.region.nodes {
            if node.region.is_none() {
                root.memo.insert((node.op.clone(), node.operands.clone()), node.results.clone());
            }
            if let Some(x) = constant(&node.op) {
                constants.insert(node.results[0], x);
            }
        }
        Self { graph, span: None, open: vec![root], constants }
    }

    /// A fresh value without a definition (an argument of a region).
    pub fn value(&mut self, ty: Type) -> ValueId {
        self.graph.values.push(ValueInfo { ty, name: None, span: self.span });
        ValueId(self.graph.values.len() as u32 - 1)
    }

    /// Type of a value.
    pub fn ty(&self, value: ValueId) -> &Type {
        self.graph.ty(value)
    }

    /// Adds a node with any number of results.
    ///
    /// # Errors
    /// When the operation does not fit its operands.
    pub fn ops(&mut self, op: Op, operands: &[ValueId]) -> Result<Vec<ValueId>, OpError> {
        let key = (op, operands.to_vec());
        if let Some(known) = self.known(&key) {
            return Ok(known.clone());
        }
        let (op, operands) = key;
        let types: Vec<Type> = operands.iter().map(|v| self.ty(*v).clone()).collect();
        let types: Vec<&Type> = types.iter().collect();
        let inferred = ops::infer(&op, &self.graph, &types)?;
        let results: Vec<ValueId> = inferred.into_iter().map(|ty| self.value(ty)).collect();
        if let Some(x) = constant(&op) {
            self.constants.insert(results[0], x);
        }
        let top = self.top();
        top.memo.insert((op.clone(), operands.clone()), results.clone());
        top.region.nodes.push(Node { op, operands, results: results.clone(), region: None });
        Ok(results)
    }

    /// The results of an equal node that the open region may read.
    fn known(&self, key: &(Op, Vec<ValueId>)) -> Option<&Vec<ValueId>> {
        let outermost = self.open.iter().rposition(|o| o.closed).unwrap_or(0);
        self.open[outermost..].iter().rev().find_map(|o| o.memo.get(key))
    }

    /// Adds a node with one result. Pointwise functions of constants are folded.
    ///
    /// # Errors
    /// When the operation does not fit its operands.
    pub fn op(&mut self, op: Op, operands: &[ValueId]) -> Result<ValueId, OpError> {
        if let Op::Pointwise(function) = op
            && let Some(folded) = self.fold(function, operands)
        {
            return self.op(folded, &[]);
        }
        Ok(self.ops(op, operands)?[0])
    }

    /// The pointwise function of constants as a constant.
    fn fold(&self, function: Pointwise, operands: &[ValueId]) -> Option<Op> {
        let constants = operands.iter().map(|v| self.constant(*v)).collect::<Option<Vec<f64>>>()?;
        let types: Vec<&Type> = operands.iter().map(|v| self.ty(*v)).collect();
        let ty = ops::infer(&Op::Pointwise(function), &self.graph, &types).ok()?.pop()?;
        let value = (function.def().eval)(&constants);
        Some(match ty.dtype {
            DType::Bool => Op::Bool(value != 0.0),
            DType::Int { .. } => Op::Int(value as i64),
            DType::F32 | DType::Bf16 => Op::Real(Bits::from(value)),
        })
    }

    /// The value of a constant scalar.
    pub fn constant(&self, value: ValueId) -> Option<f64> {
        self.constants.get(&value).copied()
    }

    /// A real constant.
    pub fn real(&mut self, x: f64) -> ValueId {
        self.op(Op::Real(x.into()), &[]).expect("a constant has no operands")
    }

    /// An int constant.
    pub fn int(&mut self, i: i64) -> ValueId {
        self.op(Op::Int(i), &[]).expect("a constant has no operands")
    }

    /// A pointwise function.
    ///
    /// # Errors
    /// When the operands' types do not fit it.
    pub fn map(&mut self, function: Pointwise, operands: &[ValueId]) -> Result<ValueId, OpError> {
        self.op(Op::Pointwise(function), operands)
    }

    /// Names a value, for people.
    pub fn name(&mut self, value: ValueId, name: &str) {
        self.graph.values[value.index()].name.get_or_insert_with(|| name.to_owned());
    }

    /// Opens the body of a repeat; its arguments are the turn, the carried values and the slices
    /// of the stacked values.
    pub fn open_repeat(
        &mut self,
        axis: super::AxisId,
        carried: &[ValueId],
        stacked: &[ValueId],
    ) -> Vec<ValueId> {
        let size = self.graph.size(axis) as i64;
        let mut types = vec![Type { dtype: DType::Int { lo: 0, hi: size.max(1) }, axes: vec![] }];
        types.extend(carried.iter().map(|v| self.ty(*v).clone()));
        types.extend(stacked.iter().map(|v| {
            let ty = self.ty(*v);
            let axes = ty.axes.iter().copied().filter(|a| *a != axis).collect();
            Type { dtype: ty.dtype, axes }
        }));
        let args: Vec<ValueId> = types.into_iter().map(|ty| self.value(ty)).collect();
        self.open.push(Open::new(&args, false));
        args
    }

    /// Closes the innermost region and adds its repeat. `next` are the carried results, `stack`
    /// the slices of stacked results. Gives the node's results.
    ///
    /// # Errors
    /// When the carried values change type.
    pub fn close_repeat(
        &mut self,
        (axis, reversed): (super::AxisId, bool),
        carried: &[ValueId],
        stacked: &[ValueId],
        next: &[ValueId],
        stack: &[ValueId],
    ) -> Result<Vec<ValueId>, OpError> {
        let mut open = self.open.pop().expect("close_repeat follows open_repeat");
        open.region.results = next.iter().chain(stack).copied().collect();
        let op = Op::Repeat { axis, reversed, carried: carried.len() as u32 };
        let operands: Vec<ValueId> = carried.iter().chain(stacked).copied().collect();
        let types = ops::repeat::results(&op, &self.graph, &operands, &open.region)?;
        let results: Vec<ValueId> = types.into_iter().map(|ty| self.value(ty)).collect();
        let node = Node { op, operands, results: results.clone(), region: Some(open.region) };
        self.top().region.nodes.push(node);
        Ok(results)
    }

    /// Opens the score function of attention over the given operands; its arguments are the raw
    /// product, the cotangent of the score for a gradient, and the captured values.
    ///
    /// # Errors
    /// When the operation does not fit its operands.
    pub fn open_score(&mut self, op: &Op, operands: &[ValueId]) -> Result<Vec<ValueId>, OpError> {
        let types: Vec<&Type> = operands.iter().map(|v| self.ty(*v)).collect();
        let types = ops::attend::arguments(op, &self.graph, &types)?;
        let args: Vec<ValueId> = types.into_iter().map(|ty| self.value(ty)).collect();
        self.open.push(Open::new(&args, true));
        Ok(args)
    }

    /// Closes the innermost region and adds its attention. Gives the node's results.
    ///
    /// # Errors
    /// When the region is not a score function of the operation.
    pub fn close_score(
        &mut self,
        op: Op,
        operands: &[ValueId],
        results: &[ValueId],
    ) -> Result<Vec<ValueId>, OpError> {
        let mut open = self.open.pop().expect("close_score follows open_score");
        open.region.results = results.to_vec();
        let types: Vec<&Type> = operands.iter().map(|v| self.ty(*v)).collect();
        let types = ops::attend::results(&op, &self.graph, &types, &open.region)?;
        let results: Vec<ValueId> = types.into_iter().map(|ty| self.value(ty)).collect();
        let (operands, region) = (operands.to_vec(), Some(open.region));
        self.top().region.nodes.push(Node { op, operands, results: results.clone(), region });
        Ok(results)
    }

    /// Copies nodes of a region into the open one, all that can be computed from the values in
    /// `map` and are not in it yet, and adds their results to it. Gives the copies.
    ///
    /// # Errors
    /// When an operation does not fit what its operands are mapped to.
    pub fn inline(
        &mut self,
        region: &Region,
        map: &mut HashMap<ValueId, ValueId>,
    ) -> Result<Vec<Node>, OpError> {
        let mut copies = Vec::new();
        for node in &region.nodes {
            let operands = node.operands.iter().map(|v| map.get(v).copied());
            let Some(operands) = operands.collect::<Option<Vec<ValueId>>>() else { continue };
            if node.results.iter().any(|v| map.contains_key(v)) {
                continue;
            }
            let results = self.ops(node.op.clone(), &operands)?;
            map.extend(node.results.iter().copied().zip(results.iter().copied()));
            copies.push(Node { op: node.op.clone(), operands, results, region: None });
        }
        Ok(copies)
    }

    /// Adds a node like one of another graph, whose operands have been mapped already, with its
    /// score function when it is attention; bodies of repeats are the caller's business.
    ///
    /// # Errors
    /// When the operation does not fit its operands.
    pub fn like(&mut self, node: &Node, operands: &[ValueId]) -> Result<Vec<ValueId>, OpError> {
        let (Op::Attend { .. } | Op::AttendGrad { .. }, Some(score)) = (&node.op, &node.region)
        else {
            return self.ops(node.op.clone(), operands);
        };
        let args = self.open_score(&node.op, operands)?;
        let mut map = score.args.iter().copied().zip(args).collect();
        self.inline(score, &mut map)?;
        let results: Vec<ValueId> = score.results.iter().map(|v| map[v]).collect();
        self.close_score(node.op.clone(), operands, &results)
    }

    /// Adds a copy of a node of this graph, with its results' names, as [`Builder::like`] does.
    ///
    /// # Errors
    /// When the operation does not fit its operands.
    pub fn copy(&mut self, node: &Node, operands: &[ValueId]) -> Result<Vec<ValueId>, OpError> {
        let results = self.like(node, operands)?;
        for (old, new) in node.results.iter().zip(&results) {
            let old = self.graph.values.get(old.index()).map(|i| (i.name.clone(), i.span));
            if let Some((name, span)) = old {
                let info = &mut self.graph.values[new.index()];
                info.name = info.name.take().or(name);
                info.span = info.span.or(span);
            }
        }
        Ok(results)
    }

    /// Declares a result of the root.
    pub fn result(&mut self, role: Role, value: ValueId) {
        self.open[0].region.results.push(value);
        self.graph.roles.push(role);
    }

    /// The result with a role that has been declared.
    ///
    /// # Panics
    /// When there is none.
    pub fn result_value(&self, role: &Role) -> ValueId {
        let index = self.graph.roles.iter().position(|r| r == role);
        self.open[0].region.results[index.expect("the role has been declared")]
    }

    /// The finished graph.
    pub fn finish(mut self) -> Graph {
        assert_eq!(self.open.len(), 1, "a region was opened and not closed");
        self.graph.root = self.open.pop().expect("the root is open").region;
        self.graph
    }

    fn top(&mut self) -> &mut Open {
        self.open.last_mut().expect("the root is open")
    }
}

/// The number that a constant operation stands for.
fn constant(op: &Op) -> Option<f64> {
    match *op {
        Op::Real(bits) => Some(bits.get()),
        Op::Int(i) => Some(i as f64),
        Op::Bool(b) => Some(f64::from(b)),
        _ => None,
    }
}
