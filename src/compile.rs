//! From a model file to a program.

use std::path::Path;
use std::sync::Arc;

use gigac_codegen::x86::{self, CpuTarget};
use gigac_frontend::{Mode, Model, Source, SourceMap};
use gigac_ir::graph::{Feed, Graph};
use gigac_ir::kernel::Kernel;
use gigac_ir::program::{Program, ProgramPhase};
use gigac_ir::train::{Phase, Settings, Span};
use gigac_passes::driver::{Alone, Observer};
use gigac_passes::options::Options;
use gigac_passes::pipeline::{self, Programs, Source as Compiled};
use gigac_passes::{precision, price};

use crate::failure::Failure;

/// What a batch feeds to a step has no more elements: bytes of it are counted in 64 bits.
const MAX_ELEMENTS: u64 = 1 << 56;

/// A model file with the constants to change and the passes to run.
#[derive(Clone, Debug)]
pub struct Request {
    source: Source,
    folder: std::path::PathBuf,
    sets: Vec<(String, String)>,
    /// Which passes run.
    pub options: Options,
}

impl Request {
    /// Reads a model file. `sets` are `NAME=VALUE` pairs.
    ///
    /// # Errors
    /// A file that cannot be read or is not UTF-8, and a pair without `=`.
    pub fn read(path: &Path, sets: &[String], options: Options) -> Result<Self, Failure> {
        let pair = |set: &String| match set.split_once('=') {
            Some((name, value)) => Ok((name.trim().to_owned(), value.trim().to_owned())),
            None => Err(Failure::Usage(format!("`--set {set}`: write `--set NAME=VALUE`"))),
        };
        let sets = sets.iter().map(pair).collect::<Result<_, _>>()?;
        let bytes = std::fs::read(path)
            .map_err(|e| Failure::Input(format!("cannot read `{}`: {e}", path.display())))?;
        let text = String::from_utf8(bytes).map_err(|e| {
            let at = e.utf8_error().valid_up_to();
            let line = e.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1;
            let path = path.display();
            Failure::Input(format!(
                "{path}:{line}: the file is not UTF-8 (byte {at}); save it as UTF-8"
            ))
        })?;
        let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        Ok(Self { source: Source::new(path.display().to_string(), text), folder, sets, options })
    }

    /// The text, for a digest.
    pub fn text(&self) -> &str {
        &self.source.text
    }

    /// The changed constants.
    pub fn sets(&self) -> &[(String, String)] {
        &self.sets
    }

    /// Changes more constants.
    pub fn set(&mut self, sets: Vec<(String, String)>) {
        self.sets.extend(sets);
    }

    /// The same model compiled with other passes.
    #[must_use]
    pub fn with(&self, options: Options) -> Self {
        Self { options, ..self.clone() }
    }

    /// Parses and checks the model, with `more` constants changed.
    ///
    /// # Errors
    /// All mistakes of the text, rendered.
    pub fn model(&self, more: &[(String, String)], training: bool) -> Result<Model, Failure> {
        let load = |name: &str| {
            let path = self.folder.join(name);
            let text = std::fs::read_to_string(&path).map_err(|e| e.to_string())?;
            Ok(Source::new(path.display().to_string(), text))
        };
        let sets: Vec<(String, String)> = self.sets.iter().chain(more).cloned().collect();
        let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
        gigac_frontend::compile(&self.source, &load, &sets, Mode { training })
            .map_err(|errors| Failure::Input(errors.render(colour)))
    }
}

/// One phase of a model, checked.
pub struct CheckedPhase {
    /// What the phase changes.
    pub phase: Option<Phase>,
    /// Its settings.
    pub settings: Settings,
    /// The forward graph with `training`.
    pub graph: Graph,
    /// The forward graph without it.
    pub evaluating: Graph,
    /// Micro-batches of one step.
    pub micro: u64,
    /// The texts that spans point into.
    pub sources: Arc<SourceMap>,
    /// Stands in front of the names of its kernels.
    prefix: String,
}

impl CheckedPhase {
    /// Tokens of one step.
    pub fn tokens_per_step(&self) -> u64 {
        tokens_of(&self.graph) * self.micro
    }

    /// What the passes take.
    pub fn source(&self) -> Compiled<'_> {
        Compiled {
            training: &self.graph,
            evaluating: &self.evaluating,
            settings: &self.settings,
            micro: self.micro,
            prefix: &self.prefix,
        }
    }
}

/// One phase in plans and kernels.
pub struct CompiledPhase {
    /// The phase.
    pub checked: CheckedPhase,
    /// Its programs.
    pub programs: Programs,
}

/// The phases of a model: as declared, or one without an end.
///
/// # Errors
/// Mistakes of the text, also those that only the changed constants of a phase bring about.
pub fn checked(request: &Request) -> Result<Vec<CheckedPhase>, Failure> {
    let train = request.model(&[], true)?.train.unwrap_or_default();
    let mut phases = if train.phases.is_empty() {
        vec![phase(request, None, train.settings.clone(), String::new())?]
    } else {
        let named = train.phases.iter().enumerate();
        let mut phases: Vec<CheckedPhase> = named
            .map(|(i, p)| phase(request, Some(p.clone()), p.settings.clone(), format!("phase{i}_")))
            .collect::<Result<_, Failure>>()?;
        schedule_spans(&mut phases);
        phases
    };
    note_copies(&mut phases);
    Ok(phases)
}

