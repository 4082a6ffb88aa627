//! What `gigac plan` says of a step: its memory, and its time on a target.

pub mod checkpoint;
pub mod html;
pub mod json;
pub mod text;

use std::collections::BTreeMap;
use std::ops::Range;

use gigac_cost::schedule::{Schedule, seconds};
use gigac_cost::simulate::{Simulation, Usage, simulate};
use gigac_cost::target::{Device, Figure};
use gigac_cost::time::{Bound, Time, time};
use gigac_cost::work::Work;
use gigac_frontend::SourceMap;
use gigac_ir::graph::Span;
use gigac_ir::kernel::Storage;
use gigac_ir::plan::{Category, Plan, PlanBuffer, What, moments};
use gigac_passes::desync::{Certificate, Dependence, certify};
use gigac_passes::place::{Placed, launches};
use gigac_passes::price;

use crate::compile::{CheckedPhase, CompiledPhase, tokens_of};
use crate::line::Line;

/// What `gigac plan` says of one phase's step.
pub struct Report {
    /// Name of the model.
    pub model: String,
    /// The device.
    pub device: Device,
    /// Where the bytes are.
    pub memory: Memory,
    /// How long the step takes.
    pub step: Step,
    /// The kernels, the one that takes longest first.
    pub kernels: Vec<KernelRow>,
    /// Seconds by what launches wait for, all launches together.
    pub bounds: Vec<(Bound, f64)>,
    /// The simulated schedule.
    pub schedule: Schedule,
    /// Its simulation.
    pub simulation: Simulation,
    /// That nothing in the step depends on the host, or all that does, with places.
    pub host: Result<Certificate, Vec<String>>,
    /// What to say of the cluster that the device was taken from.
    pub cluster: Option<String>,
}

/// The memory of a step.
pub struct Memory {
    /// Bytes of every category where most is live; states always count.
    pub rows: Vec<(Category, u64)>,
    /// Bytes of the arena.
    pub arena: u64,
    /// Lower bound for it: the most that is live at one time.
    pub live: u64,
    /// What an arena may have.
    pub limit: u64,
    /// Bytes of the host arena.
    pub host: u64,
    /// What was dropped to stay within it, when somebody tells.
    pub checkpoint: Option<String>,
    /// Where most is live.
    pub peak: Peak,
    /// Bytes by category at every position of the program.
    pub curve: Vec<BTreeMap<Category, u64>>,
}

/// The position where most is live.
pub struct Peak {
    /// The position.
    pub position: u32,
    /// The last position of the program.
    pub last: u32,
    /// What happens there.
    pub what: String,
    /// What lives there, largest first.
    pub live: Vec<Live>,
}

/// A buffer that is live.
pub struct Live {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub category: Category,
    /// Its length.
    pub bytes: u64,
    /// The expression of the model that it holds the value of.
    pub line: Option<Line>,
}

/// The time of a step.
pub struct Step {
    /// Seconds.
    pub seconds: f64,
    /// Tokens of the step.
    pub tokens: u64,
    /// The model's own operations, by the formula of `gigac check`.
    pub flops: f64,
    /// The rate that they are compared with.
    pub peak: Figure,
    /// The storage that products read, which decides the rate.
    pub precision: &'static str,
    /// Number of launches, loops unrolled.
    pub launches: u64,
}

impl Step {
    /// The model's own operations over what the peak could do in that time.
    pub fn utilisation(&self) -> f64 {
        self.flops / self.seconds / self.peak.value
    }
}

/// A kernel and its launches.
pub struct KernelRow {
    /// Name.
    pub name: String,
    /// What it computes.
    pub origin: String,
    /// The first expression of the model that it comes from; a gradient's is what it is the gradient of.
    pub line: Option<Line>,
    /// How often it is launched, alone or together with others.
    pub launches: u64,
    /// Seconds of all launches; of those together with others its share.
    pub seconds: f64,
    /// One launch of it alone.
    pub time: Time,
}

impl Report {
    /// The report of a phase's training step.
    pub fn new(phase: &CompiledPhase, device: &Device) -> Self {
        let graph = &phase.checked.graph;
        let placed = &phase.programs.step;
        let tokens = tokens_of(graph) * phase.checked.micro;
        let flops = price::price(graph).model_flops_per_token * tokens as f64;
        let works: Vec<Work> = placed.kernels.iter().map(Work::of).collect();
        let times: Vec<Time> = works.iter().map(|work| time(work, device)).collect();
        let schedule = Schedule::of(&placed.plan, &works, device);
        let simulation = simulate(&schedule);
        let usage = schedule.kernels(&simulation, works.len());
        let (precision, peak) = precision(&works, &usage, device);
        let step = Step {
            seconds: seconds(simulation.end),
            tokens,
            flops,
            peak,
            precision,
            launches: launches(&placed.plan.items),
        };
        let kernels = kernels(placed, &phase.checked.sources, &times, &usage);
        let mut bounds: BTreeMap<Bound, f64> = BTreeMap::new();
        for row in &kernels {
            *bounds.entry(row.time.bound).or_default() += row.seconds;
        }
        let mut bounds: Vec<(Bound, f64)> = bounds.into_iter().collect();
        bounds.sort_by(|a, b| b.1.total_cmp(&a.1));
        Self {
            model: graph.name.clone(),
            device: device.clone(),
            memory: Memory::new(placed, &phase.checked.sources, device.arena_limit()),
            step,
            kernels,
            bounds,
            schedule,
            simulation,
            cluster: None,
            host: certify(placed, &phase.checked.settings).map_err(|found| {
                found.iter().map(|dependence| at_place(&phase.checked, dependence)).collect()
            }),
        }
    }
}

