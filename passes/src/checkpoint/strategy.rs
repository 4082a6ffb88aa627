//! What rematerialisation is compared with: rules that people use.

use gigac_cost::schedule::{Schedule, seconds};
use gigac_cost::simulate::simulate;
use gigac_cost::work::Work;

use super::apply::Part;
use super::pair::Pair;
use super::problem::{Kept, Problem};
use super::{Program, fit};
use crate::form::Formed;
use crate::options::Options;
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
    /// Seconds of copying it to the host, or back.
    pub copy: f64,
}

/// A step under a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The rule.
    pub name: String,
    /// Bytes of stacks on the device.
    pub stacks: u64,
    /// Bytes of stacks on the host.
    pub host: u64,
    /// Bytes of the arena.
    pub arena: u64,
    /// Seconds of the simulated step.
    pub step: f64,
    /// Seconds that the rule adds.
    pub added: f64,
    /// A bound below what any rule adds within the same bytes of stacks.
    pub bound: Option<f64>,
    /// Layers by what they keep, for each pair of loops: how many, how many of the stacks on the
    /// device, and how many on the host.
    pub parts: Vec<Vec<(u64, usize, usize)>>,
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
    /// The same when stacks may be kept on the host, if that is asked for.
    pub offloading: Vec<Point>,
    /// The same for the greedy rule: bytes and seconds.
    pub greedy: Vec<(u64, f64)>,
}

/// The best within a number of bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// The number of bytes.
    pub budget: u64,
    /// Bytes of stacks on the device.
    pub stacks: u64,
    /// Seconds added.
    pub added: f64,
    /// No assignment within the budget adds fewer.
    pub bound: f64,
}

/// Points of the frontier.
const POINTS: u64 = 24;

/// Compares the rules with the best choice: within a limit of the arena when there is one, else
/// within the bytes of every second layer's checkpoint. `offload` also compares the choice that may
/// use the host's memory.
pub fn compare(
    formed: &Formed,
    options: &Options,
    limit: Option<u64>,
    offload: bool,
) -> Comparison {
    let program = Program::of(formed, options.device(), false);
    let rules = Rules { formed, options, program: &program };
    let every = |n: u64| rules.every(n);
    let half = every(2);
    let mut outcomes = vec![
        rules.outcome("keep all", &every(0)),
        rules.outcome("every second layer", &half),
        rules.outcome("every layer", &every(1)),
    ];
    let budget = match limit {
        Some(limit) => rules.budget(limit, false),
        None => rules.stacks(&half),
    };
    if let Some(parts) = rules.greedy(budget) {
        outcomes.push(rules.outcome("greedy by seconds per byte", &parts));
    }
    if let Some((mixes, _)) = program.solve(budget) {
        outcomes.push(rules.outcome("ours", &program.parts(&mixes)));
    }
    let wider = offload.then(|| Program::of(formed, options.device(), true));
    if let Some(program) = &wider {
        let rules = Rules { formed, options, program };
        let budget = limit.map_or(budget, |limit| rules.budget(limit, true));
        if let Some((mixes, _)) = program.solve(budget) {
            outcomes.push(rules.outcome("ours, offloading", &program.parts(&mixes)));
        }
    }
    let (least, all) = (program.least_bytes(), program.all_bytes());
    let budgets =
        (0..=POINTS).map(|i| least + ((all - least) as f64 / POINTS as f64 * i as f64) as u64);
    let mut budgets: Vec<u64> = budgets.collect();
    budgets.dedup();
    let frontier = |program: &Program| -> Vec<Point> {
        let point = |budget: &u64| {
            let (best, bound) = program.solve(*budget)?;
            Some(Point { budget: *budget, stacks: best.bytes, added: best.seconds, bound })
        };
        budgets.iter().filter_map(point).collect()
    };
    let greedy = budgets.iter().filter_map(|bytes| {
        let parts = rules.greedy(*bytes)?;
        Some((rules.stacks(&parts), rules.added(&parts)))
    });
    Comparison {
        activations: rules.activations(),
        frontier: frontier(&program),
        offloading: wider.as_ref().map(frontier).unwrap_or_default(),
        greedy: greedy.collect(),
        outcomes,
    }
}

