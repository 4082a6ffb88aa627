//! What a pass is: a name, a sentence, and a pure function from one form of a program to the next.

use std::fmt::{self, Display, Formatter};

use gigac_ir::graph::Graph;
use gigac_ir::train::Settings;

use crate::form::Formed;
use crate::options::Options;
use crate::place::Placed;

/// A pass. The order of all passes stands in [`crate::pipeline::PIPELINE`].
pub struct Pass {
    /// The name that `--disable`, `--print-after` and filetests use.
    pub name: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    /// Whether one can do without it.
    pub need: Need,
    /// Which programs of a model it works on.
    pub scope: Scope,
    /// The function.
    pub run: Run,
}

/// Whether a pass can be switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It makes the program better, not possible.
    Optional,
    /// Nothing can be compiled without it, for this reason.
    Necessary(&'static str),
}

/// The programs that a pass works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All programs.
    All,
    /// Training steps alone.
    Step,
}

/// The function of a pass, by the forms that it takes and gives.
#[derive(Clone, Copy)]
pub enum Run {
    /// Graph to graph.
    Graph(fn(Graph, &Context<'_>) -> (Graph, Report)),
    /// Graph to kernels and launches.
    Form(fn(Graph, &Context<'_>) -> (Formed, Report)),
    /// Kernels and launches, changed.
    Formed(fn(Formed, &Context<'_>) -> (Formed, Report)),
    /// Kernels and launches to a plan.
    Place(fn(Formed, &Context<'_>) -> (Placed, Report)),
    /// A plan, changed or certified.
    Plan(fn(Placed, &Context<'_>) -> (Placed, Report)),
}

/// A program on its way.
pub enum Stage {
    /// A graph.
    Graph(Graph),
    /// Kernels and launches.
    Formed(Formed),
    /// A plan with its kernels.
    Placed(Placed),
}

/// Which of the programs of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The training step.
    Step,
    /// The loss without gradients.
    Evaluate,
    /// The named outputs.
    Outputs,
}

impl Purpose {
    /// The name of the plan.
    pub fn name(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Evaluate => "evaluate",
            Self::Outputs => "outputs",
        }
    }
}

/// What passes are told about the program beside the program itself.
#[derive(Clone, Copy, Debug)]
pub struct Context<'c> {
    /// Which program it is.
    pub purpose: Purpose,
    /// The `train` block.
    pub settings: &'c Settings,
    /// Micro-batches of one step.
    pub micro: u64,
    /// Stands in front of the names of kernels.
    pub prefix: &'c str,
    /// What the user switched.
    pub options: &'c Options,
}

/// What a pass did, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    facts: Vec<String>,
}

impl Report {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds how often something happened; left out when it did not.
    #[must_use]
    pub fn count(self, n: usize, what: &str) -> Self {
        if n == 0 { self } else { self.note(format!("{n} {what}")) }
    }

    /// Adds a fact.
    #[must_use]
    pub fn note(mut self, fact: impl Into<String>) -> Self {
        self.facts.push(fact.into());
        self
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.facts.is_empty() {
            f.write_str("nothing")
        } else {
            f.write_str(&self.facts.join(", "))
        }
    }
}

impl Display for Stage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Graph(graph) => graph.fmt(f),
            Self::Formed(formed) => formed.fmt(f),
            Self::Placed(placed) => placed.plan.fmt(f),
        }
    }
}
