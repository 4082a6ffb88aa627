//! Products that share an operand become one kernel: queries, keys and values of one `h`; gate and up;
//! the gradients of their weights.
//!
//! Requires formed kernels. Two launches of a region are joined when
//! - each is a product with its epilogue, over grids and depths of the same sizes, and all products
//!   have one operand in common (`join` writes their kernel);
//! - no unit between them stands in the way: there is a place after all that the second one waits
//!   for, and before all that waits for the first;
//! - by the roofline of the device one launch with several products takes no longer than the two, and on CPUs
//!   blocks of several are no worse than blocks of one.
//!
//! The one kernel reads the common operand once, what the one epilogue stores and the other reads
//! stays in registers, and what nobody else reads is not stored at all. Every sum is added up as it was, tile by
//! tile of the contracted variable, so every bit stays. The earliest launch looks for partners
//! first, and the joined one goes on looking. O(units² of a region) time, whatever the depth.
//!
//! Runs after `checkpoint`, which thereby chooses single products to compute again, and prices them
//! so. Filetests: `passes/filetests/merge/`.

mod join;

use std::collections::HashMap;

use gigac_cost::target::Device;
use gigac_cost::time::time;
use gigac_cost::work::Work;
use gigac_ir::graph::ValueId;
use gigac_ir::kernel::{Access, Kernel};

use crate::form::{Formed, Launch, Unit};
use crate::options::Options;
use crate::pass::{Need, Pass, Report, Run, Scope};
use crate::pipeline::position;
use join::{Joined, Product, Shape, join};

/// The pass.
pub const MERGE: Pass = Pass {
    name: "merge",
    about: "products that share an operand become one kernel",
    need: Need::Optional,
    scope: Scope::All,
    run: Run::Formed(|formed, context| {
        let (formed, joined) = merge(formed, context.options.device());
        (formed, Report::new().count(joined, "launches joined"))
    }),
};

/// Most products of one kernel: each has a register tile of its own in the code.
const MOST_PRODUCTS: u64 = 4;

/// The program that the pass makes of this one, if it is switched on.
pub(crate) fn as_switched(formed: Formed, options: &Options) -> Formed {
    match options.runs(position(MERGE.name), &MERGE) {
        true => merge(formed, options.device()).0,
        false => formed,
    }
}

/// Joins launches of products that share an operand; also gives the number of launches that are no
/// more.
pub fn merge(mut formed: Formed, device: &Device) -> (Formed, usize) {
    let units = std::mem::take(&mut formed.units);
    let kernels = std::mem::take(&mut formed.kernels);
    let known = kernels.iter().enumerate().map(|(i, k)| (key(k), i)).collect();
    let seconds = kernels.iter().map(|k| time(&Work::of(k), device).seconds).collect();
    let mut merger = Merger { device, kernels, known, seconds, joined: 0 };
    formed.units = merger.region(units, &formed.graph.root.results);
    let Merger { kernels, joined, .. } = merger;
    formed.kernels = kernels;
    if joined > 0 {
        drop_unused(&mut formed);
    }
    (formed, joined)
}

struct Merger<'d> {
    device: &'d Device,
    kernels: Vec<Kernel>,
    /// Kernels by all but their names.
    known: HashMap<String, usize>,
    /// Price of a launch of each kernel.
    seconds: Vec<f64>,
    joined: usize,
}

/// Two launches as one.
struct Found {
    /// The number of the second one.
    other: usize,
    /// The number of the joined one, once both are gone.
    place: usize,
    launch: Launch,
}

