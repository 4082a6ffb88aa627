//! Kernels and plans compute what their graph means: both are interpreted in f64, and the results
//! are compared with the graph's. Memory starts as NaN, so that what is read before it is written
//! shows.

mod attention;
mod host;

use std::collections::BTreeMap;

use gigac_cost::target::Device;
use gigac_ir::graph::{
    AxisId, Builder, DType, Feed, Graph, Init, Input, InputId, NamePart, Op, Param, ParamId, Role,
    Slot, Stored, Type, ValueId,
};
use gigac_ir::interpret::{Bindings, interpret};
use gigac_ir::kernel::{Arithmetic, Machine, Reduction};
use gigac_ir::plan::{Category, Item, Part, Plan};
use gigac_ir::plan_verify::verify;
use gigac_ir::pointwise::Pointwise::{self, *};
use gigac_ir::train::{OnNan, Settings};
use gigac_passes::checkpoint::Program;
use gigac_passes::form::Formed;
use gigac_passes::options::Options;
use gigac_passes::outcome::{Difference, Outcome, of_graph};
use gigac_passes::pass::Purpose;
use gigac_passes::pipeline::{self, Source};
use gigac_passes::place::Placed;
use gigac_passes::{form, merge, place, precision, reuse, together};

/// A program of a model as the graph that a pass would take.
fn graph_of(
    forward: &Graph,
    settings: &Settings,
    micro: u64,
    purpose: Purpose,
    before: &str,
) -> Graph {
    let source = Source { training: forward, evaluating: forward, settings, micro, prefix: "" };
    let mut copies = precision::copies(source);
    let known = (0..forward.params.len()).filter(|i| forward.params[*i].rounded);
    copies.extend(known.map(|i| ParamId(i as u32)));
    let mut noted = forward.clone();
    precision::note_copies(&mut noted, &copies);
    let source = Source { training: &noted, evaluating: &noted, ..source };
    pipeline::graph_before(source, purpose, before)
}

/// The training step before kernels are formed.
fn step(forward: &Graph, settings: &Settings, micro: u64) -> Graph {
    graph_of(forward, settings, micro, Purpose::Step, "form")
}

/// Graph, kernels and plan compute the same.
fn check(graph: &Graph) -> Plan {
    let bindings = Bindings::example(graph);
    let expected = of_graph(graph, interpret(graph, &bindings).expect("the graph runs"));
    let formed = form::form(graph.clone(), "k", false, Machine::Cpu);
    formed.kernels.iter().for_each(|k| k.verify().unwrap_or_else(|e| panic!("{k}\n{e:?}")));
    let outcome = formed.interpret(&bindings, Arithmetic::F64);
    compare("kernels", &expected, &outcome);
    let merged = merged(formed);
    merged.kernels.iter().for_each(|k| k.verify().unwrap_or_else(|e| panic!("{k}\n{e:?}")));
    same_bits(&outcome, &merged.interpret(&bindings, Arithmetic::F64));
    let placed = placed(merged, "test");
    launches_touch_what_lives(&placed.plan);
    compare("the plan", &expected, &placed.interpret(graph, &bindings, Arithmetic::F64));
    placed.plan
}

fn compare(what: &str, expected: &[Outcome], got: &[Outcome]) {
    assert_eq!(expected.len(), got.len());
    for (want, got) in expected.iter().zip(got) {
        let Difference { relative, worst: (index, w, g) } = want.difference(got, 0.0);
        let (name, place) = (&want.name, want.place(index));
        assert!(relative <= 1e-9, "{what}: {name} {place}: {g} instead of {w}");
    }
}

/// The program with its products joined, as they are without further options.
fn merged(formed: Formed) -> Formed {
    merge::merge(formed, Options::default().device()).0
}

/// The plan of kernels, as it is without further options.
fn placed(formed: Formed, name: &str) -> Placed {
    let reused = reuse::reuse(formed);
    let alone = place::place(reused.clone(), name).plan;
    let (together, saved) = together::together(reused, Options::default().device());
    let placed = place::place(together, name);
    verify(&placed.plan).unwrap_or_else(|e| panic!("{e}\n{}", placed.plan));
    assert_eq!(units(&placed.plan.items), units(&alone.items), "every kernel runs as often");
    assert!(saved > 0 || place::launches(&alone.items) == place::launches(&placed.plan.items));
    assert!(placed.plan.arena_bytes <= alone.arena_bytes, "the arena does not grow");
    placed
}

