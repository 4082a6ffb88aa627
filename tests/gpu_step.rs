//! Whole training steps in emulated GPU kernels, launched in the order of the plan in one memory
//! that outlives launches, with all checks, beside the CPU's machine code.
//!
//! Both sides have the same casts, but add in different orders. A sum that lies between two numbers of
//! bf16 may therefore be rounded either way, and be off by 2⁻⁸ of itself; in f32 only roundings of
//! sums differ.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use gigac::compile::{self, Request};
use gigac_codegen::nvptx::{GpuTarget, PtxKernel, compile_launch};
use gigac_codegen::x86::{CpuTarget, compile_cpu};
use gigac_emulator::{Launch, Memory, Module, Schedule};
use gigac_ir::graph::{Feed, Node, Op, Role, Slot};
use gigac_ir::kernel::Storage;
use gigac_ir::plan::{self, Call, Command, Launched, Plan, PlanInput};
use gigac_passes::driver::Alone;
use gigac_passes::options::Options;
use gigac_passes::pass::{Purpose, Stage};
use gigac_passes::pipeline::{self, PIPELINE};
use gigac_passes::place::Placed;
use gigac_runtime::exec::arena::Arena;
use gigac_runtime::exec::code::Kernels;
use gigac_runtime::exec::executor::Executor;
use gigac_runtime::exec::pool::Pool;
use gigac_runtime::weights::random::Stream;

/// Bytes for the models to learn.
const TEXT: &[u8] = include_bytes!("../models/prelude.giga");
/// Seed of the initial weights.
const SEED: u32 = 3;
/// Steps of a run.
const STEPS: u64 = 20;

/// A machine that runs a plan in an arena.
trait Device {
    fn plan(&self) -> &Plan;
    fn write(&mut self, offset: u64, bytes: &[u8]);
    fn read(&self, offset: u64, bytes: u64) -> Vec<u8>;
    fn run(&mut self, step: u64);

    fn floats(&self, offset: u64, count: u64) -> Vec<f64> {
        let bytes = self.read(offset, 4 * count);
        let float = |b: &[u8]| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        bytes.chunks_exact(4).map(float).collect()
    }

    fn result(&self, role: &Role) -> Vec<f64> {
        let result = self.plan().result(role).unwrap_or_else(|| panic!("no {role:?}"));
        assert_eq!(result.storage, Storage::F32, "{role:?}");
        self.floats(result.offset, result.axes.iter().map(|(_, size)| size).product())
    }

    fn start(&mut self) {
        for state in self.plan().states.clone() {
            let param = &self.plan().params[state.param as usize];
            let mut values = vec![0.0; self.plan().elements(&state) as usize];
            if matches!(state.slot, Slot::Weight | Slot::Rounded) {
                Stream::new(SEED, &param.name).fill(param.init, 0, &mut values);
            }
            let bytes: Vec<u8> = match state.slot {
                Slot::Rounded => rounded(&values),
                _ => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            };
            self.write(state.offset, &bytes);
        }
    }

    fn step(&mut self, step: u64) {
        for input in self.plan().inputs.clone() {
            assert_eq!(input.storage, Storage::I32, "{}", input.name);
            let bytes: Vec<u8> = values(&input, step).flat_map(i32::to_le_bytes).collect();
            self.write(input.offset, &bytes);
        }
        self.run(step);
    }
}

/// What an input holds in a step: windows of the text, one byte further for targets.
fn values(input: &PlanInput, step: u64) -> impl Iterator<Item = i32> {
    let count: u64 = input.axes.iter().map(|(_, size)| size).product();
    let later = u64::from(input.name == "targets");
    let feed = input.feed;
    (0..count).map(move |i| match feed {
        Feed::Data => i32::from(TEXT[(step * count + i + later) as usize % TEXT.len()]),
        Feed::Optional(value) => value as i32,
        Feed::Step => step as i32,
        Feed::Steps => STEPS as i32,
        Feed::Seed => SEED as i32,
    })
}

/// A model and what it is set to.
struct Model {
    path: PathBuf,
    sets: Vec<String>,
}

impl Model {
    fn shipped(name: &str, sets: &[&str]) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("models/{name}.giga"));
        Self { path, sets: sets.iter().map(|s| (*s).to_owned()).collect() }
    }

    /// Its step as the passes before a position leave it.
    fn before(&self, end: usize, options: Options) -> Stage {
        let request = Request::read(&self.path, &self.sets, options).expect("models are right");
        let phases = compile::checked(&request).expect("models are right");
        pipeline::compile(phases[0].source(), Purpose::Step, &request.options, end, &mut Alone)
    }

    fn placed(&self, options: Options) -> Placed {
        match self.before(PIPELINE.len(), options) {
            Stage::Placed(placed) => placed,
            _ => unreachable!("the list ends with a plan"),
        }
    }
}

/// A program for an A100.
fn a100() -> Options {
    let mut options = Options::default();
    options.aim(&gigac_cost::target::Device::named("a100").expect("a device of the list"));
    options
}

