//! Launches that have nothing to do with each other become one: the updates of all parameters, the sums
//! over all gradients, rotations of queries and of keys.
//!
//! Requires formed kernels of which it is settled which value lies over which (`reuse`). Launches of a region, without a loop between
//! them, are put together when
//! - no kernel of them multiplies matrices: what products and attention take of registers and shared
//!   memory, all blocks of the launch would take;
//! - nothing that one of them writes is read or written by another one, nor by what stands between
//!   them: a launch moves up to the earliest one that it may stand beside;
//! - one launch of all takes less time on the device than several: a launch is saved, and they share
//!   waves of blocks;
//! - a launch of the device can take their parameters.
//!
//! Kernels stay what they are, and compute what they computed: every bit stays. Values that live at the same
//! time cannot share memory, so the result is placed, and where it takes more, launches that make more memory of
//! their own than some bound stay where they were: **the arena never grows**.
//!
//! O(units² of a region) time, whatever the depth. Filetests: `passes/filetests/together/`.

use std::collections::{HashMap, HashSet};

use gigac_cost::target::Device;
use gigac_cost::time::together as time_together;
use gigac_cost::work::Work;
use gigac_ir::graph::ValueId;
use gigac_ir::kernel::{Access, Kernel};

use crate::form::{Formed, Launch, Loop, Unit};
use crate::pass::{Need, Pass, Report, Run, Scope};
use crate::place::arenas;

/// The pass.
pub const TOGETHER: Pass = Pass {
    name: "together",
    about: "launches that have nothing to do with each other become one",
    need: Need::Optional,
    scope: Scope::All,
    run: Run::Formed(|formed, context| {
        let (formed, saved) = together(formed, context.options.device());
        (formed, Report::new().count(saved, "launches saved"))
    }),
};

/// Most grid points of a launch: blocks along x.
const MOST_POINTS: u64 = (1 << 31) - 1;
/// By how much the bound on memory of their own falls when the arena grows.
const STRICTER: u64 = 16;

/// Puts launches together; also gives the number of launches that are no more.
pub fn together(formed: Formed, device: &Device) -> (Formed, usize) {
    let works: Vec<Work> = formed.kernels.iter().map(Work::of).collect();
    let (homes, before) = (homes(&formed), arenas(&formed));
    let mut most_bytes = u64::MAX;
    loop {
        let (works, homes) = (&works, &homes);
        let mut grouper =
            Grouper { formed: &formed, device, works, homes, most_bytes, saved: 0, largest: 0 };
        let units = grouper.region(&formed.units);
        let Grouper { saved, largest, .. } = grouper;
        if saved == 0 {
            return (formed, 0);
        }
        let tried = Formed { units, ..formed.clone() };
        let (device, host) = arenas(&tried);
        if device <= before.0 && host <= before.1 {
            return (tried, saved);
        }
        if largest == 0 {
            return (formed, 0);
        }
        most_bytes = largest / STRICTER;
    }
}

/// Which value lies where another one lies, parts of turns included.
fn homes(formed: &Formed) -> HashMap<ValueId, ValueId> {
    let mut homes = formed.over.clone();
    stacked(&formed.units, &mut homes);
    homes
}

/// What a turn writes into a stack that lies over another one lies over the slice that it takes of that one.
fn stacked(units: &[Unit], homes: &mut HashMap<ValueId, ValueId>) {
    for unit in units {
        let Unit::Repeat(inner) = unit else { continue };
        for to in inner.carried..inner.results.len() {
            let Some(old) = homes.get(&inner.results[to]).copied() else { continue };
            let mut taken =
                (inner.carried..inner.operands.len()).filter(|i| inner.operands[*i] == old);
            let Some(from) = taken.next() else { continue };
            for segment in &inner.segments {
                homes.insert(segment.next[to], segment.arguments[1 + from]);
            }
        }
        inner.segments.iter().for_each(|segment| stacked(&segment.body, homes));
    }
}

/// What a unit touches, by the first values that lay there.
#[derive(Default)]
struct Touched {
    read: HashSet<ValueId>,
    written: HashSet<ValueId>,
}

impl Touched {
    /// Whether what one writes the other one touches.
    fn conflicts(&self, other: &Self) -> bool {
        let meets = |a: &HashSet<ValueId>, b: &HashSet<ValueId>| !a.is_disjoint(b);
        meets(&self.written, &other.read)
            || meets(&self.read, &other.written)
            || meets(&self.written, &other.written)
    }

    fn add(&mut self, other: Self) {
        self.read.extend(other.read);
        self.written.extend(other.written);
    }
}

/// A unit of the new order, and what launches may join it by.
struct Placed {
    unit: Unit,
    touched: Touched,
    /// What its launch takes; none when nothing joins it.
    seconds: Option<f64>,
}

