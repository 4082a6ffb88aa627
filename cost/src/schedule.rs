//! What runs where and after what: the simulator's view of a plan.
//!
//! A schedule is a program for several **streams**. Tasks of one stream run one after another, in
//! the order of the text; tasks of different streams run side by side, unless a task waits for an
//! **event** that another one records. Loops stay loops.

use std::collections::HashMap;

use gigac_ir::plan::{self, Item, Memory, Order, Part, Plan};

use crate::simulate::{Simulation, Usage};
use crate::target::Device;
use crate::time::{copy, time, together};
use crate::work::Work;

/// Index of a stream in [`Schedule::streams`].
pub type StreamId = usize;
/// Index of an event, below [`Schedule::events`].
pub type EventId = usize;

/// Picoseconds: whole numbers, so that a loop that has settled repeats itself exactly.
pub type Ticks = u64;

const TICKS_PER_SECOND: f64 = 1e12;

/// The ticks of a number of seconds, rounded; at most half a year.
pub fn ticks(seconds: f64) -> Ticks {
    (seconds * TICKS_PER_SECOND).round().clamp(0.0, u64::MAX as f64 / 2.0) as Ticks
}

/// The seconds of a number of ticks.
pub fn seconds(ticks: Ticks) -> f64 {
    ticks as f64 / TICKS_PER_SECOND
}

/// Waits until an event was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The event.
    pub event: EventId,
    /// Which record: 0 is the latest before this place of the program, 1 the one before it, and
    /// so on. A record that never was is not waited for.
    pub behind: usize,
}

/// A launch, a copy or a collective.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// What it does: an index in [`Schedule::labels`].
    pub label: usize,
    /// Where it runs.
    pub stream: StreamId,
    /// How long.
    pub ticks: Ticks,
    /// What must have happened before.
    pub waits: Vec<Wait>,
    /// Events recorded when it ends.
    pub records: Vec<EventId>,
}

/// A piece of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// One task.
    Task(Task),
    /// A body that runs so many times.
    Loop {
        /// Name of the axis.
        axis: String,
        /// Number of turns.
        count: u64,
        /// One turn.
        body: Vec<Step>,
    },
}

/// What copies are called: within a memory, to the host and from it.
pub const COPIES: [&str; 3] = ["copy", "copy to the host", "copy from the host"];

/// A program for several streams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Names of the streams.
    pub streams: Vec<String>,
    /// Number of events.
    pub events: usize,
    /// What tasks do, for people.
    pub labels: Vec<String>,
    /// Launches of several kernels.
    pub groups: Vec<Group>,
    /// The program.
    pub steps: Vec<Step>,
}

/// Kernels that are launched together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The label of such launches.
    pub label: usize,
    /// The kernels with their share of the time: what each would take alone, in parts of what all
    /// would.
    pub parts: Vec<(usize, Ticks)>,
}

impl Schedule {
    /// A plan, whose kernels do some work, on a device. The label of a launch of one kernel is its
    /// index; behind them are those of [`COPIES`], then those of launches of several. Where nothing can run beside kernels there
    /// is one stream.
    pub fn of(plan: &Plan, works: &[Work], device: &Device) -> Self {
        let labels = plan.kernels.iter().map(|k| format!("{} ({})", k.name, k.origin));
        let beside = device.copies_beside();
        let streams = if beside { plan.streams.len() } else { 1 };
        let mut schedule = Self {
            streams: plan.streams[..streams].to_vec(),
            events: plan.events as usize,
            labels: labels.chain(COPIES.map(str::to_owned)).collect(),
            groups: Vec::new(),
            steps: Vec::new(),
        };
        let mut maker = Maker { plan, works, device, known: HashMap::new(), schedule };
        let steps = maker.steps(&plan.items);
        schedule = maker.schedule;
        schedule.steps = steps;
        schedule
    }

    /// What the launches of each of the first `count` labels, the kernels, did, alone and together with others.
    pub fn kernels(&self, run: &Simulation, count: usize) -> Vec<Usage> {
        let mut kernels = run.labels[..count].to_vec();
        for group in &self.groups {
            let usage = run.labels[group.label];
            let all: Ticks = group.parts.iter().map(|(_, ticks)| ticks).sum();
            // Where the part that ends here ends in a stretch of time: what follows takes the rest.
            let end = |upto: Ticks, time: Ticks| {
                let ticks = u128::from(upto) * u128::from(time) / u128::from(all.max(1));
                u64::try_from(ticks).expect("no more than the stretch")
            };
            let mut first = 0;
            for (kernel, ticks) in &group.parts {
                let last = first + ticks;
                kernels[*kernel].tasks += usage.tasks;
                kernels[*kernel].busy += end(last, usage.busy) - end(first, usage.busy);
                kernels[*kernel].stalled += end(last, usage.stalled) - end(first, usage.stalled);
                first = last;
            }
        }
        kernels
    }
}

struct Maker<'p> {
    plan: &'p Plan,
    works: &'p [Work],
    device: &'p Device,
    /// Labels and ticks of launches of several kernels.
    known: HashMap<Vec<u32>, (usize, Ticks)>,
    schedule: Schedule,
}

impl Maker<'_> {
    fn steps(&mut self, items: &[Item]) -> Vec<Step> {
        items.iter().map(|item| self.step(item)).collect()
    }

    fn step(&mut self, item: &Item) -> Step {
        match item {
            Item::Launch { parts, order } => {
                let (label, ticks) = self.launch(parts);
                self.task(label, ticks, order)
            }
            Item::Copy { from, to, bytes, order } => {
                let (from, to) = (from.memory, to.memory);
                let kind = match (from, to) {
                    (Memory::Device, Memory::Host) => 1,
                    (Memory::Host, Memory::Device) => 2,
                    _ => 0,
                };
                let time = copy(*bytes, from, to, self.device);
                self.task(self.works.len() + kind, ticks(time), order)
            }
            Item::Loop { axis, count, body, .. } => {
                Step::Loop { axis: axis.clone(), count: *count, body: self.steps(body) }
            }
        }
    }

    fn task(&self, label: usize, ticks: Ticks, order: &Order) -> Step {
        let wait = |w: &plan::Wait| Wait { event: w.event as usize, behind: w.behind as usize };
        Step::Task(Task {
            label,
            stream: if self.device.copies_beside() { order.stream as usize } else { 0 },
            ticks,
            waits: order.waits.iter().map(wait).collect(),
            records: order.records.iter().map(|e| *e as usize).collect(),
        })
    }

    /// The label of a launch and how long it takes.
    fn launch(&mut self, parts: &[Part]) -> (usize, Ticks) {
        let alone = |kernel: u32| ticks(time(&self.works[kernel as usize], self.device).seconds);
        if let [part] = parts {
            return (part.kernel as usize, alone(part.kernel));
        }
        let kernels: Vec<u32> = parts.iter().map(|part| part.kernel).collect();
        if let Some(known) = self.known.get(&kernels) {
            return *known;
        }
        let works: Vec<&Work> = kernels.iter().map(|k| &self.works[*k as usize]).collect();
        let taken = ticks(together(&works, self.device).seconds);
        let label = self.schedule.labels.len();
        let shares = kernels.iter().map(|kernel| (*kernel as usize, alone(*kernel))).collect();
        self.schedule.labels.push(self.plan.describe(&kernels));
        self.schedule.groups.push(Group { label, parts: shares });
        self.known.insert(kernels, (label, taken));
        (label, taken)
    }
}
