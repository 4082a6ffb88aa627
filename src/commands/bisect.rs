//! `gigac bisect`: the first pass after which results differ.
//!
//! One training step of a small configuration is computed again and again: by the interpreter, from
//! the graph that no optional pass has touched; then with one more pass each time; then from
//! kernels, from the plan, and by machine code. Each is compared with the first.
//!
//! Where a model says `precision bf16`, another spelling rounds other values, and gradients that cancel
//! differ by percents. So passes up to `precision` are compared with nothing rounded, and those
//! behind it with the graph that it made, whose casts they must keep. Machine code computes in f32, and what
//! lies near the middle of two bf16 then goes the other way now and then: there `ROUNDED` is forgiven.

use clap::Args;
use gigac_codegen::x86;
use gigac_ir::graph::{DType, Graph, InputId, ParamId, Role};
use gigac_ir::interpret::{Bindings, interpret};
use gigac_ir::kernel::{Arithmetic, Storage};
use gigac_ir::train::Settings;
use gigac_passes::driver::Alone;
use gigac_passes::options::Options;
use gigac_passes::outcome::{self, Difference, Outcome};
use gigac_passes::pass::{Need, Purpose, Stage};
use gigac_passes::pipeline::{self, PIPELINE};
use gigac_runtime::exec::arena::Arena;
use gigac_runtime::exec::code::Kernels;
use gigac_runtime::exec::executor::Executor;
use gigac_runtime::exec::pool::Pool;

use super::build::TargetName;
use super::{ModelArgs, print};
use crate::compile::{self, CheckedPhase, Request};
use crate::failure::Failure;
use crate::shrink::shrink;

/// Micro-batches, at most: enough for their loop to carry something.
const MOST_MICRO: u64 = 2;

/// How far machine code may be where it rounds to bf16: four units in the last place.
const ROUNDED: f64 = 1.0 / 64.0;

/// Flags of `bisect`.
#[derive(Args, Debug)]
pub struct BisectArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Largest difference of a result: its norm, over the norm of the result.
    #[arg(long, default_value_t = 1e-4)]
    tolerance: f64,
    /// Takes the sizes of the model as they are instead of halving axes.
    #[arg(long)]
    full_size: bool,
}

/// The step that everything is compared with, and how to compute others.
struct Trial {
    request: Request,
    phase: CheckedPhase,
    bindings: Bindings,
    /// The settings with nothing rounded.
    unrounded: Settings,
}

/// What is farthest from the reference, and how far.
struct Farthest {
    outcome: Outcome,
    difference: Difference,
}

/// Runs `bisect`.
///
/// # Errors
/// Mistakes of the model; a pass that changes results, which is a fault of gigac.
pub fn run(args: &BisectArgs) -> Result<(), Failure> {
    let mut request = args.model.read()?;
    if !args.full_size {
        let sets = shrink(&request)?;
        let words: Vec<String> = sets.iter().map(|(n, v)| format!("--set {n}={v}")).collect();
        eprintln!("sizes: {}", words.join(" "));
        request.set(sets);
    }
    let mut phase = compile::checked(&request)?.swap_remove(0);
    phase.micro = phase.micro.min(MOST_MICRO);
    let trial = Trial::new(request, phase);
    let rounds = trial.phase.settings.precision.compute == DType::Bf16;
    let (precision, form) = (pipeline::position("precision"), pipeline::position("form"));
    let mut reference = trial.with_limit(0, form, &trial.unrounded);
    for (position, pass) in PIPELINE.iter().enumerate() {
        if position == precision && rounds {
            reference = trial.with_limit(position + 1, form, &trial.phase.settings);
            print("precision      rounds: what follows is compared with its graph\n")?;
        }
        let runs = trial.request.options.runs(position, pass);
        let graph = position < form;
        if !runs || graph && pass.need != Need::Optional {
            continue;
        }
        let end = if graph { form } else { position + 1 };
        let settings = if position < precision { &trial.unrounded } else { &trial.phase.settings };
        let results = trial.with_limit(position + 1, end, settings);
        judge(pass.name, &reference, &results, args.tolerance)?;
    }
    let results = trial.machine()?;
    let forgiven = if rounds { args.tolerance.max(ROUNDED) } else { args.tolerance };
    judge("machine code", &reference, &results, forgiven)?;
    let code = if rounds {
        format!(", nor machine code by more than {forgiven:e}")
    } else {
        String::new()
    };
    print(&format!("no pass changes a result by more than {:e}{code}\n", args.tolerance))
}