/// How often each kernel runs, wherever.
fn units(items: &[Item]) -> BTreeMap<u32, u64> {
    let mut found = BTreeMap::new();
    for item in items {
        match item {
            Item::Launch { parts, .. } => {
                parts.iter().for_each(|part| *found.entry(part.kernel).or_default() += 1);
            }
            Item::Copy { .. } => {}
            Item::Loop { count, body, .. } => {
                for (kernel, times) in units(body) {
                    *found.entry(kernel).or_default() += count * times;
                }
            }
        }
    }
    found
}

/// Joined kernels add up as each of them did.
fn same_bits(before: &[Outcome], after: &[Outcome]) {
    for (before, after) in before.iter().zip(after) {
        let bits = |outcome: &Outcome| outcome.data.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(before), bits(after), "{}", before.name);
    }
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
    let moments = gigac_ir::plan::moments(plan);
    let positions = moments.iter().filter(|m| matches!(m.what, gigac_ir::plan::What::Launch(_)));
    for (moment, item) in positions.zip(&all) {
        let Item::Launch { parts, .. } = item else { unreachable!() };
        let kernels = parts.iter().map(|part| part.kernel).collect();
        assert_eq!(moment.what, gigac_ir::plan::What::Launch(kernels));
        for address in parts.iter().flat_map(|part| &part.buffers) {
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
            rounded: false,
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
        let formed = form::form(graph, "k", false, Machine::Cpu);
        let plan = placed(merged(formed), "step").plan;
        let text = format!("{:#?}", plan.items);
        text.chars().filter(|c| !c.is_ascii_digit()).collect::<String>()
    };
    let (shallow, deep) = (shape(2), shape(200));
    let differs = shallow.lines().zip(deep.lines()).position(|(a, b)| a != b);
    assert_eq!(differs, None, "the first line that differs");
    assert_eq!(shallow.len(), deep.len());
}

/// Whatever is dropped and computed again, every result has the bits that it had.
#[test]
fn computing_again_keeps_every_bit() {
    let mixed = with_less_memory(Options::default().device(), false);
    assert!(mixed > 0, "some layers keep more than others");
}

/// On a GPU copies run beside kernels, and are seen when the link is slow; on a CPU they take their
/// time.
#[test]
fn offloading_keeps_every_bit() {
    let fast = Device::named("a100").expect("built in");
    let mut slow = fast.clone();
    slow.host_bandwidth.value = 1e8;
    with_less_memory(&fast, true);
    let mixed = with_less_memory(&slow, true) + with_less_memory(Options::default().device(), true);
    assert!(mixed > 0, "some layers keep more than others");
}

/// Programs with ever more bytes of stacks mean the same; how many have layers that differ.
fn with_less_memory(device: &Device, offload: bool) -> usize {
    let (mut mixed, mut offloaded, mut again) = (0, 0, 0);
    for (layers, micro) in [(3, 1), (2, 2), (7, 1)] {
        let graph = step(&decoder(layers), &Settings::default(), micro);
        let formed = form::form(graph.clone(), "k", false, Machine::Cpu);
        let bindings = Bindings::example(&graph);
        let expected = formed.interpret(&bindings, Arithmetic::F64);
        let program = Program::of(&formed, device, offload);
        let (least, all) = (program.least_bytes(), program.all_bytes());
        assert!(least < all, "something can be dropped");
        let whole = placed(formed.clone(), "test");
        for bytes in (0..=12).map(|i| least + (all - least) * i / 12) {
            let (mixes, bound) = program.solve(bytes).expect("the least is within");
            assert!(bound <= mixes.seconds * (1.0 + 1e-9), "{bytes}");
            let dropped = program.apply(formed.clone(), &program.parts(&mixes));
            assert!(dropped.interpret(&bindings, Arithmetic::F64) == expected, "{bytes}: kernels");
            let placed = placed(merged(dropped), "test");
            launches_touch_what_lives(&placed.plan);
            let results = placed.interpret(&graph, &bindings, Arithmetic::F64);
            for (want, got) in expected.iter().zip(&results) {
                assert_eq!(
                    want.difference(got, 0.0).relative,
                    0.0,
                    "{bytes}: {} of the plan",
                    want.name
                );
            }
            let won = saved(&whole.plan) - saved(&placed.plan);
            assert_eq!(won, all - mixes.bytes, "what was promised");
            mixed += usize::from(loops(&placed.plan.items) > loops(&whole.plan.items));
            offloaded += usize::from(placed.plan.host_bytes > 0);
            again += usize::from(
                place::launches(&placed.plan.items) > place::launches(&whole.plan.items),
            );
        }
    }
    assert_eq!(offloaded > 0, offload);
    assert!(offload || again > 0);
    mixed
}