impl Merger<'_> {
    /// The units of a region that hands out some values.
    fn region(&mut self, mut units: Vec<Unit>, leaving: &[ValueId]) -> Vec<Unit> {
        for unit in &mut units {
            if let Unit::Repeat(inner) = unit {
                for segment in &mut inner.segments {
                    let kept = segment.kept();
                    let leaving: Vec<ValueId> = segment.next.iter().copied().chain(kept).collect();
                    segment.body = self.region(std::mem::take(&mut segment.body), &leaving);
                }
            }
        }
        let mut at = 0;
        while at < units.len() {
            let Some(found) = self.partner(&units, at, leaving) else {
                at += 1;
                continue;
            };
            units.remove(found.other);
            units.remove(at);
            units.insert(found.place, Unit::Launch(found.launch));
            self.joined += 1;
        }
        units
    }

    /// The first later launch that can be joined to one.
    fn partner(&mut self, units: &[Unit], at: usize, leaving: &[ValueId]) -> Option<Found> {
        let Unit::Launch(first) = &units[at] else { return None };
        Product::of(&self.kernels[first.kernel])?;
        (at + 1..units.len()).find_map(|other| {
            let Unit::Launch(second) = &units[other] else { return None };
            let shares = |v: &ValueId| first.arguments.contains(v);
            if !second.arguments.iter().any(shares) {
                return None;
            }
            let place = self.place(units, at, other)?;
            let others = || (0..units.len()).filter(|i| *i != at && *i != other);
            let is_read = |value: ValueId| {
                leaving.contains(&value) || others().any(|i| units[i].mentions(value))
            };
            let launch = self.join(first, second, &is_read)?;
            Some(Found { other, place, launch })
        })
    }

    /// Where a launch stands that does what two do, once both are gone: right behind the last unit
    /// that the second one waits for, unless one before that waits for the first.
    fn place(&self, units: &[Unit], first: usize, second: usize) -> Option<usize> {
        let between = first + 1..second;
        let apart = |i: usize, of: usize| self.independent(&units[i], &units[of]);
        let last = between.clone().rev().find(|i| !apart(*i, second));
        let blocked = between.take_while(|i| last.is_some_and(|last| *i <= last));
        blocked.into_iter().all(|i| apart(i, first)).then_some(last.unwrap_or(first))
    }

    /// Whether neither unit mentions what the other one makes.
    fn independent(&self, a: &Unit, b: &Unit) -> bool {
        let apart = |a: &Unit, b: &Unit| self.makes(a).iter().all(|v| !b.mentions(*v));
        apart(a, b) && apart(b, a)
    }

    fn makes(&self, unit: &Unit) -> Vec<ValueId> {
        match unit {
            Unit::Repeat(inner) => inner.results.clone(),
            Unit::Launch(_) | Unit::Together(_) => {
                let buffers = |launch: &Launch| &self.kernels[launch.kernel].buffers;
                let arguments =
                    unit.launches().iter().flat_map(|l| l.arguments.iter().zip(buffers(l)));
                arguments.filter(|(_, b)| b.access != Access::Read).map(|(v, _)| *v).collect()
            }
        }
    }

    /// One launch for two, where that is possible and takes no longer.
    fn join(
        &mut self,
        first: &Launch,
        second: &Launch,
        is_read: &dyn Fn(ValueId) -> bool,
    ) -> Option<Launch> {
        let kernel = |launch: &Launch| &self.kernels[launch.kernel];
        let Joined { mut kernel, arguments, turns, shape } =
            join((kernel(first), first), (kernel(second), second), is_read)?;
        let Shape { rows, cols, batch, extents, depth, operands, bf16, in_order } = shape;
        let few = operands.into_iter().max() <= Some(MOST_PRODUCTS);
        if !few || !self.device.machine().gathers(batch, extents, operands, depth, in_order) {
            return None;
        }
        // The tile of the contracted variable is that of each product alone.
        let tiles = self.device.machine().products(batch, extents, operands, &[depth], bf16)[0];
        kernel.vars[rows.0 as usize].tile = tiles.rows;
        kernel.vars[cols.0 as usize].tile = tiles.cols;
        let seconds = time(&Work::of(&kernel), self.device).seconds;
        if seconds > self.seconds[first.kernel] + self.seconds[second.kernel] {
            return None;
        }
        let origin = format!("{}, {}", first.origin, second.origin);
        kernel.origin.clone_from(&origin);
        let kernel = self.register(kernel, seconds, first.kernel);
        Some(Launch {
            kernel,
            arguments,
            turns,
            flops: first.flops + second.flops,
            origin,
            places: [&first.places[..], &second.places].concat(),
        })
    }

    /// The number of a kernel, or of its equal; a new one is called like its kin.
    fn register(&mut self, mut kernel: Kernel, seconds: f64, kin: usize) -> usize {
        let next = self.kernels.len();
        let number = *self.known.entry(key(&kernel)).or_insert(next);
        if number == next {
            let name = &self.kernels[kin].name;
            let (stem, _) = name.rsplit_once('_').expect("`form` numbers kernels");
            kernel.name = format!("{stem}_{next}");
            self.kernels.push(kernel);
            self.seconds.push(seconds);
        }
        number
    }
}

/// What tells kernels apart beside their names.
fn key(kernel: &Kernel) -> String {
    let nameless = Kernel { name: String::new(), origin: String::new(), ..kernel.clone() };
    format!("{nameless:?}")
}

/// Leaves out kernels that no launch names.
fn drop_unused(formed: &mut Formed) {
    let mut used = vec![false; formed.kernels.len()];
    each_launch(&mut formed.units, &mut |launch| used[launch.kernel] = true);
    let new: Vec<usize> = used
        .iter()
        .scan(0, |next, used| {
            let number = *next;
            *next += usize::from(*used);
            Some(number)
        })
        .collect();
    each_launch(&mut formed.units, &mut |launch| launch.kernel = new[launch.kernel]);
    let mut used = used.into_iter();
    formed.kernels.retain(|_| used.next().expect("a flag for each kernel"));
}

fn each_launch(units: &mut [Unit], visit: &mut dyn FnMut(&mut Launch)) {
    for unit in units {
        match unit {
            Unit::Launch(launch) => visit(launch),
            Unit::Together(launches) => launches.iter_mut().for_each(&mut *visit),
            Unit::Repeat(inner) => {
                inner.segments.iter_mut().for_each(|s| each_launch(&mut s.body, visit));
            }
        }
    }
}
