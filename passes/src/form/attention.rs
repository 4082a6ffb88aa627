//! Emits attention: one head and a tile of queries per grid point, a loop over tiles of keys.
//!
//! Forward, the loop carries the running maximum, the running sum and the output that is not yet
//! divided. Backward there are two forms. With enough heads to share out, one kernel takes every
//! pair of tiles once: keys outside, queries inside; the gradients of keys and values are carried,
//! that of the queries is added to in memory, in the order of keys. With few heads there are two,
//! one for the queries' gradient and one for the others, which split positions as well: seven
//! products instead of five. On GPUs it is always two, or three where a thread cannot hold the gradients of
//! keys and of values at once: eight products.
//!
//! What is multiplied by bf16 is rounded to bf16: probabilities, and cotangents of the raw product.
//!
//! Where the score is −∞ the turn of a pair of tiles changes nothing: the mask is read off the
//! score function, and stands in front of the turn as its `when`.
//!
//! Axes: a **batch** axis is one that `q`, `k` and `v` have, a **query** axis one that `q` alone
//! has. The largest query axis is tiled; all others have a grid point, or a turn, for each
//! position: so grouped queries need nothing of their own.
//!
//! Source: FlashAttention-2, arXiv:2307.08691, algorithms 1 and 2.

use gigac_ir::graph::{AxisId, DType, Graph, Node, Op, Region, Type, ValueId};
use gigac_ir::kernel::{
    AttentionKernel, AttentionTiles, Carry, Expr, Machine, Reduction, Scalar, Stmt, TileId, Var,
    VarId,
};
use gigac_ir::ops::attend::{Parts, factor, fixed, leading};
use gigac_ir::pointwise::Pointwise;

use super::defs::Def;
use super::nest::positions;
use super::trace::{Context, Positions, Traced, Tracer};

/// Widest rows of queries, keys and values that a tile holds.
const WIDEST: u64 = 512;

/// Fewest heads for the form with five products.
const HEADS: u64 = 4;

/// Whether kernels compute attention, or what it decomposes into: one query, one key or heads of
/// one element are matters of vectors, not of tiles.
pub(crate) fn has_kernels(graph: &Graph, node: &Node, machine: Machine) -> bool {
    let [q, k, v] = [0, 1, 2].map(|i| graph.ty(node.operands[i]));
    let types: Vec<&Type> = node.operands.iter().map(|x| graph.ty(*x)).collect();
    let parts = Parts::new(&node.op, &types);
    let fits = |a: &AxisId| q.has(*a) && k.has(*a) == v.has(*a);
    let tiled = |a: &AxisId| !k.has(*a) && graph.size(*a) > 1;
    let width = |axes: &[AxisId]| (2..=WIDEST).contains(&graph.elements(axes));
    let widest = graph.elements(&parts.inner).max(graph.elements(&parts.columns));
    let multiplied = if matches!(node.op, Op::Attend { .. }) { 3 } else { 4 };
    let bf16 = types[..multiplied].iter().all(|x| x.dtype == DType::Bf16);
    machine.has_attention(widest, bf16)
        && parts.rows.iter().all(fits)
        && parts.rows.iter().any(tiled)
        && graph.size(parts.keys) > 1
        && width(&parts.inner)
        && width(&parts.columns)
}

/// The kernels of an attention node.
pub(crate) fn emit(context: &Context<'_>, node: &Node) -> Vec<Traced> {
    use AttentionKernel::{Backward, Forward, Keys, Queries};
    let heads = |kernel| Heads::new(context, node, kernel);
    if let Op::Attend { .. } = node.op {
        return vec![heads(Forward).forward()];
    }
    let (whole, keys) = (heads(Backward), heads(Keys));
    if context.machine == Machine::Cpu && context.graph.elements(&whole.batch) >= HEADS {
        return vec![whole.backward()];
    }
    let mut kernels = vec![heads(Queries).backward_queries()];
    match context.machine.splits_keys(keys.width()) {
        true => kernels.extend([[true, false], [false, true]].map(|of| keys.backward_keys(of))),
        false => kernels.push(keys.backward_keys([true; 2])),
    }
    kernels
}

