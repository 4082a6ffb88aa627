//! A plan computes what its graph means: every kernel of the plan is interpreted over one arena,
//! and the results are compared with the graph's, both in f64. The arena starts as NaN, so that
//! memory read before it is written shows.

use std::collections::BTreeMap;

use gigac_ir::graph::{
    AxisId, Builder, DType, Feed, Graph, Init, Input, InputId, NamePart, Op, Param, ParamId, Role,
    Slot, Stored, Type, ValueId,
};
use gigac_ir::interpret::{Bindings, interpret};
use gigac_ir::kernel::{Arithmetic, Reduction};
use gigac_ir::plan::{Item, Plan};
use gigac_ir::pointwise::Pointwise::{self, *};
use gigac_ir::train::{OnNan, Settings};
use gigac_passes::pass::Purpose;
use gigac_passes::pipeline::{self, Source};
use gigac_passes::place::Placed;
use gigac_passes::{form, place};

/// An arena with one f64 for each byte address.
struct Arena<'p> {
    placed: &'p Placed,
    memory: Vec<f64>,
}

impl Arena<'_> {
    fn run(&mut self, items: &[Item], turns: &mut Vec<u64>) {
        for item in items {
            match item {
                Item::Launch { kernel, buffers, scalars } => {
                    let kernel = &self.placed.kernels[*kernel as usize];
                    kernel.verify().unwrap_or_else(|e| panic!("{kernel}\n{e:?}"));
                    let at: Vec<u64> = buffers.iter().map(|a| a.at(turns)).collect();
                    let mut arguments: Vec<Vec<f64>> = kernel
                        .buffers
                        .iter()
                        .zip(&at)
                        .map(|(b, at)| {
                            let address = |i: u64| (at + i * b.storage.bytes()) as usize;
                            (0..b.elements).map(|i| self.memory[address(i)]).collect()
                        })
                        .collect();
                    let scalars: Vec<i64> =
                        scalars.iter().map(|d| turns[*d as usize] as i64).collect();
                    kernel.interpret(&mut arguments, &scalars, Arithmetic::F64).expect("runs");
                    for ((buffer, at), data) in kernel.buffers.iter().zip(&at).zip(arguments) {
                        if buffer.access != gigac_ir::kernel::Access::Read {
                            for (i, x) in data.into_iter().enumerate() {
                                self.memory[(at + i as u64 * buffer.storage.bytes()) as usize] = x;
                            }
                        }
                    }
                }
                Item::Copy { from, to, bytes } => {
                    let (from, to) = (from.at(turns) as usize, to.at(turns) as usize);
                    self.memory.copy_within(from..from + *bytes as usize, to);
                }
                Item::Loop { first, count, reversed, body, .. } => {
                    for i in 0..*count {
                        turns.push(first + if *reversed { count - 1 - i } else { i });
                        self.run(body, turns);
                        turns.pop();
                    }
                }
            }
        }
    }

    fn put(&mut self, offset: u64, bytes: u64, data: &[f64]) {
        for (i, x) in data.iter().enumerate() {
            self.memory[(offset + i as u64 * bytes) as usize] = *x;
        }
    }

    fn get(&self, offset: u64, bytes: u64, count: u64) -> Vec<f64> {
        (0..count).map(|i| self.memory[(offset + i * bytes) as usize]).collect()
    }
}

/// Numbers that look random: the fractional parts of multiples of an irrational.
fn numbers(seed: usize, count: u64) -> Vec<f64> {
    (0..count)
        .map(|i| ((seed as f64 + 1.0) * 0.754_877 + i as f64 * 0.569_840_29).fract() - 0.5)
        .collect()
}

