//! Runs a schedule: when every stream ends, what it does until then, and what it waits for.
//!
//! A task starts when its stream is free and everything it waits for has happened. Nothing else
//! is modelled: streams do not slow each other down.
//!
//! **Loops are not unrolled.** What a turn does depends only on when streams become free and
//! events happen, relative to each other. When that relation after a turn is the one that some
//! turns before had left, all further turns repeat these, and as many whole periods as fit are
//! skipped by adding their length. Times are whole numbers, so the comparison is exact and the
//! result is the unrolled program's to the last digit. A schedule is a linear system over
//! (max, +); such systems become periodic (F. Baccelli, G. Cohen, G. Olsder, J.-P. Quadrat,
//! *Synchronization and Linearity*, 1992, theorem 3.109), in practice after a few turns.

use std::collections::VecDeque;

use crate::schedule::{EventId, Schedule, Step, StreamId, Task, Ticks};

/// Periods longer than this many turns are not looked for.
const LONGEST_PERIOD: usize = 8;

/// What one label's tasks did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many ran.
    pub tasks: u64,
    /// How long, all together.
    pub busy: Ticks,
    /// How long their streams stood still for what they waited for.
    pub stalled: Ticks,
}

/// A stretch of a stream's time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// What ran.
    pub what: What,
    /// On which stream.
    pub stream: StreamId,
    /// When it began.
    pub start: Ticks,
    /// When it ended.
    pub end: Ticks,
}

/// What a span shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A task with this label.
    Task(usize),
    /// Turns of a loop that repeat those before.
    Turns {
        /// Name of the axis.
        axis: String,
        /// How many.
        count: u64,
    },
}

/// A simulated schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Simulation {
    /// When the last stream ends.
    pub end: Ticks,
    /// What each label's tasks did.
    pub labels: Vec<Usage>,
    /// How long each stream was busy.
    pub busy: Vec<Ticks>,
    /// What ran when, the repeated turns of loops as one span for each stream.
    pub spans: Vec<Span>,
}

/// Simulates a schedule.
pub fn simulate(schedule: &Schedule) -> Simulation {
    let mut behind = vec![0; schedule.events];
    deepest(&schedule.steps, &mut behind);
    let mut run = Run {
        ready: vec![0; schedule.streams.len()],
        events: behind.iter().map(|n| History { times: VecDeque::new(), keep: n + 1 }).collect(),
        labels: vec![Usage::default(); schedule.labels.len()],
        busy: vec![0; schedule.streams.len()],
        spans: Vec::new(),
    };
    run.steps(&schedule.steps);
    let end = run.ready.iter().copied().max().unwrap_or(0);
    Simulation { end, labels: run.labels, busy: run.busy, spans: run.spans }
}

/// The largest `behind` that any task waits for, by event.
fn deepest(steps: &[Step], behind: &mut [usize]) {
    for step in steps {
        match step {
            Step::Task(task) => {
                for wait in &task.waits {
                    behind[wait.event] = behind[wait.event].max(wait.behind);
                }
            }
            Step::Loop { body, .. } => deepest(body, behind),
        }
    }
}

/// The latest records of an event, newest first.
#[derive(Clone)]
struct History {
    times: VecDeque<Ticks>,
    keep: usize,
}

impl History {
    /// All records that are kept, none where there is none yet.
    fn all<T>(&self, read: impl Fn(Option<&Ticks>) -> T) -> impl Iterator<Item = T> {
        (0..self.keep).map(move |i| read(self.times.get(i)))
    }
}

struct Run {
    ready: Vec<Ticks>,
    events: Vec<History>,
    labels: Vec<Usage>,
    busy: Vec<Ticks>,
    spans: Vec<Span>,
}

/// What a loop's body touches.
#[derive(Default)]
struct Touched {
    streams: Vec<StreamId>,
    waited: Vec<EventId>,
    recorded: Vec<EventId>,
    labels: Vec<usize>,
}

/// The state after a turn.
struct After {
    /// The earliest that anything of the body can start.
    base: Ticks,
    /// Streams and events relative to it.
    shape: Vec<Option<Ticks>>,
    labels: Vec<Usage>,
    busy: Vec<Ticks>,
}