/// The CPU.
struct Cpu {
    placed: Placed,
    kernels: Kernels,
    arena: Arena,
    pool: Pool,
}

impl Cpu {
    fn new(placed: Placed) -> Self {
        let target = CpuTarget::host().expect("a CPU with AVX2");
        let image = compile_cpu(&placed.kernels, &target).expect("kernels compile");
        let kernels = Kernels::map(&image).expect("memory for code");
        let arena = Arena::new(placed.plan.arena_bytes).expect("memory");
        let pool = Pool::new(1, kernels.scratch_bytes()).expect("a thread");
        Self { placed, kernels, arena, pool }
    }
}

impl Device for Cpu {
    fn plan(&self) -> &Plan {
        &self.placed.plan
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.arena.slice_mut::<u8>(offset, bytes.len()).copy_from_slice(bytes);
    }

    fn read(&self, offset: u64, bytes: u64) -> Vec<u8> {
        self.arena.slice::<u8>(offset, bytes as usize).to_vec()
    }

    fn run(&mut self, _step: u64) {
        let executor = Executor::new(&self.placed.plan, &self.kernels, self.arena.bytes());
        executor.expect("the plan fits").run(&mut self.arena, &mut self.pool);
    }
}

/// An emulated GPU.
struct Gpu {
    placed: Placed,
    /// By the kernels that are launched together.
    launches: HashMap<Vec<u32>, (Module, PtxKernel)>,
    memory: Memory,
    arena: u64,
}

impl Gpu {
    fn new(placed: Placed) -> Self {
        let compiled = |Launched { name, kernels }: Launched| {
            let parts: Vec<_> = kernels.iter().map(|k| &placed.kernels[*k as usize]).collect();
            let code = compile_launch(&name, &parts, GpuTarget::Sm80).expect("kernels compile");
            (kernels, (Module::parse(&code.ptx).expect("PTX"), code))
        };
        let launches: HashMap<_, _> = placed.plan.launched().into_iter().map(compiled).collect();
        assert!(launches.keys().any(|kernels| kernels.len() > 1), "nothing is launched together");
        let mut memory = Memory::new();
        let arena = memory.fresh_buffer("arena", placed.plan.arena_bytes);
        Self { placed, launches, memory, arena }
    }

    fn launch(&self, calls: &[Call], schedule: Schedule) {
        let kernels: Vec<u32> = calls.iter().map(|call| call.kernel).collect();
        let (module, code) = &self.launches[&kernels];
        let mut launch = Launch::new(module, &code.name)
            .grid([code.blocks as u32, 1, 1])
            .block([code.threads as u32, 1, 1])
            .dynamic_shared(code.shared_bytes as u32)
            .schedule(schedule);
        for Call { buffers, scalars, .. } in calls {
            for buffer in buffers {
                launch = launch.pointer(self.arena + buffer);
            }
            for scalar in scalars {
                launch = launch.u32(*scalar as u32);
            }
        }
        let report = launch.run_in(&self.memory).unwrap_or_else(|e| panic!("{}: {e}", code.name));
        let findings = &report.findings;
        assert!(findings.is_empty(), "{} at {calls:?}: {findings:#?}", code.name);
    }
}

impl Device for Gpu {
    fn plan(&self) -> &Plan {
        &self.placed.plan
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        assert!(self.memory.write(self.arena + offset, bytes), "inside the arena");
    }

    fn read(&self, offset: u64, bytes: u64) -> Vec<u8> {
        self.memory.read(self.arena + offset, bytes as usize).expect("inside the arena")
    }

    /// Every step advances warps in another order.
    fn run(&mut self, step: u64) {
        let schedule = match step % 3 {
            0 => Schedule::LowestFirst,
            1 => Schedule::HighestFirst,
            _ => Schedule::Random(step),
        };
        self.placed.plan.commands(|command| match command {
            Command::Launch(calls) => self.launch(&calls, schedule),
            Command::Copy { from, to, bytes } => {
                let device = [from, to].iter().all(|spot| spot.memory == plan::Memory::Device);
                assert!(device, "nothing is offloaded in these plans");
                let data = self.read(from.offset, bytes);
                assert!(self.memory.write(self.arena + to.offset, &data), "inside the arena");
            }
        });
    }
}

/// How far results of the two sides may be apart: relative, for tensors in norm.
struct Bounds {
    /// Loss of a step.
    loss: f64,
    /// Norm of the gradients of a step, which are those of weights that have drifted apart.
    norm: f64,
    /// Gradients of the first step.
    gradients: f64,
    /// Weights after the last step.
    weights: f64,
}