struct Rules<'r> {
    formed: &'r Formed,
    options: &'r Options,
    program: &'r Program,
}

impl Rules<'_> {
    fn activations(&self) -> Vec<Activation> {
        let pairs = self.program.pairs.iter();
        pairs.flat_map(|pair| activations(&pair.problem, pair.layers)).collect()
    }

    /// Full checkpoints of every nth layer, of none for 0: such a layer keeps its input alone.
    fn every(&self, n: u64) -> Vec<Vec<Part>> {
        let parts = |pair: &Pair| {
            let problem = &pair.problem;
            let full = pair.layers.checked_div(n).unwrap_or(0);
            vec![
                part(full, problem.fixed()),
                part(pair.layers - full, Kept::all(problem.stacks.len())),
            ]
        };
        self.program.pairs.iter().map(parts).collect()
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
            parts.map(|(p, k)| vec![part(p.layers, k.clone())]).collect()
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
                parts[p] = vec![part(layers, less), part(pair.layers - layers, more)];
                return Some(parts);
            }
        }
        Some(uniform(&kept))
    }

    /// Bytes of stacks that the best program within a limit of the arena has.
    fn budget(&self, limit: u64, offload: bool) -> u64 {
        let (_, fitted) = fit(self.formed.clone(), self.options, limit, offload);
        fitted.chosen.map_or(self.program.all_bytes(), |chosen| chosen.mixes.bytes)
    }

    /// Bytes of stacks on the device.
    fn stacks(&self, parts: &[Vec<Part>]) -> u64 {
        self.bytes(parts, |problem, part| problem.bytes(&part.kept) - problem.bytes(&part.host))
    }

    fn bytes(&self, parts: &[Vec<Part>], layer: impl Fn(&Problem, &Part) -> u64) -> u64 {
        let of = |(pair, parts): (&Pair, &Vec<Part>)| {
            parts.iter().map(|p| p.layers * layer(&pair.problem, p)).sum::<u64>()
        };
        self.program.pairs.iter().zip(parts).map(of).sum()
    }

    fn added(&self, parts: &[Vec<Part>]) -> f64 {
        let of = |(pair, parts): (&Pair, &Vec<Part>)| {
            let seconds =
                |p: &Part| pair.problem.seconds_with(&p.kept, &p.host).expect("rules lose nothing");
            let turns = parts.iter().map(|p| p.layers as f64 * seconds(p));
            pair.runs as f64 * turns.sum::<f64>()
        };
        self.program.pairs.iter().zip(parts).map(of).sum()
    }

    fn outcome(&self, name: &str, parts: &[Vec<Part>]) -> Outcome {
        let device = self.options.device();
        // Of single products, as the problem prices them.
        let placed = place(reuse(self.program.apply(self.formed.clone(), parts)), name);
        let works: Vec<Work> = placed.kernels.iter().map(Work::of).collect();
        let schedule = Schedule::of(&placed.plan, &works, device);
        let stacks = self.stacks(parts);
        let count =
            |part: &Part| (part.layers, part.kept.count() - part.host.count(), part.host.count());
        Outcome {
            name: name.to_owned(),
            stacks,
            host: self.bytes(parts, |problem, part| problem.bytes(&part.host)),
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

/// Layers that keep something on the device.
fn part(layers: u64, kept: Kept) -> Part {
    let host = Kept::none(kept.stacks());
    Part { layers, kept, host }
}

fn activations(problem: &Problem, layers: u64) -> Vec<Activation> {
    let all = Kept::all(problem.stacks.len());
    let of = |(i, stack): (usize, &super::problem::Stack)| Activation {
        name: stack.name.clone(),
        layers,
        bytes: stack.bytes,
        seconds: problem.seconds(&all.without(i)),
        copy: stack.copy,
    };
    problem.stacks.iter().enumerate().map(of).collect()
}