impl Run {
    fn steps(&mut self, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Task(task) => self.task(task),
                Step::Loop { axis, count, body } => self.turns(axis, *count, body),
            }
        }
    }

    fn task(&mut self, task: &Task) {
        let free = self.ready[task.stream];
        let happened = |w: &crate::schedule::Wait| self.events[w.event].times.get(w.behind);
        let start = task.waits.iter().filter_map(happened).fold(free, |a, b| a.max(*b));
        let end = start + task.ticks;
        let usage = &mut self.labels[task.label];
        usage.tasks += 1;
        usage.busy += task.ticks;
        usage.stalled += start - free;
        self.busy[task.stream] += task.ticks;
        self.ready[task.stream] = end;
        for event in &task.records {
            let history = &mut self.events[*event];
            history.times.push_front(end);
            history.times.truncate(history.keep);
        }
        let (what, stream) = (What::Task(task.label), task.stream);
        self.spans.push(Span { what, stream, start, end });
    }

    fn turns(&mut self, axis: &str, count: u64, body: &[Step]) {
        let touched = Touched::by(body);
        let mut before: VecDeque<After> = VecDeque::new();
        let (mut turn, mut skipped) = (0, false);
        while turn < count {
            self.steps(body);
            turn += 1;
            if skipped {
                continue;
            }
            let after = self.after(&touched);
            if let Some(period) = before.iter().position(|b| b.shape == after.shape) {
                let periods = (count - turn) / (period as u64 + 1);
                self.skip(axis, &touched, (&before[period], &after), (period as u64 + 1, periods));
                turn += periods * (period as u64 + 1);
                skipped = true;
            } else {
                before.push_front(after);
                before.truncate(LONGEST_PERIOD);
            }
        }
    }

    fn after(&self, touched: &Touched) -> After {
        let base = touched.streams.iter().map(|s| self.ready[*s]).min().unwrap_or(0);
        let ready = touched.streams.iter().map(|s| Some(self.ready[*s] - base));
        // What the body records moves on with its turns, and later steps may wait for it on any
        // stream; of the rest, what happened before anything can start makes no difference.
        let moved = |time: Option<&Ticks>| time.map(|t| t.wrapping_sub(base));
        let fixed = |time: Option<&Ticks>| time.map(|t| t.saturating_sub(base));
        let waited = touched.waited.iter().filter(|e| !touched.recorded.contains(e));
        let shape = ready
            .chain(touched.recorded.iter().flat_map(|e| self.events[*e].all(moved)))
            .chain(waited.flat_map(|e| self.events[*e].all(fixed)));
        After {
            base,
            shape: shape.collect(),
            labels: touched.labels.iter().map(|l| self.labels[*l]).collect(),
            busy: self.busy.clone(),
        }
    }

    /// Repeats what happened between two states so many times.
    fn skip(
        &mut self,
        axis: &str,
        touched: &Touched,
        (from, to): (&After, &After),
        (period, times): (u64, u64),
    ) {
        if times == 0 {
            return;
        }
        let advance = (to.base - from.base) * times;
        for stream in &touched.streams {
            let start = self.ready[*stream];
            self.ready[*stream] += advance;
            let what = What::Turns { axis: axis.to_owned(), count: period * times };
            self.spans.push(Span { what, stream: *stream, start, end: start + advance });
        }
        for event in &touched.recorded {
            self.events[*event].times.iter_mut().for_each(|time| *time += advance);
        }
        for (i, label) in touched.labels.iter().enumerate() {
            let usage = &mut self.labels[*label];
            usage.tasks += (to.labels[i].tasks - from.labels[i].tasks) * times;
            usage.busy += (to.labels[i].busy - from.labels[i].busy) * times;
            usage.stalled += (to.labels[i].stalled - from.labels[i].stalled) * times;
        }
        for (i, busy) in self.busy.iter_mut().enumerate() {
            *busy += (to.busy[i] - from.busy[i]) * times;
        }
    }
}

impl Touched {
    fn by(body: &[Step]) -> Self {
        let mut touched = Self::default();
        touched.add(body);
        for list in
            [&mut touched.streams, &mut touched.waited, &mut touched.recorded, &mut touched.labels]
        {
            list.sort_unstable();
            list.dedup();
        }
        touched
    }

