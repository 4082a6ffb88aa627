//! Every kernel of a training step as PTX, on the emulator with all checks, beside the kernel
//! interpreter.

#[path = "../../codegen/tests/support/bound.rs"]
mod bound;
#[path = "../../codegen/tests/support/gpu.rs"]
mod gpu;
mod narrow;
mod sampled;
mod together;
mod variants;

use std::collections::HashSet;
use std::path::Path;
use std::sync::{LazyLock, Mutex};

use bound::{Bounded, bounded};

use gigac::compile::{self, Request};
use gigac_cost::target::Device;
use gigac_ir::kernel::{Access, Arithmetic, Buffer, Expr, Kernel, Stmt, Storage, TileId};
use gigac_passes::driver::Alone;
use gigac_passes::options::Options;
use gigac_passes::pass::{Purpose, Stage};
use gigac_passes::pipeline::{self, position};
use half::bf16;

/// A program for an A100.
fn a100() -> Options {
    let mut options = Options::default();
    options.aim(&Device::named("a100").expect("a device of the list"));
    options
}

/// The kernels of a model's training step on an A100.
fn kernels(model: &str, sets: &[&str]) -> Vec<Kernel> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("models/{model}.giga"));
    let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
    kernels_of(&path, &sets)
}

fn kernels_of(path: &Path, sets: &[String]) -> Vec<Kernel> {
    let request = Request::read(path, sets, a100()).expect("models of tests are right");
    let phases = compile::checked(&request).expect("models of tests are right");
    let end = position("form") + 1;
    let options = &request.options;
    match pipeline::compile(phases[0].source(), Purpose::Step, options, end, &mut Alone) {
        Stage::Formed(formed) => formed.kernels,
        _ => unreachable!("`form` forms"),
    }
}

/// Numbers to fill a buffer with: reals in [−1, 1), ints that the buffer may hold, truth values.
fn content(buffer: &Buffer, state: &mut u64) -> Vec<f64> {
    let mut next = || {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *state >> 40
    };
    let mut number = || match buffer.storage {
        Storage::F32 => f64::from((next() as f64 / 8_388_608.0 - 1.0) as f32),
        Storage::Bf16 => bf16::from_f64(next() as f64 / 8_388_608.0 - 1.0).to_f64(),
        Storage::I32 => (next() % buffer.below.unwrap_or(2)) as f64,
        Storage::Bool => (next() % 2) as f64,
    };
    (0..buffer.elements).map(|_| number()).collect()
}

/// What kernels are, but for their names.
fn unnamed(kernel: &Kernel) -> String {
    Kernel { name: String::new(), origin: String::new(), ..kernel.clone() }.to_string()
}

/// Kernels that some test has taken in hand: models have many in common.
static CHECKED: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);

/// Runs a kernel on made-up data, beside the interpreter in f32; attention beside exact arithmetic. Of equal
/// kernels the first one is run.
fn check(kernel: &Kernel) {
    let first = CHECKED.lock().expect("no test panics in here").insert(unnamed(kernel));
    if !first {
        return;
    }
    if is_attention(kernel) {
        check_exact(kernel);
        return;
    }
    let arguments: Vec<&Buffer> =
        kernel.buffers.iter().filter(|b| b.access != Access::Local).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15;
    let content: Vec<Vec<f64>> = arguments.iter().map(|b| content(b, &mut state)).collect();
    let scalars = vec![0; kernel.scalars.len()];
    let mut expect = content.clone();
    kernel.interpret(&mut expect, &scalars, Arithmetic::F32).expect("the arguments fit");
    let sums = additions(kernel);
    for (schedule, results) in gpu::run(kernel, &content, &scalars) {
        for ((buffer, result), expect) in arguments.iter().zip(&results).zip(&expect) {
            let tolerance = tolerance(buffer.storage, sums);
            let differs = |(x, y): &(&f64, &f64)| {
                let equal = x == y || x.is_nan() && y.is_nan();
                !equal && (**x - **y).abs() > tolerance * y.abs().max(1.0)
            };
            let found = result.iter().zip(expect).position(|pair| differs(&pair));
            if let Some(i) = found {
                let (x, y) = (result[i], expect[i]);
                panic!("{schedule:?}: {}[{i}] is {x}, not {y}, in\n{kernel}", buffer.name);
            }
        }
    }
}