/// Prints how far results are from the reference; an error when that is too far.
fn judge(
    pass: &str,
    reference: &[Outcome],
    results: &[Outcome],
    tolerance: f64,
) -> Result<(), Failure> {
    let Some(Farthest { outcome, difference }) = farthest(reference, results) else {
        return Err(Failure::Machine(format!("`{pass}` changed which results there are")));
    };
    let Difference { relative, worst: (index, want, got) } = difference;
    match relative == 0.0 {
        true => print(&format!("{pass:<14}         0\n"))?,
        false => print(&format!("{pass:<14} {relative:>9.2e}  {}\n", outcome.name))?,
    }
    if relative <= tolerance {
        return Ok(());
    }
    let place = outcome.place(index);
    Err(Failure::Machine(format!(
        "results differ after `{pass}`: {} by {relative:.2e} of its norm; worst is {place}: {got:e} \
         instead of {want:e}",
        outcome.name
    )))
}

/// A gradient below this part of the largest one is 0 but for rounding, and judged at its scale.
const NOTHING: f64 = 1e-12;

fn farthest(reference: &[Outcome], results: &[Outcome]) -> Option<Farthest> {
    let same = reference.iter().map(|o| &o.role).eq(results.iter().map(|o| &o.role));
    let pairs = reference.iter().zip(results).filter(|_| same);
    let gradients = reference.iter().filter(|o| matches!(o.role, Role::Gradient(_)));
    let largest = gradients.map(Outcome::norm).fold(0.0, f64::max);
    let nothing =
        |o: &Outcome| matches!(o.role, Role::Gradient(_)) && o.norm() <= NOTHING * largest;
    let far = pairs.map(|(a, b)| {
        let least = if nothing(a) { largest } else { 0.0 };
        Farthest { outcome: a.clone(), difference: a.difference(b, least) }
    });
    far.max_by(|a, b| a.difference.relative.total_cmp(&b.difference.relative))
}

impl Trial {
    fn new(request: Request, phase: CheckedPhase) -> Self {
        let mut unrounded = phase.settings.clone();
        unrounded.precision.compute = DType::F32;
        let mut trial = Self { request, phase, bindings: Bindings::default(), unrounded };
        trial.bindings = Bindings::example(&trial.step_graph(&trial.request.options));
        trial
    }

    /// The results when optional passes from a position on are off, computed from what stands
    /// before the pass at `end`.
    fn with_limit(&self, limit: usize, end: usize, settings: &Settings) -> Vec<Outcome> {
        let mut options = self.request.options.clone();
        options.limit = limit;
        match self.compile(&options, end, settings) {
            Stage::Graph(graph) => {
                let results = interpret(&graph, &self.bindings);
                outcome::of_graph(&graph, results.unwrap_or_else(|e| panic!("{e}")))
            }
            Stage::Formed(formed) => formed.interpret(&self.bindings, Arithmetic::F64),
            Stage::Placed(placed) => {
                placed.interpret(&self.step_graph(&options), &self.bindings, Arithmetic::F64)
            }
        }
    }

    fn compile(&self, options: &Options, end: usize, settings: &Settings) -> Stage {
        let source = pipeline::Source { settings, ..self.phase.source() };
        pipeline::compile(source, Purpose::Step, options, end, &mut Alone)
    }

