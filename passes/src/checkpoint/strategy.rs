//! What rematerialisation is compared with: rules that people use.

use gigac_cost::schedule::{Schedule, seconds};
use gigac_cost::simulate::simulate;
use gigac_cost::target::Device;
use gigac_cost::time::time;
use gigac_cost::work::Work;

use super::apply::Part;
use super::pair::Pair;
use super::problem::{Kept, Problem};
use super::{Program, fit};
use crate::form::Formed;
use crate::place::place;
use crate::reuse::reuse;

/// What a layer keeps of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Activation {
    /// What it is, in the model's words.
    pub name: String,
    /// Number of layers.
    pub layers: u64,
    /// Bytes of one layer.
    pub bytes: u64,
    /// Seconds of computing it again in one layer that keeps all the rest; none when it cannot be.
    pub seconds: Option<f64>,
}

/// A step under a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The rule.
    pub name: String,
    /// Bytes of stacks.
    pub stacks: u64,
    /// Bytes of the arena.
    pub arena: u64,
    /// Seconds of the simulated step.
    pub step: f64,
    /// Seconds that the rule adds.
    pub added: f64,
    /// A bound below what any rule adds within the same bytes of stacks.
    pub bound: Option<f64>,
    /// Layers by what they keep, for each pair of loops: how many, and how many of the stacks.
    pub parts: Vec<Vec<(u64, usize)>>,
}

/// All rules on one program.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// What layers keep.
    pub activations: Vec<Activation>,
    /// The rules, then ours.
    pub outcomes: Vec<Outcome>,
    /// The best for a number of bytes, from little to much memory.
    pub frontier: Vec<Point>,
    /// The same for the greedy rule: bytes and seconds.
    pub greedy: Vec<(u64, f64)>,
}

/// The best within a number of bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// The number of bytes.
    pub budget: u64,
    /// Bytes of stacks.
    pub stacks: u64,
    /// Seconds added.
    pub added: f64,
    /// No assignment within the budget adds fewer.
    pub bound: f64,
}

/// Points of the frontier.
const POINTS: u64 = 24;

/// Compares the rules with the best choice: within a limit of the arena when there is one, else
/// within the bytes of every second layer's checkpoint.
pub fn compare(formed: &Formed, device: &Device, limit: Option<u64>) -> Comparison {
    let program = Program::of(formed, device);
    let rules = Rules { formed, device, program: &program };
    let every = |n: u64| rules.every(n);
    let half = every(2);
    let mut outcomes = vec![
        rules.outcome("keep all", &every(0)),
        rules.outcome("every second layer", &half),
        rules.outcome("every layer", &every(1)),
    ];
    let budget = match limit {
        Some(limit) => rules.budget(limit),
        None => rules.stacks(&half),
    };
    if let Some(parts) = rules.greedy(budget) {
        outcomes.push(rules.outcome("greedy by seconds per byte", &parts));
    }
    if let Some((mixes, _)) = program.solve(budget) {
        outcomes.push(rules.outcome("ours", &program.parts(&mixes)));
    }
    let (least, all) = (program.least_bytes(), program.all_bytes());
    let budgets =
        (0..=POINTS).map(|i| least + ((all - least) as f64 / POINTS as f64 * i as f64) as u64);
    let mut budgets: Vec<u64> = budgets.collect();
    budgets.dedup();
    let frontier = budgets.iter().filter_map(|budget| {
        let (best, bound) = program.solve(*budget)?;
        Some(Point { budget: *budget, stacks: best.bytes, added: best.seconds, bound })
    });
    let greedy = budgets.iter().filter_map(|bytes| {
        let parts = rules.greedy(*bytes)?;
        Some((rules.stacks(&parts), rules.added(&parts)))
    });
    Comparison {
        activations: rules.activations(),
        frontier: frontier.collect(),
        greedy: greedy.collect(),
        outcomes,
    }
}

struct Rules<'r> {
    formed: &'r Formed,
    device: &'r Device,
    program: &'r Program,
}