struct Grouper<'f> {
    formed: &'f Formed,
    device: &'f Device,
    /// By kernel.
    works: &'f [Work],
    homes: &'f HashMap<ValueId, ValueId>,
    /// Bytes of memory of its own that a launch which moves may make.
    most_bytes: u64,
    /// Launches that are no more.
    saved: usize,
    /// The most memory of its own that a launch makes which moved.
    largest: u64,
}

impl Grouper<'_> {
    fn region(&mut self, units: &[Unit]) -> Vec<Unit> {
        let mut placed: Vec<Placed> = Vec::new();
        for unit in units {
            match unit {
                Unit::Repeat(inner) => {
                    let unit = Unit::Repeat(self.repeat(inner));
                    placed.push(Placed { unit, touched: Touched::default(), seconds: None });
                }
                _ => self.put(unit, &mut placed),
            }
        }
        placed.into_iter().map(|placed| placed.unit).collect()
    }

    fn repeat(&mut self, inner: &Loop) -> Loop {
        let mut inner = inner.clone();
        for segment in &mut inner.segments {
            segment.body = self.region(&segment.body);
        }
        inner
    }

    /// Puts launches beside the earliest that they may join, or behind everything.
    fn put(&mut self, unit: &Unit, placed: &mut Vec<Placed>) {
        let touched = self.touched(unit.launches());
        let own = self.own_bytes(unit.launches());
        let seconds = self.seconds(unit.launches().iter());
        let alone = seconds.filter(|_| own <= self.most_bytes);
        let found = alone.and_then(|alone| self.host(unit.launches(), alone, &touched, placed));
        let Some((at, seconds)) = found else {
            placed.push(Placed { unit: unit.clone(), touched, seconds });
            return;
        };
        let host = &mut placed[at];
        let launches = [host.unit.launches(), unit.launches()].concat();
        self.saved += 1;
        self.largest = self.largest.max(own);
        host.unit = Unit::Together(launches);
        host.touched.add(touched);
        host.seconds = Some(seconds);
    }

    /// The earliest unit that launches may join, and what the one launch takes.
    fn host(
        &self,
        launches: &[Launch],
        alone: f64,
        touched: &Touched,
        placed: &[Placed],
    ) -> Option<(usize, f64)> {
        let stands_in_the_way = |other: &Placed| {
            matches!(other.unit, Unit::Repeat(_)) || other.touched.conflicts(touched)
        };
        let first = placed.iter().rposition(stands_in_the_way).map_or(0, |at| at + 1);
        (first..placed.len()).find_map(|at| {
            let host = &placed[at];
            let apart = host.seconds? + alone;
            let joined = self.seconds(host.unit.launches().iter().chain(launches))?;
            (joined < apart).then_some((at, joined))
        })
    }

    /// What one launch of several kernels takes; none when there is no such launch.
    fn seconds<'l>(&self, launches: impl Iterator<Item = &'l Launch> + Clone) -> Option<f64> {
        let works: Vec<&Work> = launches.clone().map(|l| &self.works[l.kernel]).collect();
        let plain = works.iter().all(|work| work.products.is_empty());
        let points: u64 = works.iter().map(|work| work.points).sum();
        let parameters: u64 = launches.map(|l| parameters(self.kernel(l))).sum();
        let fits = self.device.launch_parameters().is_none_or(|most| parameters <= most);
        let possible = plain && fits && points <= MOST_POINTS;
        possible.then(|| time_together(&works, self.device).seconds)
    }

    fn kernel(&self, launch: &Launch) -> &Kernel {
        &self.formed.kernels[launch.kernel]
    }

    fn touched(&self, launches: &[Launch]) -> Touched {
        let mut touched = Touched::default();
        for launch in launches {
            for (value, buffer) in launch.arguments.iter().zip(&self.kernel(launch).buffers) {
                let home = self.home(*value);
                match buffer.access {
                    Access::Read => touched.read.insert(home),
                    _ => touched.written.insert(home),
                };
            }
        }
        touched
    }

    /// Bytes of what launches make that lies over nothing.
    fn own_bytes(&self, launches: &[Launch]) -> u64 {
        let made = launches.iter().flat_map(|l| l.arguments.iter().zip(&self.kernel(l).buffers));
        let own = made.filter(|(value, buffer)| {
            buffer.access != Access::Read && !self.homes.contains_key(value)
        });
        own.map(|(value, _)| self.formed.bytes(*value)).sum()
    }

    /// The first value that lay where a value lies.
    fn home(&self, mut value: ValueId) -> ValueId {
        while let Some(old) = self.homes.get(&value) {
            value = *old;
        }
        value
    }
}

/// Bytes of a kernel's parameters: addresses, then ints, whose last one the next address may follow.
fn parameters(kernel: &Kernel) -> u64 {
    let addresses = kernel.buffers.iter().filter(|b| b.access != Access::Local).count() as u64;
    8 * addresses + (4 * kernel.scalars.len() as u64).next_multiple_of(8)
}