fn bindings(graph: &Graph) -> Bindings {
    let mut params = BTreeMap::new();
    for (i, param) in graph.params.iter().enumerate() {
        let count = graph.elements(&param.axes());
        params.insert((ParamId(i as u32), Slot::Weight), numbers(i, count));
        params.insert((ParamId(i as u32), Slot::Moment1), numbers(i + 50, count));
        let squares = numbers(i + 90, count).into_iter().map(|x| x * x).collect();
        params.insert((ParamId(i as u32), Slot::Moment2), squares);
    }
    let mut inputs = BTreeMap::new();
    for (i, input) in graph.inputs.iter().enumerate() {
        let count = graph.elements(&input.ty.axes);
        let data = match (input.ty.dtype, input.feed) {
            (_, Feed::Step) => vec![3.0],
            (_, Feed::Steps) => vec![10.0],
            (DType::Int { lo, hi }, _) => {
                (0..count as i64).map(|j| (lo + (j * 7 + 3) % (hi - lo)) as f64).collect()
            }
            _ => numbers(i + 20, count),
        };
        inputs.insert(InputId(i as u32), data);
    }
    Bindings { params, inputs, step: 3, ..Bindings::default() }
}

/// A program of a model as the graph that a pass would take.
fn graph_of(
    forward: &Graph,
    settings: &Settings,
    micro: u64,
    purpose: Purpose,
    before: &str,
) -> Graph {
    let source = Source { training: forward, evaluating: forward, settings, micro, prefix: "" };
    pipeline::graph_before(source, purpose, before)
}

/// The training step before kernels are formed.
fn step(forward: &Graph, settings: &Settings, micro: u64) -> Graph {
    graph_of(forward, settings, micro, Purpose::Step, "form")
}

fn check(graph: &Graph) -> Plan {
    let placed = place::place(form::form(graph.clone(), "k"), "test");
    let plan = &placed.plan;
    launches_touch_what_lives(plan);
    let bindings = bindings(graph);
    let expected = interpret(graph, &bindings).expect("the graph runs");
    let mut arena =
        Arena { placed: &placed, memory: vec![f64::NAN; plan.arena_bytes as usize + 64] };
    for state in &plan.states {
        arena.put(state.offset, 4, &bindings.params[&(ParamId(state.param), state.slot)]);
    }
    for input in &plan.inputs {
        let index = graph.inputs.iter().position(|i| i.name == input.name).expect("an input");
        arena.put(input.offset, input.storage.bytes(), &bindings.inputs[&InputId(index as u32)]);
    }
    arena.run(&plan.items, &mut Vec::new());
    for (i, (role, value)) in graph.results().enumerate() {
        let tensor = &expected[i];
        let (layout, got) = match role {
            Role::Update(param, slot) => {
                let state = plan
                    .states
                    .iter()
                    .find(|s| s.param == param.0 && s.slot == *slot)
                    .expect("state");
                let axes = graph.params[param.index()].axes();
                let got = arena.get(state.offset, 4, graph.elements(&axes));
                (axes, got)
            }
            role => {
                let result = plan.result(role).expect("a result");
                let count = result.axes.iter().map(|(_, n)| n).product();
                let axes: Vec<AxisId> =
                    result
                        .axes
                        .iter()
                        .map(|(name, _)| {
                            AxisId(graph.axes.iter().position(|a| a.name == *name).expect("axis")
                                as u32)
                        })
                        .collect();
                (axes, arena.get(result.offset, result.storage.bytes(), count))
            }
        };
        let sizes: Vec<usize> = layout.iter().map(|a| graph.size(*a) as usize).collect();
        let want = tensor.arranged(&layout, &sizes).data;
        for (j, (g, w)) in got.iter().zip(&want).enumerate() {
            assert!(
                (g - w).abs() <= 1e-9 * (1.0 + w.abs()),
                "{role:?} {value}[{j}]: {g} instead of {w}"
            );
        }
    }
    placed.plan
}

