//! A hand-made program with kernels in plain Rust: a bigram language model, trained by momentum.
//!
//! `logits[b, t, v] = table[tokens[b, t], v] + bias[v]`. The table is stored as two tensors, so
//! that names and pieces take part; the learning rate falls with the step, so that a resumed run
//! which lost count would differ.

use gigac_ir::graph::{AxisId, Feed, Init, NamePart, ParamId, Role, Slot};
use gigac_ir::image::Image;
use gigac_ir::kernel::{Access, Storage};
use gigac_ir::plan::{
    Address, Argument, COMPUTE, Category, Item, KernelInfo, Plan, PlanBuffer, PlanInput, PlanParam,
    PlanResult, State,
};
use gigac_ir::program::{Program, ProgramPhase};
use gigac_ir::train::{OnNan, Settings};

use crate::exec::code::{Kernel, Kernels};

/// Samples of a batch.
pub(crate) const B: usize = 4;
/// Tokens of a sample.
pub(crate) const T: usize = 16;
/// Vocabulary: bytes.
pub(crate) const V: usize = 256;

const TABLE: u64 = (V * V * 4) as u64;
const BIAS: u64 = (V * 4) as u64;
const LOGITS: u64 = (B * T * V * 4) as u64;
const ROWS: u64 = (B * T * 4) as u64;

/// Places in the arena, in order.
const AT: [u64; 14] = {
    // table, bias, moments of both, tokens, targets, step, logits, losses, gradients of both, scalars
    let sizes = [TABLE, BIAS, TABLE, BIAS, TABLE, BIAS, ROWS, ROWS, 64, LOGITS, ROWS, TABLE, BIAS];
    let (mut at, mut i) = ([0; 14], 0);
    while i < sizes.len() {
        at[i + 1] = at[i] + sizes[i];
        i += 1;
    }
    at
};
const SCALARS: u64 = 13;

fn at(index: u64) -> u64 {
    AT[index as usize]
}

/// Arena bytes: the scalars (loss, norm, rate, bad elements) are 64 bytes apart.
const ARENA: u64 = AT[13] + 4 * 64;

/// The program. Its image is empty; [`kernels`] stand in for it.
pub(crate) fn program() -> Program {
    let phase = ProgramPhase {
        tokens: None,
        settings: Settings { on_nan: OnNan::Halt, ..Settings::default() },
        tokens_per_step: (B * T) as u64,
        micro_batches: 1,
        flops_per_token: 6.0 * (V * V) as f64,
        model_flops_per_token: 6.0 * V as f64,
        gflop_step: 1e-3,
        step: step(),
        evaluate: evaluate(),
        outputs: Some(outputs()),
    };
    Program {
        version: "test".into(),
        model: "bigram".into(),
        parameters: (V * V + V) as u64,
        image: Image { bytes: vec![0xc3], features: vec![], entries: vec![] },
        phases: vec![phase],
    }
}

/// The kernels of [`program`].
pub(crate) fn kernels() -> Kernels {
    let table: [(&str, gigac_ir::image::KernelFn); 5] = [
        ("logits", logits),
        ("loss", loss),
        ("mean", mean),
        ("gradient", gradient),
        ("update", update),
    ];
    let kernel =
        |(name, entry): (&str, _)| (name.to_owned(), Kernel { entry, scratch_bytes: 4096 });
    Kernels::linked(table.map(kernel))
}

fn axis(name: &str, size: usize) -> (String, u64) {
    (name.to_owned(), size as u64)
}

fn params() -> Vec<PlanParam> {
    let text = |text: &str| NamePart::Text(text.to_owned());
    let half = NamePart::Choice { axis: AxisId(0), names: vec!["low".into(), "high".into()] };
    let table = PlanParam {
        name: "table".into(),
        axes: vec![axis("C", 2), axis("U", V / 2), axis("V", V)],
        dims: vec![2, 1],
        init: Init::Normal { std: 0.02 },
        frozen: false,
        name_template: vec![text("table."), half],
        spread: vec![0],
        from: vec![],
    };
    let bias = PlanParam {
        name: "bias".into(),
        axes: vec![axis("V", V)],
        dims: vec![1],
        init: Init::Constant(0.0),
        frozen: false,
        name_template: vec![text("bias")],
        spread: vec![],
        from: vec![],
    };
    vec![table, bias]
}

fn info(name: &str, points: usize, arguments: &[(Access, u64)]) -> KernelInfo {
    let argument = |(access, bytes): &(Access, u64)| Argument {
        name: "x".into(),
        access: *access,
        bytes: *bytes,
    };
    KernelInfo {
        name: name.into(),
        origin: name.into(),
        grid_points: points as u64,
        arguments: arguments.iter().map(argument).collect(),
        flops: 0,
    }
}