/// What depends on the host, with the place of its parameter in the model file.
fn at_place(checked: &CheckedPhase, dependence: &Dependence) -> String {
    let param = dependence.param().map(|param| &checked.graph.params[param]);
    match param.and_then(|param| param.span) {
        Some(span) => {
            let file = checked.sources.file(span.source).map_or("", |file| &file.name);
            let (line, column) = checked.sources.position(span);
            format!("{file}:{line}:{column}: {dependence}")
        }
        None => dependence.to_string(),
    }
}

/// The rate that products could run at: that of bf16 when they mostly read it.
fn precision(works: &[Work], usage: &[Usage], device: &Device) -> (&'static str, Figure) {
    let flops = |storage: Storage| -> f64 {
        let of = |(i, work): (usize, &Work)| {
            let products = work.products.iter().filter(|p| p.storage == storage);
            products.map(|p| p.flops()).sum::<f64>() * usage[i].tasks as f64
        };
        works.iter().enumerate().map(of).sum()
    };
    if flops(Storage::Bf16) > flops(Storage::F32) {
        ("bf16", device.product_bf16.clone())
    } else {
        ("f32", device.product_f32.clone())
    }
}

fn kernels(
    placed: &Placed,
    sources: &SourceMap,
    times: &[Time],
    usage: &[Usage],
) -> Vec<KernelRow> {
    let infos = &placed.plan.kernels;
    let row = |(i, time): (usize, &Time)| KernelRow {
        name: infos[i].name.clone(),
        origin: infos[i].origin.clone(),
        line: placed.places[i].first().and_then(|place| Line::expression(*place, sources)),
        launches: usage[i].tasks,
        seconds: seconds(usage[i].busy),
        time: *time,
    };
    let mut rows: Vec<KernelRow> = times.iter().enumerate().map(row).collect();
    rows.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    rows
}

impl Memory {
    fn new(placed: &Placed, sources: &SourceMap, limit: u64) -> Self {
        let plan = &placed.plan;
        let moments = moments(plan);
        let last = moments.last().map_or(0, |m| m.position);
        let live_at = |at: u32| plan.buffers.iter().filter(move |b| moving(b) && lives(b, at));
        let position = (0..=last)
            .max_by_key(|at| (live_at(*at).map(|b| b.bytes).sum::<u64>(), last - at))
            .unwrap_or(0);
        let states = states(plan);
        let at = |position: u32| {
            let mut rows = states.clone();
            for buffer in live_at(position) {
                *rows.entry(buffer.category).or_default() += buffer.bytes;
            }
            rows
        };
        let place = |(buffer, place): (&PlanBuffer, &Option<Span>)| Live {
            name: buffer.name.clone(),
            category: buffer.category,
            bytes: buffer.bytes,
            line: place.and_then(|place| Line::expression(place, sources)),
        };
        let there = |(b, _): &(&PlanBuffer, _)| moving(b) && lives(b, position);
        let mut live: Vec<Live> =
            plan.buffers.iter().zip(&placed.sources).filter(there).map(place).collect();
        live.sort_by_key(|live| std::cmp::Reverse(live.bytes));
        let what = match moments.iter().find(|m| m.position == position) {
            None => "before the first launch".to_owned(),
            Some(moment) => {
                let loops: Vec<String> = moment.loops.iter().map(|l| format!("loop {l}")).collect();
                let what = match &moment.what {
                    What::Launch(kernels) => format!("launch of {}", plan.describe(kernels)),
                    What::Copy => "a copy".to_owned(),
                    What::Loop => "the edge of a turn".to_owned(),
                };
                loops.into_iter().chain([what]).collect::<Vec<_>>().join(", ")
            }
        };
        Self {
            rows: at(position).into_iter().collect(),
            arena: plan.arena_bytes,
            live: plan.live_bytes,
            limit,
            host: plan.host_bytes,
            checkpoint: None,
            peak: Peak { position, last, what, live },
            curve: (0..=last).map(at).collect(),
        }
    }
}

fn moving(buffer: &PlanBuffer) -> bool {
    !buffer.category.is_state() && buffer.category.memory() == gigac_ir::plan::Memory::Device
}

fn lives(buffer: &PlanBuffer, at: u32) -> bool {
    buffer.live.0 <= at && at <= buffer.live.1
}

/// Bytes of the states, which are always there.
fn states(plan: &Plan) -> BTreeMap<Category, u64> {
    let mut rows = BTreeMap::new();
    for state in &plan.states {
        let Range { start, end } = plan.extent(state);
        *rows.entry(Category::of(state.slot)).or_default() += end - start;
    }
    rows
}

/// A category as a word.
pub fn word(category: Category) -> String {
    format!("{category:?}").to_lowercase()
}

/// Bytes in MiB.
pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