/// Whether products read what others have made: attention, which rounds between them.
fn is_attention(kernel: &Kernel) -> bool {
    fn find(body: &[Stmt], made: &mut HashSet<TileId>) -> bool {
        body.iter().any(|stmt| match stmt {
            Stmt::Let(value, expr) => {
                let reads = match expr {
                    Expr::Dot(a, b, _) => vec![*a, *b],
                    Expr::Pointwise(_, x) => x.clone(),
                    Expr::Reduce(_, x, _) => vec![*x],
                    _ => Vec::new(),
                };
                let depends = reads.iter().any(|x| made.contains(x));
                let product = matches!(expr, Expr::Dot(..));
                if depends || product {
                    made.insert(*value);
                }
                depends && product
            }
            Stmt::Loop { body, .. } => find(body, made),
            Stmt::When(_) | Stmt::Store { .. } => false,
        })
    }
    find(&kernel.body, &mut HashSet::new())
}

/// Runs a kernel of attention on made-up data: all results are within the bounds of their errors.
fn check_exact(kernel: &Kernel) {
    let mut state = 0x9e37_79b9_7f4a_7c15;
    let content: Vec<Vec<f64>> = kernel.buffers.iter().map(|b| content(b, &mut state)).collect();
    let scalars = vec![0; kernel.scalars.len()];
    let Bounded { kernel: reference, bounds } = bounded(kernel);
    let mut exact = content.clone();
    exact.extend(bounds.iter().map(|(of, _)| vec![0.0; content[*of].len()]));
    reference.interpret(&mut exact, &scalars, Arithmetic::F64).expect("the arguments fit");
    for (schedule, results) in gpu::run(kernel, &content, &scalars) {
        for (of, bound) in &bounds {
            for (i, x) in results[*of].iter().enumerate() {
                let (y, bound) = (exact[*of][i], exact[*bound][i]);
                let name = &kernel.buffers[*of].name;
                let near = (x - y).abs() <= bound;
                assert!(near, "{schedule:?}: {name}[{i}] is {x}, not {y} ± {bound}, in\n{kernel}");
            }
        }
    }
}

/// One step of bf16, or as many roundings of f32 as numbers are added in another order.
fn tolerance(storage: Storage, additions: u64) -> f64 {
    match storage {
        Storage::Bf16 => 1.0 / 128.0,
        _ => 4.0 * additions.max(8) as f64 * f64::from(f32::EPSILON),
    }
}

/// The most numbers that one element of a result is the sum of.
fn additions(kernel: &Kernel) -> u64 {
    fn collect(kernel: &Kernel, body: &[Stmt]) -> u64 {
        let of = |stmt: &Stmt| match stmt {
            Stmt::Loop { var, carried, body } if !carried.is_empty() => {
                kernel.var(*var).extent * collect(kernel, body)
            }
            Stmt::Loop { body, .. } => collect(kernel, body),
            Stmt::Let(_, Expr::Reduce(.., var)) => kernel.var(*var).tile,
            _ => 1,
        };
        body.iter().map(of).max().unwrap_or(1)
    }
    collect(kernel, &kernel.body)
}

#[test]
fn nano_in_f32() {
    kernels("nano", &[]).iter().for_each(check);
}

#[test]
fn nano_in_bf16() {
    let kernels = kernels("nano", &["train.precision=bf16"]);
    let on_tensor_cores = kernels.iter().filter(|k| gpu::compiled(k).ptx.contains("mma.sync"));
    assert!(on_tensor_cores.count() > 10);
    kernels.iter().for_each(check);
}

#[test]
fn learned_positions_and_layer_norms_in_bf16() {
    kernels("gpt2-nano", &["train.precision=bf16"]).iter().for_each(check);
}

/// A norm of 100 elements and 512 tokens: blocks of several rows keep what they need again in shared memory.
#[test]
fn layer_norms_over_short_rows() {
    let sets = ["D=100", "H=5", "T=256", "P=256", "train.precision=bf16"];
    let kernels = kernels("gpt2-nano", &sets);
    let keeps = |k: &&Kernel| k.buffers.iter().any(|b| b.access == Access::Local);
    let kept: Vec<&Kernel> = kernels.iter().filter(keeps).collect();
    assert!(!kept.is_empty());
    kept.into_iter().for_each(check);
}

#[test]
fn experts() {
    kernels("moe-nano", &[]).iter().for_each(check);
}

/// Odd sizes, and a batch of 1: products of single rows with the weights of each token's experts.
#[test]
fn experts_of_one_batch() {
    let sets = ["B=1", "T=17", "D=100", "F=91", "H=5", "E=7", "V=131", "train.precision=bf16"];
    kernels("moe-nano", &sets).iter().for_each(check);
}