/// The axes of attention as variables.
struct Heads<'c, 'g> {
    context: &'c Context<'g>,
    node: &'c Node,
    score: &'c Region,
    batch: Vec<AxisId>,
    /// Query axes that are not tiled.
    queries: Vec<AxisId>,
    vars: Vec<Var>,
    t: VarId,
    s: VarId,
    c: VarId,
    e: VarId,
    /// Positions along the axes of queries, keys and the score.
    inner: Positions,
    /// Positions along the axes of values and the output.
    outer: Positions,
}

impl<'c, 'g> Heads<'c, 'g> {
    fn new(context: &'c Context<'g>, node: &'c Node, kernel: AttentionKernel) -> Self {
        let graph = context.graph;
        let types: Vec<&Type> = node.operands.iter().map(|v| graph.ty(*v)).collect();
        let parts = Parts::new(&node.op, &types);
        let by_memory = |value: ValueId, axes: &[AxisId]| -> Vec<AxisId> {
            let order = context.order(value);
            order.into_iter().filter(|a| axes.contains(a)).collect()
        };
        let rows = by_memory(node.operands[0], &parts.rows);
        let (batch, queries): (Vec<AxisId>, Vec<AxisId>) =
            rows.into_iter().partition(|a| types[1].has(*a));
        let tiled = queries.iter().copied().max_by_key(|a| graph.size(*a));
        let tiled = tiled.expect("`has_kernels` asks for a query axis");
        let queries: Vec<AxisId> = queries.into_iter().filter(|a| *a != tiled).collect();
        let inner = by_memory(node.operands[0], &parts.inner);
        let columns = by_memory(node.operands[2], &parts.columns);
        let extent = |axes: &[AxisId]| graph.elements(axes);
        let (t, s) = (graph.size(tiled), graph.size(parts.keys));
        let (c, e) = (extent(&inner), extent(&columns));
        let AttentionTiles { queries: tile_t, keys: tile_s } =
            context.machine.attention(kernel, [t, s], c.max(e));

        let single = |(i, a): (usize, &AxisId), name| Var {
            name: format!("{name}{i}"),
            extent: graph.size(*a),
            tile: 1,
        };
        let mut vars: Vec<Var> = batch.iter().enumerate().map(|x| single(x, "b")).collect();
        vars.extend(queries.iter().enumerate().map(|x| single(x, "r")));
        let first = vars.len() as u32;
        let whole = |n: u64| n.next_multiple_of(16);
        for (name, extent, tile) in
            [("t", t, tile_t), ("s", s, tile_s), ("c", c, whole(c)), ("e", e, whole(e))]
        {
            vars.push(Var { name: name.into(), extent, tile });
        }
        let [tv, sv, cv, ev] = [0, 1, 2, 3].map(|i| VarId(first + i));
        let mut groups: Vec<Vec<AxisId>> = batch.iter().chain(&queries).map(|a| vec![*a]).collect();
        groups.extend([vec![tiled], vec![parts.keys]]);
        let ids: Vec<VarId> = (0..first + 2).map(VarId).collect();
        let common = positions(context, &groups, &ids);
        let with = |axes: Vec<AxisId>, var| {
            let mut at = common.clone();
            at.extend(positions(context, &[axes], &[var]));
            at
        };
        let (inner, outer) = (with(inner, cv), with(columns, ev));
        let score = node.region.as_ref().expect("attention has a region");
        Self {
            context,
            node,
            score,
            batch,
            queries,
            vars,
            t: tv,
            s: sv,
            c: cv,
            e: ev,
            inner,
            outer,
        }
    }

    /// The widest of queries, keys and values.
    fn width(&self) -> u64 {
        [self.c, self.e].map(|v| self.vars[v.0 as usize].extent).into_iter().max().unwrap_or(0)
    }

    /// Whether an operand is bf16.
    fn is_narrow(&self, operand: usize) -> bool {
        self.context.graph.ty(self.node.operands[operand]).dtype == DType::Bf16
    }

    fn batch_vars(&self) -> Vec<VarId> {
        (0..self.batch.len() as u32).map(VarId).collect()
    }

    fn query_vars(&self) -> Vec<VarId> {
        let first = self.batch.len() as u32;
        (first..first + self.queries.len() as u32).map(VarId).collect()
    }

    /// All variables of rows, with some more.
    fn rows(&self, more: &[VarId]) -> Vec<VarId> {
        [&self.batch_vars()[..], &self.query_vars(), &[self.t], more].concat()
    }

    /// Variables of keys, with some more.
    fn keys(&self, more: &[VarId]) -> Vec<VarId> {
        [&self.batch_vars()[..], &[self.s], more].concat()
    }

