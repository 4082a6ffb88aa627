//! What runs where and after what: the simulator's view of a plan.
//!
//! A schedule is a program for several **streams**. Tasks of one stream run one after another, in
//! the order of the text; tasks of different streams run side by side, unless a task waits for an
//! **event** that another one records. Loops stay loops.

use gigac_ir::plan::{self, Item, Memory, Order, Plan};

use crate::target::Device;
use crate::time::copy;

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
    /// The program.
    pub steps: Vec<Step>,
}

impl Schedule {
    /// A plan on a device, on which launches take `launch[kernel]` seconds. The label of a launch is
    /// its kernel's index; behind them are those of [`COPIES`]. Where nothing can run beside kernels
    /// there is one stream.
    pub fn of(plan: &Plan, launch: &[f64], device: &Device) -> Self {
        let labels = plan.kernels.iter().map(|k| format!("{} ({})", k.name, k.origin));
        let beside = device.copies_beside();
        let streams = if beside { plan.streams.len() } else { 1 };
        Self {
            streams: plan.streams[..streams].to_vec(),
            events: plan.events as usize,
            labels: labels.chain(COPIES.map(str::to_owned)).collect(),
            steps: steps(&plan.items, launch, device),
        }
    }
}

fn steps(items: &[Item], launch: &[f64], device: &Device) -> Vec<Step> {
    let task = |label: usize, time: f64, order: &Order| {
        let wait = |w: &plan::Wait| Wait { event: w.event as usize, behind: w.behind as usize };
        Step::Task(Task {
            label,
            stream: if device.copies_beside() { order.stream as usize } else { 0 },
            ticks: ticks(time),
            waits: order.waits.iter().map(wait).collect(),
            records: order.records.iter().map(|e| *e as usize).collect(),
        })
    };
    let step = |item: &Item| match item {
        Item::Launch { kernel, order, .. } => {
            task(*kernel as usize, launch[*kernel as usize], order)
        }
        Item::Copy { from, to, bytes, order } => {
            let (from, to) = (from.memory, to.memory);
            let kind = match (from, to) {
                (Memory::Device, Memory::Host) => 1,
                (Memory::Host, Memory::Device) => 2,
                _ => 0,
            };
            task(launch.len() + kind, copy(*bytes, from, to, device), order)
        }
        Item::Loop { axis, count, body, .. } => {
            Step::Loop { axis: axis.clone(), count: *count, body: steps(body, launch, device) }
        }
    };
    items.iter().map(step).collect()
}