/// The positions of a plan are those that lifetimes are counted in: whatever a launch touches
/// lies in a buffer that lives where the launch stands.
fn launches_touch_what_lives(plan: &Plan) {
    fn launches<'p>(items: &'p [Item], found: &mut Vec<&'p Item>) {
        for item in items {
            match item {
                Item::Launch { .. } => found.push(item),
                Item::Copy { .. } => {}
                Item::Loop { body, .. } => launches(body, found),
            }
        }
    }
    let mut all = Vec::new();
    launches(&plan.items, &mut all);
    let moments = place::moments(plan);
    let positions = moments.iter().filter(|m| matches!(m.what, place::What::Launch(_)));
    for (moment, item) in positions.zip(&all) {
        let Item::Launch { kernel, buffers, .. } = item else { unreachable!() };
        assert_eq!(moment.what, place::What::Launch(*kernel));
        for address in buffers {
            let holds = |b: &&gigac_ir::plan::PlanBuffer| {
                b.offset <= address.base && address.base < b.offset + b.bytes.max(1)
            };
            let lives = |b: &gigac_ir::plan::PlanBuffer| {
                b.live.0 <= moment.position && moment.position <= b.live.1
            };
            assert!(plan.buffers.iter().filter(holds).any(lives), "{moment:?} {address}");
        }
    }
    let last = plan.buffers.iter().map(|b| b.live.1).max();
    assert!(last <= moments.last().map(|m| m.position), "nothing lives after the end");
}

struct Maker {
    b: Builder,
}

impl Maker {
    fn new() -> Self {
        Self { b: Builder::new(Graph::new("test")) }
    }

    fn axis(&mut self, name: &str, size: u64) -> AxisId {
        self.b.graph.add_axis(name, size)
    }

    fn param(&mut self, name: &str, dims: &[&[AxisId]]) -> ValueId {
        let stored = Stored {
            name: vec![NamePart::Text(name.into())],
            spread: vec![],
            from: vec![0; dims.len()],
        };
        self.b.graph.params.push(Param {
            name: name.into(),
            dims: dims.iter().map(|d| d.to_vec()).collect(),
            init: Init::Normal { std: 1.0 },
            lr: 1.0,
            decay: 1.0,
            frozen: false,
            stored,
            span: None,
        });
        let id = ParamId(self.b.graph.params.len() as u32 - 1);
        self.op(Op::Param(id, Slot::Weight), &[])
    }

    fn input(&mut self, name: &str, axes: &[AxisId], hi: i64) -> ValueId {
        let ty = Type { dtype: DType::Int { lo: 0, hi }, axes: axes.to_vec() };
        self.b.graph.inputs.push(Input { name: name.into(), ty, feed: Feed::Data, span: None });
        let id = InputId(self.b.graph.inputs.len() as u32 - 1);
        self.op(Op::Input(id), &[])
    }

    fn op(&mut self, op: Op, operands: &[ValueId]) -> ValueId {
        self.b.op(op, operands).unwrap_or_else(|e| panic!("{e}"))
    }

    fn f(&mut self, f: Pointwise, operands: &[ValueId]) -> ValueId {
        self.op(Op::Pointwise(f), operands)
    }

    fn sum(&mut self, x: ValueId, axes: &[AxisId]) -> ValueId {
        self.op(Op::Reduce { op: Reduction::Sum, axes: axes.to_vec() }, &[x])
    }

    fn max(&mut self, x: ValueId, axes: &[AxisId]) -> ValueId {
        self.op(Op::Reduce { op: Reduction::Max, axes: axes.to_vec() }, &[x])
    }

    fn dot(&mut self, x: ValueId, y: ValueId, axes: &[AxisId]) -> ValueId {
        self.op(Op::Dot { axes: axes.to_vec() }, &[x, y])
    }

    fn norm(&mut self, x: ValueId, w: ValueId, d: AxisId) -> ValueId {
        let square = self.f(Mul, &[x, x]);
        let sum = self.sum(square, &[d]);
        let n = self.b.real(self.b.graph.size(d) as f64);
        let mean = self.f(Div, &[sum, n]);
        let eps = self.b.real(1e-6);
        let mean = self.f(Add, &[mean, eps]);
        let root = self.f(Sqrt, &[mean]);
        let y = self.f(Div, &[x, root]);
        self.f(Mul, &[y, w])
    }