    /// A kernel with a grid over the batch and some more, and the widths, which have one tile.
    fn kernel(&self, more: &[VarId]) -> Emit<'c, 'g, '_> {
        let grid = [&self.batch_vars()[..], more, &[self.c, self.e]].concat();
        Emit { tracer: Tracer::new(self.context, self.vars.clone(), grid), heads: self }
    }

    fn forward(&self) -> Traced {
        let grid = [&self.query_vars()[..], &[self.t]].concat();
        let mut emit = self.kernel(&grid);
        emit.forward();
        emit.tracer.finish()
    }

    fn backward(&self) -> Traced {
        let mut emit = self.kernel(&[]);
        emit.clear(
            self.node.results[0],
            &self.inner,
            &[&self.query_vars()[..], &[self.t]].concat(),
        );
        emit.clear_score();
        emit.keys_outside(true, [true; 2]);
        emit.tracer.finish()
    }

    fn backward_queries(&self) -> Traced {
        let grid = [&self.query_vars()[..], &[self.t]].concat();
        let mut emit = self.kernel(&grid);
        emit.queries_outside();
        emit.tracer.finish()
    }

    /// `of`: the gradients of keys, of values, or both.
    fn backward_keys(&self, of: [bool; 2]) -> Traced {
        let mut emit = self.kernel(&[self.s]);
        if of[0] {
            emit.clear_score();
        }
        emit.keys_outside(false, of);
        emit.tracer.finish()
    }
}

/// A kernel under construction.
struct Emit<'c, 'g, 'h> {
    tracer: Tracer<'c, 'g>,
    heads: &'h Heads<'c, 'g>,
}

/// What the backward computes of a pair of tiles.
struct Pair {
    q: TileId,
    k: TileId,
    dout: TileId,
    /// Probabilities, as they are multiplied.
    p: TileId,
    /// Cotangent of the raw product, as it is multiplied, where it is wanted.
    draw: Option<TileId>,
}

