//! Fusion by equality saturation: brings all spellings of the same mathematics to the cheapest, and
//! finds attention.
//!
//! One e-graph for each region of the graph, so a repeated layer is searched once, whatever its
//! depth:
//! 1. `import`: the region's values become classes of terms;
//! 2. `rules` add equal terms until nothing is new, or a limit of nodes or iterations is reached
//!    (never a clock); `facts` proves the conditions of rules: axes, ranges, constness;
//! 3. `joined` makes one product of scores of several parts; `attend` finds attention, whose score
//!    may be any function of one product of queries and keys, and `certify` compares its gradient
//!    with that of what it stands for;
//! 4. `extract` chooses a term for each class that the results need, at the least `price`;
//!    what is shared counts once;
//! 5. `export` builds the region again.
//!
//! Runs before differentiation: rules preserve gradients too. Exact rules preserve every bit;
//! the others change rounding, and with `exact` they do not run.

mod attend;
mod certify;
mod export;
mod extract;
mod facts;
mod import;
mod joined;
mod price;
mod range;
mod rules;
mod search;
mod term;
#[cfg(test)]
mod tests;
mod trial;
mod witness;

use std::fmt;

use gigac_cost::target::{CpuFacts, Device, cpu};
use gigac_ir::graph::Graph;

pub use certify::{Certificate, Refusal};
pub use rules::{Set, catalogue};
pub use search::Stop;

use crate::pass::{Need, Pass, Report, Run, Scope};

/// The pass.
pub const FUSE: Pass = Pass {
    name: "fuse",
    about: "the cheapest spelling of all that are equal",
    need: Need::Optional,
    scope: Scope::All,
    run: Run::Graph(|graph, context| {
        let (exact, device) = (context.options.exact, context.options.device().clone());
        let options = Options { exact, device, ..Options::default() };
        let (graph, regions) = fuse(&graph, &options);
        (graph, regions.iter().fold(Report::new(), |report, r| report.note(r.to_string())))
    }),
};

/// What the pass may do, and for which device.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only rules that preserve every bit.
    pub exact: bool,
    /// Whether attention is formed.
    pub attention: bool,
    /// Whose roofline prices terms.
    pub device: Device,
    /// Nodes of an e-graph from which on no rule is applied.
    pub nodes: usize,
    /// Times that all rules are applied.
    pub iterations: usize,
}

/// Most nodes of an e-graph: ten times what a decoder layer needs.
const NODES: usize = 10_000;
/// Most iterations: a fact travels one operation in each.
const ITERATIONS: usize = 40;

impl Default for Options {
    /// For a CPU of two threads: what is chosen does not depend on the machine that compiles.
    fn default() -> Self {
        Self {
            exact: false,
            attention: true,
            device: cpu(&CpuFacts::default()),
            nodes: NODES,
            iterations: ITERATIONS,
        }
    }
}

/// What the pass did with one region.
#[derive(Clone, Debug, PartialEq)]
pub struct RegionReport {
    /// The repeated axis, none for the root.
    pub name: Option<String>,
    /// Values before.
    pub values: usize,
    /// Nodes of the e-graph at the end.
    pub nodes: usize,
    /// Classes of the e-graph at the end.
    pub classes: usize,
    /// Times that all rules were applied.
    pub iterations: usize,
    /// Why no rule was applied any more.
    pub stop: Stop,
    /// How often each rule found something new, by name.
    pub applied: Vec<(String, usize)>,
    /// Attentions in the result: each with its certificate.
    pub attentions: Vec<Certificate>,
    /// Why attentions were not certified, and could not be chosen.
    pub refused: Vec<Refusal>,
    /// Price before and after, in seconds of the device.
    pub seconds: [f64; 2],
    /// Whether it is proved that no choice of terms is cheaper.
    pub optimal: bool,
}

impl fmt::Display for RegionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stop = match self.stop {
            Stop::Saturated => "saturated",
            Stop::Nodes => "stopped by the limit of nodes",
            Stop::Iterations => "stopped by the limit of iterations",
        };
        match &self.name {
            Some(axis) => write!(f, "layers {axis}: ")?,
            None => f.write_str("root: ")?,
        }
        write!(f, "{} terms became {}, {stop} after {}", self.values, self.nodes, self.iterations)?;
        if let Some(worst) = self.attentions.iter().reduce(|a, b| Certificate::worse(a, b)) {
            write!(f, "; {} attention, {worst}", self.attentions.len())?;
        }
        for why in [Refusal::Hidden, Refusal::Differs] {
            let count = self.refused.iter().filter(|r| **r == why).count();
            if count > 0 {
                write!(f, "; {count} attention refused: {why}")?;
            }
        }
        let [before, after] = self.seconds;
        write!(f, "; priced {:.1} % less", 100.0 * (1.0 - after / before.max(f64::MIN_POSITIVE)))
    }
}

/// Fuses a graph. Reports on every region, the inner ones first.
///
/// Requires a verified graph. The work depends on the regions, not on how often they are repeated.
pub fn fuse(graph: &Graph, options: &Options) -> (Graph, Vec<RegionReport>) {
    export::fuse(graph, options)
}