    fn softmax(&mut self, x: ValueId, s: AxisId) -> ValueId {
        let m = self.max(x, &[s]);
        let m = self.f(Stop, &[m]);
        let d = self.f(Sub, &[x, m]);
        let e = self.f(Exp, &[d]);
        let z = self.sum(e, &[s]);
        self.f(Div, &[e, z])
    }
}

/// A decoder of two layers with rotated heads, masks, shared turns and a cross-entropy.
fn decoder(layers: u64) -> Graph {
    let mut m = Maker::new();
    let [b, t, s, v, d, h, k, j, l] = [
        ("B", 2),
        ("T", 5),
        ("S", 5),
        ("V", 7),
        ("D", 6),
        ("H", 2),
        ("K", 4),
        ("J", 2),
        ("L", layers),
    ]
    .map(|(n, size)| m.axis(n, size));
    let tokens = m.input("tokens", &[b, t], 7);
    let targets = m.input("targets", &[b, t], 7);
    let embed = m.param("embed", &[&[v], &[d]]);
    let head = m.param("head", &[&[v], &[d]]);
    let n1 = m.param("n1", &[&[l], &[d]]);
    let wq = m.param("wq", &[&[l], &[h, k], &[d]]);
    let wk = m.param("wk", &[&[l], &[h, k], &[d]]);
    let wv = m.param("wv", &[&[l], &[h, k], &[d]]);
    let wo = m.param("wo", &[&[l], &[d], &[h, k]]);
    let bias = m.param("bias", &[&[d]]);
    let x = m.op(Op::Gather { axis: v }, &[embed, tokens]);
    let stacked = [n1, wq, wk, wv, wo];
    let args = m.b.open_repeat(l, &[x], &stacked);
    let [turn, x0, n1, wq, wk, wv, wo] = args[..] else { panic!("seven arguments") };
    let hidden = m.norm(x0, n1, d);
    let rotate = |m: &mut Maker, x: ValueId| {
        let (at, j_at) = (m.op(Op::Pos(t), &[]), m.op(Op::Pos(j), &[]));
        let (at, j_at) = (m.f(ToReal, &[at]), m.f(ToReal, &[j_at]));
        let angle = m.dot(at, j_at, &[]);
        let (cos, sin) = (m.f(Cos, &[angle]), m.f(Sin, &[angle]));
        let low = m.op(Op::Slice { axis: k, to: Some(j), start: 0, stride: 1 }, &[x]);
        let high = m.op(Op::Slice { axis: k, to: Some(j), start: 2, stride: 1 }, &[x]);
        let (lc, ls) = (m.f(Mul, &[low, cos]), m.f(Mul, &[low, sin]));
        let (hc, hs) = (m.f(Mul, &[high, cos]), m.f(Mul, &[high, sin]));
        let (first, second) = (m.f(Sub, &[lc, hs]), m.f(Add, &[hc, ls]));
        m.op(Op::Cat { pieces: vec![Some(j), Some(j)], to: k }, &[first, second])
    };
    let q = m.dot(hidden, wq, &[d]);
    let q = rotate(&mut m, q);
    let key = m.dot(hidden, wk, &[d]);
    let key = rotate(&mut m, key);
    let key = m.op(Op::Rename { from: t, to: s }, &[key]);
    let value = m.dot(hidden, wv, &[d]);
    let value = m.op(Op::Rename { from: t, to: s }, &[value]);
    let scores = m.dot(q, key, &[k]);
    let (here, there) = (m.op(Op::Pos(t), &[]), m.op(Op::Pos(s), &[]));
    let mask = m.f(Le, &[there, here]);
    let low = m.b.real(f64::NEG_INFINITY);
    let scores = m.f(Where, &[mask, scores, low]);
    let p = m.softmax(scores, s);
    let o = m.dot(p, value, &[s]);
    let o = m.dot(o, wo, &[h, k]);
    let scale = m.f(ToReal, &[turn]);
    let o = m.f(Mul, &[o, scale]);
    let shifted = m.f(Add, &[o, bias]);
    let next = m.f(Add, &[x0, shifted]);
    let x = m.b.close_repeat((l, false), &[x], &stacked, &[next], &[]).expect("a repeat")[0];
    let logits = m.dot(x, head, &[d]);
    let top = m.max(logits, &[v]);
    let top = m.f(Stop, &[top]);
    let off = m.f(Sub, &[logits, top]);
    let e = m.f(Exp, &[off]);
    let z = m.sum(e, &[v]);
    let z = m.f(Log, &[z]);
    let z = m.f(Add, &[z, top]);
    let hit = m.op(Op::Gather { axis: v }, &[logits, targets]);
    let loss = m.f(Sub, &[z, hit]);
    let loss = m.sum(loss, &[b, t]);
    let tokens = m.b.real(10.0);
    let loss = m.f(Div, &[loss, tokens]);
    m.b.result(Role::LossTerm(0), loss);
    m.b.result(Role::Output("logits".into()), logits);
    m.b.finish()
}