/// Notes in all graphs of all phases which weights have a copy in bf16: those that any phase reads so.
fn note_copies(phases: &mut [CheckedPhase]) {
    let copies = phases.iter().flat_map(|phase| precision::copies(phase.source())).collect();
    for phase in phases {
        precision::note_copies(&mut phase.graph, &copies);
        precision::note_copies(&mut phase.evaluating, &copies);
    }
}

/// A phase's own schedule runs over it alone; the schedule of the block runs over neighbouring
/// phases without one.
fn schedule_spans(phases: &mut [CheckedPhase]) {
    let count = phases.len();
    let own = |phase: &CheckedPhase| phase.phase.as_ref().is_some_and(|p| p.own_schedule);
    let alone: Vec<bool> = phases.iter().map(own).collect();
    let mut starts = vec![0_u64];
    for phase in &*phases {
        let tokens = phase.phase.as_ref().map_or(0, |p| p.tokens);
        let steps = tokens.div_ceil(phase.tokens_per_step().max(1));
        starts.push(starts[starts.len() - 1].saturating_add(steps));
    }
    let joined = |a: usize, b: usize| !alone[a] && !alone[b];
    for (index, phase) in phases.iter_mut().enumerate() {
        let first = (0..index).rev().find(|i| !joined(*i, *i + 1)).map_or(0, |i| i + 1);
        let last = (index..count - 1).find(|i| !joined(*i, *i + 1)).unwrap_or(count - 1);
        phase.settings.span = Span { first: starts[first], end: Some(starts[last + 1]) };
    }
}

fn phase(
    request: &Request,
    phase: Option<Phase>,
    settings: Settings,
    prefix: String,
) -> Result<CheckedPhase, Failure> {
    let sets = phase.as_ref().map_or(&[][..], |p| &p.sets);
    let gigac_frontend::Model { graph, sources, .. } = request.model(sets, true)?;
    let evaluating = request.model(sets, false)?.graph;
    let micro = match settings.batch_tokens {
        Some(tokens) => (tokens as f64 / tokens_of(&graph) as f64).round().max(1.0) as u64,
        None => 1,
    };
    let fed = graph.inputs.iter().map(|i| graph.elements(&i.ty.axes));
    let fed = fed.fold(0, u64::saturating_add);
    if fed.saturating_mul(micro) > MAX_ELEMENTS {
        return Err(Failure::Input(format!(
            "`batch {} tokens` is {micro} micro-batches, whose inputs would have more than 2^56 \
             elements: choose a smaller one",
            settings.batch_tokens.unwrap_or_default()
        )));
    }
    Ok(CheckedPhase { phase, settings, graph, evaluating, micro, sources, prefix })
}

/// The phases of a model in plans and kernels.
///
/// # Errors
/// See [`checked`].
pub fn phases(
    request: &Request,
    observer: &mut dyn Observer,
) -> Result<Vec<CompiledPhase>, Failure> {
    let compiled = checked(request)?.into_iter().map(|checked| {
        let programs = pipeline::programs(checked.source(), &request.options, observer);
        CompiledPhase { checked, programs }
    });
    Ok(compiled.collect())
}

/// Tokens of one micro-batch: the elements of the input `tokens`, or of the first input of data.
pub fn tokens_of(graph: &Graph) -> u64 {
    let data = |i: &&gigac_ir::graph::Input| i.feed == Feed::Data;
    let tokens = graph.inputs.iter().find(|i| i.name == "tokens");
    let input = tokens.or_else(|| graph.inputs.iter().find(data));
    input.map_or(1, |i| graph.elements(&i.ty.axes))
}

/// All kernels of phases, in the order of their plans.
pub fn kernels(phases: &[CompiledPhase]) -> Vec<Kernel> {
    let placed = |p: &CompiledPhase| {
        let programs = &p.programs;
        [&programs.step, &programs.evaluate, &programs.outputs].map(|p| p.kernels.clone()).concat()
    };
    phases.iter().flat_map(placed).collect()
}

/// Compiles a model to a program for a CPU.
///
/// # Errors
/// Mistakes of the text, and failures of code generation.
pub fn program(request: &Request, target: &CpuTarget) -> Result<Program, Failure> {
    let phases = phases(request, &mut Alone)?;
    let image = x86::compile_cpu(&kernels(&phases), target)
        .map_err(|e| Failure::Machine(format!("code generation failed: {e}")))?;
    let first = &phases[0].checked.graph;
    Ok(Program {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        model: first.name.clone(),
        parameters: first.parameter_count(),
        image,
        phases: phases.into_iter().map(finish).collect(),
    })
}

fn finish(phase: CompiledPhase) -> ProgramPhase {
    let CompiledPhase { checked, programs } = phase;
    let price = price::price(&checked.graph);
    let tokens_per_step = checked.tokens_per_step();
    let has_outputs = !programs.outputs.plan.results.is_empty();
    ProgramPhase {
        tokens: checked.phase.map(|p| p.tokens),
        settings: checked.settings,
        tokens_per_step,
        micro_batches: checked.micro,
        flops_per_token: price.flops_per_token,
        model_flops_per_token: price.model_flops_per_token,
        gflop_step: price.model_flops_per_token * tokens_per_step as f64 / 1e9,
        step: programs.step.plan,
        evaluate: programs.evaluate.plan,
        outputs: has_outputs.then_some(programs.outputs.plan),
    }
}