impl Emit<'_, '_, '_> {
    fn map(&mut self, function: Pointwise, operands: &[TileId]) -> TileId {
        let vars = self.tracer.union(operands);
        let scalar = match function {
            Pointwise::Gt => Scalar::Bool,
            _ => Scalar::F32,
        };
        // In the block at hand: operands may be carried.
        self.tracer.emit_here(Expr::Pointwise(function, operands.to_vec()), scalar, vars)
    }

    fn real(&mut self, x: f64) -> TileId {
        self.tracer.emit(Expr::Real(x), Scalar::F32, vec![])
    }

    fn dot(&mut self, a: TileId, b: TileId, along: VarId) -> TileId {
        let mut vars = self.tracer.union(&[a, b]);
        vars.retain(|v| *v != along);
        self.tracer.emit_here(Expr::Dot(a, b, along), Scalar::F32, vars)
    }

    fn reduce(&mut self, op: Reduction, x: TileId, along: VarId) -> TileId {
        let mut vars = self.tracer.ty(x).vars.clone();
        vars.retain(|v| *v != along);
        self.tracer.emit_here(Expr::Reduce(op, x, along), Scalar::F32, vars)
    }

    fn operand(&mut self, i: usize, at: &Positions) -> TileId {
        self.tracer.value(self.heads.node.operands[i], at, None)
    }

    /// A tile that varies along all variables of pairs, as products need it.
    fn whole(&mut self, x: TileId) -> TileId {
        let vars = self.heads.rows(&[self.heads.s]);
        if vars.iter().all(|v| self.tracer.ty(x).vars.contains(v)) {
            return x;
        }
        let one = self.tracer.emit_here(Expr::Real(1.0), Scalar::F32, sorted(vars));
        self.map(Pointwise::Mul, &[x, one])
    }

    /// A factor of products as it is multiplied: rounded where the other one is bf16.
    fn factor(&mut self, x: TileId, number: usize) -> TileId {
        let by = factor(&self.heads.node.op, number);
        if self.heads.is_narrow(by) { self.map(Pointwise::Bf16, &[x]) } else { x }
    }

    /// Gives the score function its captured values.
    fn capture(&mut self) {
        let heads = self.heads;
        let (fixed, leading) = (fixed(&heads.node.op), leading(&heads.node.op));
        let captured = heads.node.operands[fixed..].iter().zip(&heads.score.args[leading..]);
        for (operand, arg) in captured {
            let tile = self.tracer.value(*operand, &heads.inner, None);
            self.tracer.computed.insert(*arg, tile);
        }
    }

    /// Begins a turn for a pair of tiles: nothing of it counts where the score is −∞.
    fn when_seen(&mut self) {
        self.capture();
        if let Some(mask) = self.seen(self.heads.score.results[0]) {
            self.tracer.push(Stmt::When(mask));
        }
    }

    /// Where a score is not −∞, for sure; nothing when it may be anywhere.
    fn seen(&mut self, value: ValueId) -> Option<TileId> {
        let Def::Node(node) = self.tracer.context.defs.get(value) else { return None };
        match (&node.op, &node.operands[..]) {
            (Op::Cast(_) | Op::Broadcast { .. }, [x]) => self.seen(*x),
            (Op::Pointwise(function), x) => self.seen_through(*function, x),
            _ => None,
        }
    }

    fn seen_through(&mut self, function: Pointwise, x: &[ValueId]) -> Option<TileId> {
        let join = |s: &mut Self, function, a: Option<TileId>, b: Option<TileId>| match (a, b) {
            (Some(a), Some(b)) => Some(s.tracer.pointwise(function, &[a, b])),
            (Some(x), None) | (None, Some(x)) if function == Pointwise::And => Some(x),
            _ => None,
        };
        match function {
            Pointwise::F32 | Pointwise::Stop => self.seen(x[0]),
            Pointwise::Sub => self.seen(x[0]),
            Pointwise::Mul | Pointwise::Div => match self.constant(x[1]) {
                Some(by) if by > 0.0 => self.seen(x[0]),
                _ => None,
            },
            Pointwise::Add | Pointwise::Min => {
                let (a, b) = (self.seen(x[0]), self.seen(x[1]));
                join(self, Pointwise::And, a, b)
            }
            Pointwise::Max => {
                let (a, b) = (self.seen(x[0]), self.seen(x[1]));
                join(self, Pointwise::Or, a, b)
            }
            Pointwise::Where => {
                let holds = self.tracer.value(x[0], &self.heads.inner, None);
                let hidden = [1, 2].map(|i| self.constant(x[i]) == Some(f64::NEG_INFINITY));
                match hidden {
                    [_, true] => {
                        let then = self.seen(x[1]);
                        join(self, Pointwise::And, Some(holds), then)
                    }
                    [true, _] => {
                        let not = self.tracer.pointwise(Pointwise::Not, &[holds]);
                        let otherwise = self.seen(x[2]);
                        join(self, Pointwise::And, Some(not), otherwise)
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn constant(&self, value: ValueId) -> Option<f64> {
        match self.tracer.context.defs.get(value) {
            Def::Node(Node { op: Op::Real(x), .. }) => Some(x.get()),
            _ => None,
        }
    }

    /// The score of a raw product.
    fn score(&mut self, raw: TileId) -> TileId {
        self.tracer.computed.insert(self.heads.score.args[0], raw);
        self.tracer.value(self.heads.score.results[0], &self.heads.inner, None)
    }

    fn forward(&mut self) {
        let heads = self.heads;
        let (rows, columns) = (heads.rows(&[]), heads.rows(&[heads.e]));
        // No finite score is smaller, and with it no difference of scores is ∞ − ∞.
        let (zero, least) = (self.real(0.0), self.real(f64::from(f32::MIN)));
        let q = self.operand(0, &heads.inner);
        let carry = |s: &mut Self, vars: &[VarId]| s.tracer.fresh(Scalar::F32, vars.to_vec());
        let [m, l] = [(); 2].map(|()| carry(self, &rows));
        let o = carry(self, &columns);

        self.tracer.open(heads.s);
        self.when_seen();
        let k = self.operand(1, &heads.inner);
        let raw = self.dot(q, k, heads.c);
        let score = self.score(raw);
        let score = self.whole(score);
        let largest = self.reduce(Reduction::Max, score, heads.s);
        let next_m = self.map(Pointwise::Max, &[m, largest]);
        let shifted = self.map(Pointwise::Sub, &[score, next_m]);
        let p = self.map(Pointwise::Exp, &[shifted]);
        let back = self.map(Pointwise::Sub, &[m, next_m]);
        let factor = self.map(Pointwise::Exp, &[back]);
        let kept = self.map(Pointwise::Mul, &[l, factor]);
        let sum = self.reduce(Reduction::Sum, p, heads.s);
        let next_l = self.map(Pointwise::Add, &[kept, sum]);
        let v = self.operand(2, &heads.outer);
        let kept = self.map(Pointwise::Mul, &[o, factor]);
        let narrow = self.factor(p, 0);
        let product = self.dot(narrow, v, heads.s);
        let next_o = self.map(Pointwise::Add, &[kept, product]);
        let results = [&rows, &rows, &columns].map(|vars| carry(self, vars));
        let inits = [least, zero, zero];
        let all = inits.into_iter().zip([m, l, o]).zip([next_m, next_l, next_o]).zip(results);
        let all = all.map(|(((init, arg), next), result)| Carry { init, arg, next, result });
        self.tracer.close(all.collect());

        let [m, l, o] = results;
        // The sum is at least 1, or 0 where all is masked.
        let half = self.real(0.5);
        let sum = self.map(Pointwise::Max, &[l, half]);
        let out = self.map(Pointwise::Div, &[o, sum]);
        self.tracer.store(heads.node.results[0], &heads.outer, out, false);
        let log = self.map(Pointwise::Log, &[sum]);
        let lse = self.map(Pointwise::Add, &[m, log]);
        let some = self.map(Pointwise::Gt, &[l, zero]);
        let vars = self.tracer.union(&[some, lse]);
        let lse = Expr::Pointwise(Pointwise::Where, vec![some, lse, zero]);
        let lse = self.tracer.emit_here(lse, Scalar::F32, vars);
        self.tracer.store(heads.node.results[1], &heads.outer, lse, false);
    }

    /// Writes zeros where turns add, or where turns may be left out.
    fn clear(&mut self, value: ValueId, at: &Positions, loops: &[VarId]) {
        loops.iter().for_each(|var| self.tracer.open(*var));
        let zero = self.real(0.0);
        self.tracer.store(value, at, zero, false);
        loops.iter().for_each(|_| self.tracer.close(Vec::new()));
    }

    /// Zeros for the cotangent of the score, if that is wanted.
    fn clear_score(&mut self) {
        let heads = self.heads;
        if let Some(value) = heads.node.results.get(3) {
            let inside = self.tracer.kernel.grid.contains(&heads.s);
            let mut loops = if inside { vec![] } else { vec![heads.s] };
            loops.extend(heads.query_vars());
            loops.push(heads.t);
            self.clear(*value, &heads.inner, &loops);
        }
    }

    /// The pair of tiles in hand; `whole`: with the cotangent of the raw product.
    fn pair(&mut self, whole: bool) -> Pair {
        let heads = self.heads;
        let (q, k) = (self.operand(0, &heads.inner), self.operand(1, &heads.inner));
        let dout = self.operand(3, &heads.outer);
        let v = whole.then(|| self.operand(2, &heads.outer));
        let lse = self.operand(4, &heads.outer);
        let delta = whole.then(|| self.operand(5, &heads.outer));
        let raw = self.dot(q, k, heads.c);
        let score = self.score(raw);
        let shifted = self.map(Pointwise::Sub, &[score, lse]);
        let p = self.map(Pointwise::Exp, &[shifted]);
        let p = self.whole(p);
        let narrow = self.factor(p, 0);
        let (Some(v), Some(delta)) = (v, delta) else {
            return Pair { q, k, dout, p: narrow, draw: None };
        };
        let dp = self.dot(dout, v, heads.e);
        let centred = self.map(Pointwise::Sub, &[dp, delta]);
        let dscore = self.map(Pointwise::Mul, &[p, centred]);
        self.tracer.computed.insert(heads.score.args[1], dscore);
        let draw = self.tracer.value(heads.score.results[1], &heads.inner, None);
        let draw = self.whole(draw);
        // Only where keys are outside, so that each pair is stored once.
        if let Some(full) = heads.node.results.get(3)
            && !self.tracer.kernel.grid.contains(&heads.t)
        {
            self.tracer.store(*full, &heads.inner, dscore, false);
        }
        let draw = self.factor(draw, 1);
        Pair { q, k, dout, p: narrow, draw: Some(draw) }
    }

    /// A loop over keys, or a grid point for some of them; inside, loops over all queries that
    /// carry the gradients of keys and values, those of `of`. `whole`: also adds to the queries' gradient.
    fn keys_outside(&mut self, whole: bool, of: [bool; 2]) {
        let heads = self.heads;
        if whole {
            self.tracer.open(heads.s);
        }
        let loops = [&heads.query_vars()[..], &[heads.t]].concat();
        let zero = self.real(0.0);
        let vars = [heads.keys(&[heads.c]), heads.keys(&[heads.e])];
        let wanted: Vec<usize> = (0..2).filter(|i| of[*i]).collect();
        let mut args: Vec<Vec<TileId>> = Vec::new();
        for var in &loops {
            let fresh = |i: &usize| self.tracer.fresh(Scalar::F32, vars[*i].clone());
            args.push(wanted.iter().map(fresh).collect());
            self.tracer.open(*var);
        }
        self.when_seen();
        let Pair { q, k, dout, p, draw } = self.pair(of[0]);
        let mut next = Vec::new();
        for (place, i) in wanted.iter().enumerate() {
            let (a, b) = if *i == 1 { (p, dout) } else { (cotangent(draw), q) };
            let mut product = self.dot(a, b, heads.t);
            for var in heads.query_vars() {
                if self.tracer.ty(product).vars.contains(&var) {
                    product = self.reduce(Reduction::Sum, product, var);
                }
            }
            let sum = args.last().expect("queries have a loop")[place];
            next.push(self.map(Pointwise::Add, &[sum, product]));
        }
        if whole {
            let dq = self.dot(cotangent(draw), k, heads.s);
            self.tracer.store(heads.node.results[0], &heads.inner, dq, true);
        }
        for depth in (0..loops.len()).rev() {
            let mut carried = Vec::new();
            for (place, i) in wanted.iter().enumerate() {
                let init = if depth == 0 { zero } else { args[depth - 1][place] };
                let result = self.tracer.fresh(Scalar::F32, vars[*i].clone());
                carried.push(Carry { init, arg: args[depth][place], next: next[place], result });
            }
            next = carried.iter().map(|c| c.result).collect();
            self.tracer.close(carried);
        }
        for (i, value) in wanted.iter().zip(next) {
            let at = if *i == 0 { &heads.inner } else { &heads.outer };
            self.tracer.store(heads.node.results[1 + i], at, value, false);
        }
        if whole {
            self.tracer.close(Vec::new());
        }
    }

    /// A grid point for some queries, a loop over all keys that carries their gradient.
    fn queries_outside(&mut self) {
        let heads = self.heads;
        let vars = heads.rows(&[heads.c]);
        let zero = self.real(0.0);
        let arg = self.tracer.fresh(Scalar::F32, vars.clone());
        self.tracer.open(heads.s);
        self.when_seen();
        let Pair { k, draw, .. } = self.pair(true);
        let product = self.dot(cotangent(draw), k, heads.s);
        let next = self.map(Pointwise::Add, &[arg, product]);
        let result = self.tracer.fresh(Scalar::F32, vars);
        self.tracer.close(vec![Carry { init: zero, arg, next, result }]);
        self.tracer.store(heads.node.results[0], &heads.inner, result, false);
    }
}

fn cotangent(draw: Option<TileId>) -> TileId {
    draw.expect("the gradients of queries and keys need the whole pair")
}

fn sorted(mut vars: Vec<VarId>) -> Vec<VarId> {
    vars.sort_unstable();
    vars
}

/// The order of axes of a result of attention: as the operands that it belongs to.
pub(super) fn order(
    graph: &Graph,
    node: &Node,
    result: ValueId,
    of: &dyn Fn(ValueId) -> Vec<AxisId>,
) -> Vec<AxisId> {
    let types: Vec<&Type> = node.operands.iter().map(|v| graph.ty(*v)).collect();
    let parts = Parts::new(&node.op, &types);
    let place = node.results.iter().position(|r| *r == result).expect("a result of the node");
    let [q, k, v] = [0, 1, 2].map(|i| of(node.operands[i]));
    let only = |order: &[AxisId], axes: &[AxisId]| -> Vec<AxisId> {
        order.iter().copied().filter(|a| axes.contains(a)).collect()
    };
    let columns = only(&v, &parts.columns);
    match (&node.op, place) {
        (Op::Attend { .. }, 0) => [only(&q, &parts.rows), columns].concat(),
        (Op::Attend { .. }, _) => only(&q, &parts.rows),
        (_, 0) => q,
        (_, 1) => k,
        (_, 2) => v,
        _ => [only(&q, &parts.rows), vec![parts.keys]].concat(),
    }
}