/// A launch with buffers at the places of these indices.
fn launch(kernel: u32, places: &[u64]) -> Item {
    let buffers = places.iter().map(|place| Address::fixed(at(*place))).collect();
    Item::launch(kernel, buffers, vec![])
}

fn result(role: Role, scalar: u64) -> PlanResult {
    PlanResult { role, storage: Storage::F32, axes: vec![], offset: at(SCALARS) + 64 * scalar }
}

fn plan(name: &str, kernels: Vec<KernelInfo>, items: Vec<Item>, results: Vec<PlanResult>) -> Plan {
    let input = |name: &str, feed, place: u64| PlanInput {
        name: name.into(),
        feed,
        storage: Storage::I32,
        range: Some((0, V as i64)),
        axes: if feed == Feed::Step { vec![] } else { vec![axis("B", B), axis("T", T)] },
        offset: at(place),
    };
    let slots = [Slot::Weight, Slot::Moment1, Slot::Moment2];
    let state = |i: u32| State { param: i % 2, slot: slots[i as usize / 2], offset: at(i.into()) };
    let buffer = PlanBuffer {
        name: "all but the states".into(),
        category: Category::Results,
        offset: at(6),
        bytes: ARENA - at(6),
        live: (0, 9),
    };
    Plan {
        name: name.into(),
        arena_bytes: ARENA,
        live_bytes: ARENA,
        host_bytes: 0,
        params: params(),
        states: (0..6).map(state).collect(),
        inputs: vec![
            input("tokens", Feed::Data, 6),
            input("targets", Feed::Data, 7),
            input("step", Feed::Step, 8),
        ],
        results,
        buffers: vec![buffer],
        kernels,
        streams: vec![COMPUTE.into()],
        events: 0,
        items,
    }
}

fn forward() -> (Vec<KernelInfo>, Vec<Item>) {
    use Access::{Read, ReadWrite, Write};
    let kernels = vec![
        info("logits", B * T, &[(Read, TABLE), (Read, BIAS), (Read, ROWS), (Write, LOGITS)]),
        info("loss", B * T, &[(Read, ROWS), (ReadWrite, LOGITS), (Write, ROWS)]),
        info("mean", 1, &[(Read, ROWS), (Write, 4)]),
    ];
    (kernels, vec![launch(0, &[0, 1, 6, 9]), launch(1, &[7, 9, 10]), launch(2, &[10, SCALARS])])
}

fn step() -> Plan {
    use Access::{Read, ReadWrite, Write};
    let (mut kernels, mut items) = forward();
    kernels.push(info(
        "gradient",
        V,
        &[(Read, LOGITS), (Read, ROWS), (Write, TABLE), (Write, BIAS)],
    ));
    let update = [
        (Read, TABLE),
        (Read, BIAS),
        (ReadWrite, TABLE),
        (ReadWrite, TABLE),
        (ReadWrite, BIAS),
        (Read, 4),
        (Write, 256),
        (ReadWrite, BIAS),
    ];
    kernels.push(info("update", 1, &update));
    items.push(launch(3, &[9, 6, 11, 12]));
    items.push(launch(4, &[11, 12, 0, 2, 3, 8, SCALARS, 1]));
    let gradient = |param: u32, place: u64, axes| PlanResult {
        role: Role::Gradient(ParamId(param)),
        storage: Storage::F32,
        axes,
        offset: at(place),
    };
    let results = vec![
        result(Role::Loss, 0),
        result(Role::GradNorm, 1),
        result(Role::LearningRate, 2),
        result(Role::NanGradients, 3),
        gradient(0, 11, params()[0].axes.clone()),
        gradient(1, 12, params()[1].axes.clone()),
    ];
    plan("step", kernels, items, results)
}

fn evaluate() -> Plan {
    let (kernels, items) = forward();
    plan("evaluate", kernels, items, vec![result(Role::LossTerm(0), 0)])
}

fn outputs() -> Plan {
    let (mut kernels, mut items) = forward();
    kernels.truncate(1);
    items.truncate(1);
    let logits = PlanResult {
        role: Role::Output("logits".into()),
        storage: Storage::F32,
        axes: vec![axis("B", B), axis("T", T), axis("V", V)],
        offset: at(9),
    };
    let mut plan = plan("outputs", kernels, items, vec![logits]);
    plan.inputs.retain(|i| i.name == "tokens");
    plan
}