#[test]
fn forward_decoder() {
    let graph = decoder(3);
    check(&graph_of(&graph, &Settings::default(), 1, Purpose::Evaluate, "form"));
    check(&graph_of(&graph, &Settings::default(), 1, Purpose::Outputs, "form"));
}

#[test]
fn joint_decoder() {
    let joint = graph_of(&decoder(3), &Settings::default(), 1, Purpose::Step, "optimizer");
    check(&gigac_passes::decompose::decompose(joint));
}

#[test]
fn training_step_of_a_decoder() {
    for on_nan in [OnNan::Keep, OnNan::Zero, OnNan::Skip] {
        let settings = Settings { clip: Some(0.5), on_nan, ..Settings::default() };
        check(&step(&decoder(2), &settings, 1));
    }
}

#[test]
fn training_step_with_micro_batches() {
    check(&step(&decoder(2), &Settings::default(), 3));
}

/// Two against two hundred layers: the plans differ in numbers only.
#[test]
fn plans_are_flat_in_depth() {
    let shape = |layers| {
        let graph = step(&decoder(layers), &Settings::default(), 1);
        let plan = place::place(form::form(graph, "k"), "step").plan;
        let text = format!("{:#?}", plan.items);
        text.chars().filter(|c| !c.is_ascii_digit()).collect::<String>()
    };
    let (shallow, deep) = (shape(2), shape(200));
    let differs = shallow.lines().zip(deep.lines()).position(|(a, b)| a != b);
    assert_eq!(differs, None, "the first line that differs");
    assert_eq!(shallow.len(), deep.len());
}

/// Routing: the choice of the largest, a gathered weight, and its gradient.
#[test]
fn mixture_of_experts() {
    let mut m = Maker::new();
    let [t, e, n, d, f] =
        [("T", 6), ("E", 4), ("N", 2), ("D", 5), ("F", 3)].map(|(a, s)| m.axis(a, s));
    let router = m.param("router", &[&[e], &[d]]);
    let up = m.param("up", &[&[e], &[f], &[d]]);
    let table = m.param("table", &[&[t], &[d]]);
    let p = m.dot(table, router, &[d]);
    let p = m.softmax(p, e);
    let top = m.b.ops(Op::Top { axis: e, to: n }, &[p]).expect("top");
    let w = m.op(Op::Gather { axis: e }, &[up, top[1]]);
    let y = m.dot(table, w, &[d]);
    let y = m.f(Tanh, &[y]);
    let y = m.dot(y, top[0], &[n]);
    let loss = m.sum(y, &[t, f]);
    m.b.result(Role::LossTerm(0), loss);
    let graph = m.b.finish();
    check(&graph_of(&graph, &Settings::default(), 1, Purpose::Evaluate, "form"));
    check(&step(&graph, &Settings::default(), 1));
}