impl Rules<'_> {
    fn activations(&self) -> Vec<Activation> {
        let pairs = self.program.pairs.iter();
        pairs.flat_map(|pair| activations(&pair.problem, pair.layers)).collect()
    }

    /// Full checkpoints of every nth layer, of none for 0: such a layer keeps its input alone.
    fn every(&self, n: u64) -> Vec<Vec<Part>> {
        let part = |pair: &Pair| {
            let problem = &pair.problem;
            let full = pair.layers.checked_div(n).unwrap_or(0);
            vec![
                Part { layers: full, kept: problem.fixed() },
                Part { layers: pair.layers - full, kept: Kept::all(problem.stacks.len()) },
            ]
        };
        self.program.pairs.iter().map(part).collect()
    }

    /// Drops stacks in the order of the seconds that a byte costs, layer by layer, until the rest
    /// is within so many bytes; none when it never is.
    fn greedy(&self, bytes: u64) -> Option<Vec<Vec<Part>>> {
        let pairs = &self.program.pairs;
        let mut kept: Vec<Kept> = pairs.iter().map(|p| Kept::all(p.problem.stacks.len())).collect();
        let mut items: Vec<(f64, usize, usize)> = Vec::new();
        for (p, pair) in pairs.iter().enumerate() {
            for (s, stack) in pair.problem.stacks.iter().enumerate() {
                let seconds = pair.problem.seconds(&kept[p].without(s));
                items.extend(seconds.map(|t| (pair.runs as f64 * t / stack.bytes as f64, p, s)));
            }
        }
        items.sort_by(|a, b| a.0.total_cmp(&b.0));
        let uniform = |kept: &[Kept]| -> Vec<Vec<Part>> {
            let parts = pairs.iter().zip(kept);
            parts.map(|(p, k)| vec![Part { layers: p.layers, kept: k.clone() }]).collect()
        };
        let mut now = self.stacks(&uniform(&kept));
        let mut items = items.into_iter();
        while now > bytes {
            let (_, p, s) = items.next()?;
            let (pair, more) = (&pairs[p], kept[p].clone());
            let less = more.without(s);
            if pair.problem.seconds(&less).is_none() {
                continue;
            }
            let step = pair.problem.stacks[s].bytes;
            let layers = (now - bytes).div_ceil(step).min(pair.layers);
            kept[p] = less.clone();
            now -= layers * step;
            if now <= bytes {
                let mut parts = uniform(&kept);
                parts[p] = vec![
                    Part { layers, kept: less },
                    Part { layers: pair.layers - layers, kept: more },
                ];
                return Some(parts);
            }
        }
        Some(uniform(&kept))
    }

    /// Bytes of stacks that the best program within a limit of the arena has.
    fn budget(&self, limit: u64) -> u64 {
        let (_, fitted) = fit(self.formed.clone(), self.device, limit);
        fitted.chosen.map_or(self.program.all_bytes(), |chosen| chosen.mixes.bytes)
    }

    fn stacks(&self, parts: &[Vec<Part>]) -> u64 {
        let of = |(pair, parts): (&Pair, &Vec<Part>)| {
            parts.iter().map(|p| p.layers * pair.problem.bytes(&p.kept)).sum::<u64>()
        };
        self.program.pairs.iter().zip(parts).map(of).sum()
    }

    fn added(&self, parts: &[Vec<Part>]) -> f64 {
        let of = |(pair, parts): (&Pair, &Vec<Part>)| {
            let seconds = |kept: &Kept| pair.problem.seconds(kept).expect("rules lose nothing");
            let turns = parts.iter().map(|p| p.layers as f64 * seconds(&p.kept));
            pair.runs as f64 * turns.sum::<f64>()
        };
        self.program.pairs.iter().zip(parts).map(of).sum()
    }

    fn outcome(&self, name: &str, parts: &[Vec<Part>]) -> Outcome {
        let placed = place(reuse(self.program.apply(self.formed.clone(), parts)), name);
        let launch: Vec<f64> =
            placed.kernels.iter().map(|k| time(&Work::of(k), self.device).seconds).collect();
        let schedule = Schedule::of(&placed.plan, &launch, self.device);
        let stacks = self.stacks(parts);
        let count = |part: &Part| {
            (part.layers, (0..part.kept.stacks()).filter(|i| part.kept.has(*i)).count())
        };
        Outcome {
            name: name.to_owned(),
            stacks,
            arena: placed.plan.arena_bytes,
            step: seconds(simulate(&schedule).end),
            added: self.added(parts),
            bound: self.program.solve(stacks).map(|(_, bound)| bound),
            parts: parts
                .iter()
                .map(|p| p.iter().filter(|p| p.layers > 0).map(count).collect())
                .collect(),
        }
    }
}

fn activations(problem: &Problem, layers: u64) -> Vec<Activation> {
    let all = Kept::all(problem.stacks.len());
    let of = |(i, stack): (usize, &super::problem::Stack)| Activation {
        name: stack.name.clone(),
        layers,
        bytes: stack.bytes,
        seconds: problem.seconds(&all.without(i)),
    };
    problem.stacks.iter().enumerate().map(of).collect()
}