    /// The graph that kernels are formed from.
    fn step_graph(&self, options: &Options) -> Graph {
        match self.compile(options, pipeline::position("form"), &self.phase.settings) {
            Stage::Graph(graph) => graph,
            _ => unreachable!("kernels are formed from a graph"),
        }
    }
    /// The results of machine code, in f32.
    fn machine(&self) -> Result<Vec<Outcome>, Failure> {
        let options = &self.request.options;
        let settings = &self.phase.settings;
        let Stage::Placed(placed) = self.compile(options, PIPELINE.len(), settings) else {
            unreachable!("the list ends with a plan")
        };
        let image = x86::compile_cpu(&placed.kernels, &TargetName::Cpu.cpu()?)
            .map_err(|e| Failure::Machine(format!("code generation failed: {e}")))?;
        let failed = |e: gigac_runtime::Error| Failure::Machine(e.to_string());
        let kernels = Kernels::map(&image).map_err(failed)?;
        let plan = &placed.plan;
        let graph = self.step_graph(options);
        let mut arena = Arena::new(plan.arena_bytes).map_err(failed)?;
        let mut pool = Pool::new(1, kernels.scratch_bytes()).map_err(failed)?;
        arena.poison(0);
        for state in &plan.states {
            let data = self.bindings.state(&graph, ParamId(state.param), state.slot);
            let data = data.unwrap_or_else(|e| panic!("{e}"));
            put(&mut arena, state.offset, state.slot.dtype().storage(), &data);
        }
        for input in &plan.inputs {
            let id = graph.inputs.iter().position(|i| i.name == input.name);
            let id = InputId(id.expect("the inputs of a plan are its graph's") as u32);
            let data = self.bindings.input(&graph, id).unwrap_or_else(|e| panic!("{e}"));
            put(&mut arena, input.offset, input.storage, &data);
        }
        let mut executor = Executor::new(plan, &kernels, arena.bytes()).map_err(failed)?;
        executor.run_checked(&mut arena, &mut pool).map_err(failed)?;
        let read = |offset, storage, count| get(&arena, offset, storage, count);
        Ok(placed.outcomes(&graph.roles, read))
    }
}

/// Writes numbers as elements.
fn put(arena: &mut Arena, offset: u64, storage: Storage, data: &[f64]) {
    let count = data.len();
    match storage {
        Storage::F32 => fill(arena.slice_mut(offset, count), data, |x| x as f32),
        Storage::I32 => fill(arena.slice_mut(offset, count), data, |x| x as i32),
        Storage::Bool => fill(arena.slice_mut(offset, count), data, |x| x as u8),
        Storage::Bf16 => {
            fill(arena.slice_mut(offset, count), data, |x| half::bf16::from_f64(x).to_bits());
        }
    }
}

fn fill<T>(elements: &mut [T], data: &[f64], convert: impl Fn(f64) -> T) {
    elements.iter_mut().zip(data).for_each(|(element, x)| *element = convert(*x));
}

/// Reads elements as numbers.
fn get(arena: &Arena, offset: u64, storage: Storage, count: u64) -> Vec<f64> {
    let count = count as usize;
    match storage {
        Storage::F32 => arena.slice::<f32>(offset, count).iter().map(|x| (*x).into()).collect(),
        Storage::I32 => arena.slice::<i32>(offset, count).iter().map(|x| (*x).into()).collect(),
        Storage::Bool => arena.slice::<u8>(offset, count).iter().map(|x| (*x).into()).collect(),
        Storage::Bf16 => {
            let bits = arena.slice::<u16>(offset, count).iter();
            bits.map(|x| half::bf16::from_bits(*x).into()).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gigac_ir::graph::Role;

    fn outcome(data: [f64; 2]) -> Outcome {
        let axes = vec![("X".to_owned(), 2)];
        Outcome { role: Role::Loss, name: "loss".to_owned(), axes, data: data.to_vec() }
    }

    #[test]
    fn the_pass_and_the_values_are_named() {
        let (reference, near) = ([outcome([3.0, 4.0])], [outcome([3.0, 4.000_001])]);
        judge("near", &reference, &near, 1e-4).expect("within the tolerance");
        let error = judge("fuse", &reference, &[outcome([3.0, 5.0])], 1e-4).unwrap_err();
        assert_eq!(
            error.to_string(),
            "results differ after `fuse`: loss by 2.00e-1 of its norm; worst is [X = 1]: 5e0 instead of 4e0"
        );
        assert!(judge("fuse", &reference, &[], 1.0).is_err(), "a result is missing");
    }
}
