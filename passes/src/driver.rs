//! Runs passes: verifies after each, measures and shows them to whoever looks on.
//!
//! Passes themselves do none of this. The driver has no clock either: its [`Observer`] brings one.

use std::time::Duration;

use crate::form::Formed;
use crate::pass::{Context, Pass, Report, Run, Scope, Stage};

/// Looks on while passes run.
pub trait Observer {
    /// The time since some moment that stays the same.
    fn now(&mut self) -> Duration;

    /// Whether the text of the program after this pass is wanted.
    fn watches(&self, pass: &Pass) -> bool;

    /// A pass has run.
    fn ran(&mut self, ran: &Ran<'_>);
}

/// One run of a pass.
pub struct Ran<'r> {
    /// The pass.
    pub pass: &'r Pass,
    /// What it was told.
    pub context: &'r Context<'r>,
    /// How long it took, without verification.
    pub time: Duration,
    /// What it did.
    pub report: Report,
    /// The text of the program, when it is wanted and differs from the one before.
    pub text: Option<String>,
}

/// Nobody looks on.
pub struct Alone;

impl Observer for Alone {
    fn now(&mut self) -> Duration {
        Duration::ZERO
    }

    fn watches(&self, _: &Pass) -> bool {
        false
    }

    fn ran(&mut self, _: &Ran<'_>) {}
}

/// Runs those of the passes that the options leave on. The first one stands at `position` of the
/// list.
///
/// # Panics
/// When a pass breaks the program, or passes stand in an order in which their forms do not fit.
pub fn drive(
    passes: &[Pass],
    position: usize,
    mut stage: Stage,
    context: &Context<'_>,
    observer: &mut dyn Observer,
) -> Stage {
    let in_scope =
        |p: &Pass| p.scope == Scope::All || context.purpose == super::pass::Purpose::Step;
    for (i, pass) in passes.iter().enumerate() {
        if in_scope(pass) && context.options.runs(position + i, pass) {
            stage = step(pass, stage, context, observer);
        }
    }
    stage
}

fn step(pass: &Pass, stage: Stage, context: &Context<'_>, observer: &mut dyn Observer) -> Stage {
    let before = observer.watches(pass).then(|| stage.to_string());
    let started = observer.now();
    let (stage, report) = apply(pass, stage, context);
    let time = observer.now().saturating_sub(started);
    verify(&stage, pass);
    let text = before.and_then(|before| Some(stage.to_string()).filter(|after| *after != before));
    observer.ran(&Ran { pass, context, time, report, text });
    stage
}

fn apply(pass: &Pass, stage: Stage, context: &Context<'_>) -> (Stage, Report) {
    match (pass.run, stage) {
        (Run::Graph(run), Stage::Graph(graph)) => with(Stage::Graph, run(graph, context)),
        (Run::Form(run), Stage::Graph(graph)) => with(Stage::Formed, run(graph, context)),
        (Run::Formed(run), Stage::Formed(formed)) => with(Stage::Formed, run(formed, context)),
        (Run::Place(run), Stage::Formed(formed)) => with(Stage::Placed, run(formed, context)),
        (Run::Plan(run), Stage::Placed(placed)) => with(Stage::Placed, run(placed, context)),
        _ => panic!("`{}` stands where the program does not have the form it takes", pass.name),
    }
}

fn with<T>(stage: fn(T) -> Stage, (program, report): (T, Report)) -> (Stage, Report) {
    (stage(program), report)
}

/// A pass takes well-formed programs to well-formed programs.
fn verify(stage: &Stage, pass: &Pass) {
    let broken = match stage {
        Stage::Graph(graph) => graph.verify().err().map(|e| format!("{}\n{graph}", lines(&e))),
        Stage::Formed(formed) => formed_errors(formed),
        Stage::Placed(placed) => {
            gigac_ir::plan_verify::verify(&placed.plan).err().map(|e| e.to_string())
        }
    };
    if let Some(errors) = broken {
        panic!("the pass `{}` broke the program: {errors}", pass.name);
    }
}

fn formed_errors(formed: &Formed) -> Option<String> {
    let broken = formed.kernels.iter().find_map(|k| Some((k, k.verify().err()?)));
    broken.map(|(kernel, errors)| format!("{}\n{kernel}", lines(&errors)))
}

fn lines<E: ToString>(errors: &[E]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