/// Bytes of the stacks of a plan.
fn saved(plan: &Plan) -> u64 {
    let saved = plan.buffers.iter().filter(|b| b.category == Category::Saved);
    saved.map(|b| b.bytes).sum()
}

fn loops(items: &[Item]) -> usize {
    let of = |item: &Item| match item {
        Item::Loop { body, .. } => 1 + loops(body),
        _ => 0,
    };
    items.iter().map(of).sum()
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

/// What `precision bf16` makes of the settings.
fn bf16() -> Settings {
    let mut settings = Settings { clip: Some(0.5), ..Settings::default() };
    settings.precision.compute = DType::Bf16;
    settings
}

/// Both sides round where casts say so, and nowhere else.
#[test]
fn decoder_in_bf16() {
    for purpose in [Purpose::Evaluate, Purpose::Outputs, Purpose::Step] {
        check(&graph_of(&decoder(3), &bf16(), 1, purpose, "form"));
    }
    check(&step(&decoder(2), &bf16(), 3));
}

/// Copies of weights in bf16 are written where they lie, by the kernels that update the weights, in
/// steps that read them and in steps in f32, which do not.
#[test]
fn copies_are_written_in_place() {
    let mut forward = decoder(2);
    forward.params.iter_mut().for_each(|param| param.rounded = true);
    let wide = Settings { clip: Some(0.5), ..Settings::default() };
    let skipping = Settings { on_nan: OnNan::Skip, ..wide.clone() };
    for settings in [bf16(), wide, skipping] {
        let plan = check(&step(&forward, &settings, 1));
        let copies: Vec<_> = plan.states.iter().filter(|s| s.slot == Slot::Rounded).collect();
        assert_eq!(copies.len(), forward.params.len());
        let end = plan.states.iter().map(|s| plan.extent(s).end).max();
        assert!(copies.iter().any(|copy| Some(plan.extent(copy).end) == end), "they lie last");
        for copy in copies {
            let writers = writers(&plan, copy.offset);
            assert_eq!(writers.len(), 1, "{copy:?}");
            let weight = plan.states.iter().find(|s| s.param == copy.param);
            let weight = weight.expect("the weights come first").offset;
            let name = &plan.params[copy.param as usize].name;
            assert!(writers[0].contains(&weight), "the copy of {name} alone\n{plan}");
        }
        let first = plan.states.iter().find(|s| s.slot == Slot::Rounded).map(|s| s.offset);
        let copied = plan.items.iter().any(|item| match item {
            Item::Copy { to, .. } => Some(to.address.base) >= first,
            _ => false,
        });
        assert!(!copied, "{plan}");
    }
}

/// What the kernels write, outside of loops, that write to an address.
fn writers(plan: &Plan, address: u64) -> Vec<Vec<u64>> {
    let of_part = |part: &Part| {
        let written = plan.accesses(part).filter(|(.., writes)| *writes);
        written.map(|(address, ..)| address.base).collect()
    };
    let written = |item: &Item| -> Vec<Vec<u64>> {
        match item {
            Item::Launch { parts, .. } => parts.iter().map(of_part).collect(),
            Item::Copy { .. } | Item::Loop { .. } => Vec::new(),
        }
    };
    plan.items.iter().flat_map(written).filter(|all| all.contains(&address)).collect()
}

/// Of what the way back reads only statistics keep their width.
#[test]
fn activations_in_bf16_take_half_the_memory() {
    let saved = |settings: &Settings| -> u64 {
        let plan = place::place(
            form::form(step(&decoder(4), settings, 1), "k", false, Machine::Cpu),
            "step",
        )
        .plan;
        let saved = plan.buffers.iter().filter(|b| b.category == Category::Saved);
        saved.map(|b| b.bytes).sum()
    };
    let (narrow, wide) = (saved(&bf16()), saved(&Settings::default()));
    // Of 30 numbers of a token and layer five are statistics.
    assert!(5 * narrow <= 3 * wide, "{narrow} bytes instead of {wide}");
}