    fn add(&mut self, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Task(task) => {
                    self.streams.push(task.stream);
                    self.waited.extend(task.waits.iter().map(|w| w.event));
                    self.recorded.extend(&task.records);
                    self.labels.push(task.label);
                }
                Step::Loop { body, .. } => self.add(body),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Wait;
    use proptest::prelude::*;

    fn schedule(streams: usize, events: usize, steps: Vec<Step>) -> Schedule {
        let name = |i: usize| format!("{i}");
        Schedule {
            streams: (0..streams).map(name).collect(),
            events,
            labels: (0..4).map(name).collect(),
            groups: vec![],
            steps,
        }
    }

    fn task(stream: usize, ticks: Ticks, waits: &[(EventId, usize)], records: &[EventId]) -> Step {
        let waits = waits.iter().map(|(event, behind)| Wait { event: *event, behind: *behind });
        let (waits, records) = (waits.collect(), records.to_vec());
        Step::Task(Task { label: stream, stream, ticks, waits, records })
    }

    fn repeat(count: u64, body: Vec<Step>) -> Step {
        Step::Loop { axis: "L".into(), count, body }
    }

    fn unrolled(steps: &[Step]) -> Vec<Step> {
        let one = |step: &Step| match step {
            Step::Task(_) => vec![step.clone()],
            Step::Loop { count, body, .. } => {
                let turn = unrolled(body);
                (0..*count).flat_map(|_| turn.clone()).collect()
            }
        };
        steps.iter().flat_map(one).collect()
    }

    #[test]
    fn one_stream_adds_up() {
        let steps = vec![task(0, 5, &[], &[]), repeat(1000, vec![task(0, 3, &[], &[])])];
        let run = simulate(&schedule(1, 0, steps));
        assert_eq!((run.end, run.busy[0]), (3005, 3005));
        assert_eq!(run.labels[0], Usage { tasks: 1001, busy: 3005, stalled: 0 });
        assert!(run.spans.len() < 10, "turns are not listed one by one");
    }

    /// Gathering weights one layer ahead of computing with them, in two buffers: a gather may
    /// start when the layer before last has been computed.
    fn prefetch(layers: u64, gather: Ticks, compute: Ticks) -> Schedule {
        let body = vec![task(1, gather, &[(1, 1)], &[0]), task(0, compute, &[(0, 0)], &[1])];
        schedule(2, 2, vec![repeat(layers, body)])
    }

    #[test]
    fn prefetch_by_hand() {
        // Compute-bound: only the first gather shows.
        assert_eq!(simulate(&prefetch(54, 20, 100)).end, 20 + 54 * 100);
        // Communication-bound: only the last computation shows.
        let run = simulate(&prefetch(54, 100, 20));
        assert_eq!(run.end, 54 * 100 + 20);
        // The first computation waits 100, each later one for what its gather takes longer.
        assert_eq!(run.labels[0].stalled, 100 + 53 * 80);
        assert_eq!(run.busy, [54 * 20, 54 * 100]);
    }

    #[test]
    fn without_prefetch_everything_waits() {
        // A gather waits for the computation just before it.
        let body = vec![task(1, 30, &[(1, 0)], &[0]), task(0, 50, &[(0, 0)], &[1])];
        assert_eq!(simulate(&schedule(2, 2, vec![repeat(10, body)])).end, 800);
    }

    #[test]
    fn a_stream_that_a_loop_leaves_alone_stays_behind() {
        let steps = vec![
            task(1, 7, &[], &[]),
            repeat(100, vec![task(0, 10, &[], &[0])]),
            // Starts when its own stream is free, not when the loop ends.
            task(1, 5, &[], &[]),
            task(1, 1, &[(0, 0)], &[]),
        ];
        let run = simulate(&schedule(2, 1, steps));
        assert_eq!(run.end, 1001);
        assert_eq!(run.labels[1], Usage { tasks: 3, busy: 13, stalled: 988 });
    }

    /// The records before the loop end while nothing in it can start earlier.
    #[test]
    fn records_of_skipped_turns_are_those_of_the_turns() {
        let steps = vec![
            repeat(2, vec![task(1, 18, &[], &[0])]),
            repeat(5, vec![task(0, 0, &[(0, 2)], &[0])]),
            task(2, 0, &[(0, 2)], &[]),
        ];
        assert_eq!(simulate(&schedule(3, 1, steps)).labels[2].stalled, 36);
    }

    fn any_task() -> impl Strategy<Value = Step> {
        let waits = prop::collection::vec((0..3_usize, 0..3_usize), 0..3);
        let records = prop::collection::vec(0..3_usize, 0..2);
        (0..3_usize, 0..50_u64, waits, records).prop_map(|(s, t, w, r)| task(s, t, &w, &r))
    }

    fn any_step() -> impl Strategy<Value = Step> {
        any_task().prop_recursive(2, 12, 4, |inner| {
            (0..40_u64, prop::collection::vec(inner, 0..4)).prop_map(|(n, body)| repeat(n, body))
        })
    }

    proptest! {
        /// Skipping turns changes no number.
        #[test]
        fn loops_mean_their_turns(steps in prop::collection::vec(any_step(), 0..5)) {
            let looped = simulate(&schedule(3, 3, steps.clone()));
            let flat = simulate(&schedule(3, 3, unrolled(&steps)));
            prop_assert_eq!(looped.end, flat.end);
            prop_assert_eq!(looped.labels, flat.labels);
            prop_assert_eq!(looped.busy, flat.busy);
        }
    }
}