/// Elements of an argument.
///
/// # Safety
/// The argument has that many elements, and nobody else writes them meanwhile.
unsafe fn array<'a, X>(buffers: *const *mut u8, index: usize, count: usize) -> &'a mut [X] {
    // SAFETY: as the caller promises.
    unsafe { std::slice::from_raw_parts_mut((*buffers.add(index)).cast(), count) }
}

/// A part of an argument that one grid point has for itself.
///
/// # Safety
/// As [`array`], for that part.
unsafe fn part<'a>(
    buffers: *const *mut u8,
    index: usize,
    first: usize,
    count: usize,
) -> &'a mut [f32] {
    // SAFETY: as the caller promises.
    unsafe { std::slice::from_raw_parts_mut((*buffers.add(index)).cast::<f32>().add(first), count) }
}

/// Grid points with the int that belongs to each.
fn rows(ints: &[i32], first: u64, last: u64) -> impl Iterator<Item = (usize, usize)> {
    (first as usize..last as usize).map(|row| (row, ints[row] as usize))
}

unsafe extern "C" fn logits(
    b: *const *mut u8,
    _: *const i64,
    first: u64,
    last: u64,
    scratch: *mut u8,
) {
    // SAFETY: the executor passes what the plan says; rows are disjoint; scratch is our own.
    unsafe {
        scratch.write_bytes(0xab, 4096);
        let (bias, tokens) = (array::<f32>(b, 1, V), array::<i32>(b, 2, B * T));
        for (row, token) in rows(tokens, first, last) {
            let table = part(b, 0, token * V, V);
            let out = part(b, 3, row * V, V);
            for v in 0..V {
                out[v] = table[v] + bias[v];
            }
        }
    }
}

/// Leaves softmax − one-hot, over the number of rows, in place of the logits.
unsafe extern "C" fn loss(b: *const *mut u8, _: *const i64, first: u64, last: u64, _: *mut u8) {
    // SAFETY: as above.
    unsafe {
        let targets = array::<i32>(b, 0, B * T);
        for (row, target) in rows(targets, first, last) {
            let x = part(b, 1, row * V, V);
            let max = x.iter().copied().fold(f32::MIN, f32::max);
            let sum: f32 = x.iter().map(|v| (v - max).exp()).sum();
            part(b, 2, row, 1)[0] = max + sum.ln() - x[target];
            for v in x.iter_mut() {
                *v = (*v - max).exp() / sum / (B * T) as f32;
            }
            x[target] -= 1.0 / (B * T) as f32;
        }
    }
}

unsafe extern "C" fn mean(b: *const *mut u8, _: *const i64, _: u64, _: u64, _: *mut u8) {
    // SAFETY: as above.
    unsafe {
        let rows = array::<f32>(b, 0, B * T);
        array::<f32>(b, 1, 1)[0] = rows.iter().sum::<f32>() / (B * T) as f32;
    }
}

/// Grid point `v`: row `v` of the table's gradient and element `v` of the bias's.
unsafe extern "C" fn gradient(b: *const *mut u8, _: *const i64, first: u64, last: u64, _: *mut u8) {
    // SAFETY: as above.
    unsafe {
        let (d, tokens) = (array::<f32>(b, 0, B * T * V), array::<i32>(b, 1, B * T));
        for v in first as usize..last as usize {
            let row = part(b, 2, v * V, V);
            row.fill(0.0);
            for n in (0..B * T).filter(|n| tokens[*n] as usize == v) {
                (0..V).for_each(|u| row[u] += d[n * V + u]);
            }
            part(b, 3, v, 1)[0] = (0..B * T).map(|n| d[n * V + v]).sum();
        }
    }
}

/// Momentum 0.9 (first moments), sums of squares (second moments, not used), clip at 1.
unsafe extern "C" fn update(b: *const *mut u8, _: *const i64, _: u64, _: u64, _: *mut u8) {
    // SAFETY: as above; the tensors of gradients, weights and moments lie end to end.
    unsafe {
        let n = V * V + V;
        let gradients = array::<f32>(b, 0, n);
        let (w, m1) = (array::<f32>(b, 2, n), array::<f32>(b, 3, n));
        let step = array::<i32>(b, 5, 1)[0];
        let out = array::<f32>(b, 6, 64);
        let norm = gradients.iter().map(|g| g * g).sum::<f32>().sqrt();
        let rate = 2.0 / (1.0 + step as f32 * 0.01);
        let clip = (1.0 / (norm + 1e-6)).min(1.0);
        for i in 0..n {
            m1[i] = 0.9 * m1[i] + clip * gradients[i];
            w[i] -= rate * m1[i];
        }
        let bad = gradients.iter().filter(|g| !g.is_finite()).count();
        (out[16], out[32], out[48]) = (norm, rate, bad as f32);
    }
}