/// Trains on both sides and compares them.
fn compare(model: &Model, options: Options, steps: u64, bounds: &Bounds) {
    let mut cpu = Cpu::new(model.placed(Options::default()));
    let mut gpu = Gpu::new(model.placed(options));
    cpu.start();
    gpu.start();
    let mut losses = Vec::new();
    for step in 0..steps {
        cpu.step(step);
        gpu.step(step);
        for (role, bound) in [(Role::Loss, bounds.loss), (Role::GradNorm, bounds.norm)] {
            near(&format!("{role:?} of step {step}"), &role, &cpu, &gpu, bound);
        }
        if step == 0 {
            let roles = cpu.plan().results.iter().map(|r| r.role.clone());
            for role in roles.filter(|role| matches!(role, Role::Gradient(_))) {
                near(&format!("{role:?}"), &role, &cpu, &gpu, bounds.gradients);
            }
        }
        losses.push(cpu.result(&Role::Loss)[0]);
    }
    assert!(losses[losses.len() - 1] < losses[0], "nothing is learnt: {losses:?}");
    for (a, b) in cpu.plan().states.iter().zip(&gpu.plan().states) {
        assert_eq!((a.param, a.slot), (b.param, b.slot));
        if a.slot != Slot::Weight {
            continue;
        }
        let count = cpu.plan().elements(a);
        let (x, y) = (cpu.floats(a.offset, count), gpu.floats(b.offset, count));
        let name = &cpu.plan().params[a.param as usize].name;
        assert_near(name, &x, &y, bounds.weights);
    }
    copies_are_the_weights(&cpu);
    copies_are_the_weights(&gpu);
}

/// Every copy in bf16 is its weight of after the last step, rounded.
fn copies_are_the_weights(device: &impl Device) {
    let plan = device.plan();
    for copy in plan.states.iter().filter(|s| s.slot == Slot::Rounded) {
        let count = plan.elements(copy);
        let weight = |s: &&plan::State| s.slot == Slot::Weight && s.param == copy.param;
        let weight = plan.states.iter().find(weight).expect("what has a copy has a weight");
        let weights: Vec<f32> =
            device.floats(weight.offset, count).into_iter().map(|x| x as f32).collect();
        let name = &plan.params[copy.param as usize].name;
        assert!(device.read(copy.offset, 2 * count) == rounded(&weights), "the copy of {name}");
    }
}

/// Numbers in bf16.
fn rounded(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()).collect()
}

fn near(what: &str, role: &Role, cpu: &Cpu, gpu: &Gpu, bound: f64) {
    assert_near(what, &cpu.result(role), &gpu.result(role), bound);
}

fn assert_near(what: &str, x: &[f64], y: &[f64], bound: f64) {
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let apart = norm(&mut x.iter().zip(y).map(|(x, y)| x - y)) / norm(&mut x.iter().copied());
    println!("{what}: {apart:.2e}");
    assert!(apart <= bound, "{what}: {apart:e} apart");
}

#[test]
fn steps_in_f32() {
    let bounds = Bounds { loss: 1e-6, norm: 1e-5, gradients: 1e-6, weights: 1e-5 };
    compare(&Model::shipped("nano", &["T=16"]), a100(), STEPS, &bounds);
}

#[test]
fn steps_in_bf16() {
    let sets = ["T=16", "train.precision=bf16"];
    let step = 1.0 / 256.0;
    compare(
        &Model::shipped("nano", &sets),
        a100(),
        STEPS,
        &Bounds { loss: step, norm: 8.0 * step, gradients: step, weights: 8.0 * step },
    );
}

/// Gradients of small weights are sums over all tokens: pieces of them, added by kernels of their own. Sums of `n`
/// numbers in another order are `n·2⁻²⁴` of what they add up apart (`codegen/tests/siblings`); here they are of
/// 3072 tokens, and what is rounded to bf16 in between may round the other way.
#[test]
fn products_in_pieces() {
    let text = "model narrow
axes B = 8, T = 384, V = 256, D = 64, E = 64
param embed[V, D], w[E, D], head[V, E] ~ normal(0.1)
input tokens[B, T] : token(V), targets[B, T] : token(V)
let h = tanh(dot(embed[V = tokens], w; D))
loss mean(cross_entropy(dot(h, head; E), targets; V))
train {
  optimizer  adamw(beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0.1)
  schedule   constant(0.003)
  clip       1.0
  precision  bf16
}
";
    let path = std::env::temp_dir().join(format!("gigac-narrow-{}.giga", std::process::id()));
    std::fs::write(&path, text).expect("a file for the model");
    let model = Model { path, sets: Vec::new() };
    let Stage::Graph(graph) = model.before(pipeline::position("form"), a100()) else {
        panic!("`form` takes a graph");
    };
    let nodes = &graph.root.nodes;
    let products: Vec<_> = nodes.iter().filter(|n| matches!(n.op, Op::Dot { .. })).collect();
    let of_product = |n: &Node| products.iter().any(|p| p.results[0] == n.operands[0]);
    let added = nodes.iter().filter(|n| matches!(n.op, Op::Reduce { .. }) && of_product(n));
    assert_eq!(added.count(), 1, "the gradient of `head` is not split:\n{graph}");
    let step = 1.0 / 256.0;
    let bounds = Bounds { loss: step, norm: 8.0 * step, gradients: step, weights: 8.0 * step };
    compare(&model, a100(), 3, &bounds);
    std::fs::remove_file(&model.path).expect("the file is there");
}
