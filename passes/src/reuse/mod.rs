//! In-place results: a value lies where another one lies that is read for the last time.
//!
//! Requires formed kernels. Decides, and changes nothing else: [`Formed::over`] says which value
//! lies over which, and `place` obeys. Four kinds of values are considered:
//! - the new contents of a parameter's state, over the old ones;
//! - the next carried value of a loop, over the last one: one slot instead of two;
//! - what a loop stacks, over a stack that it takes slice by slice, such as sums of gradients;
//! - what a launch makes, over what it reads.
//!
//! In each case the maker must read an element before it writes the same one ([`Kernel::may_lie_over`]), and nothing
//! may read the old value after that (`last`). O(units · arguments²) time.
//!
//! [`Kernel::may_lie_over`]: gigac_ir::kernel::Kernel::may_lie_over

mod last;

use std::collections::{HashMap, HashSet};

use gigac_ir::graph::{Op, ParamId, Role, Slot, ValueId};
use gigac_ir::kernel::Access;

use crate::form::{Formed, Launch, Loop, Segment, Unit};
use crate::pass::{Need, Pass, Report, Run, Scope};
use last::{last_mentions, launch_may, loop_may, may_overwrite};

/// The pass.
pub const REUSE: Pass = Pass {
    name: "reuse",
    about: "a result lies over an operand that is read for the last time",
    need: Need::Optional,
    scope: Scope::All,
    run: Run::Formed(|formed, _| {
        let formed = reuse(formed);
        let report = Report::new().count(formed.over.len(), "values in place");
        (formed, report)
    }),
};

/// Lets values lie over others where that is legal.
pub fn reuse(mut formed: Formed) -> Formed {
    let mut reuse = Reuse {
        formed: &formed,
        over: HashMap::new(),
        given: HashSet::new(),
        own: HashMap::new(),
        regions: 0,
    };
    reuse.updates();
    reuse.region(&formed.units, &formed.graph.root.results);
    formed.over = reuse.over;
    formed
}

/// Who reads a value last is told of launches one after another.
const TOO_EARLY: &str = "launches are put together after values are";

struct Reuse<'f> {
    formed: &'f Formed,
    over: HashMap<ValueId, ValueId>,
    /// Values whose place follows from that of others: they enter or leave a turn, or are the new
    /// contents of a state whose old ones nothing reads.
    given: HashSet<ValueId>,
    /// Values with memory of just their size, and the region that they live in.
    own: HashMap<ValueId, usize>,
    /// Number of regions begun.
    regions: usize,
}

/// What is known at a unit.
struct Here {
    /// Its region.
    region: usize,
    /// Values that the unit is the last of the region to mention.
    last: HashSet<ValueId>,
}

impl Reuse<'_> {
    /// New states over old ones.
    fn updates(&mut self) {
        let graph = &self.formed.graph;
        for (role, new) in graph.results() {
            let Role::Update(param, slot) = role else { continue };
            let Some(old) = state(self.formed, *param, *slot) else {
                self.given.insert(new);
                continue;
            };
            if may_overwrite(self.formed, &self.formed.units, old, new) {
                self.over.insert(new, old);
            }
        }
    }

    /// The units of a region that hands out `results`.
    fn region(&mut self, units: &[Unit], results: &[ValueId]) {
        let region = self.regions;
        self.regions += 1;
        for unit in units {
            if let Unit::Repeat(inner) = unit {
                self.carried(inner, region);
            }
        }
        for (unit, last) in units.iter().zip(last_mentions(units, results)) {
            let here = Here { region, last };
            match unit {
                Unit::Launch(launch) => self.launch(launch, &here),
                Unit::Together(_) => unreachable!("{TOO_EARLY}"),
                Unit::Repeat(inner) => self.repeat(inner, &here),
            }
        }
    }

    /// Next carried values over the last ones, when all turns allow it.
    fn carried(&mut self, inner: &Loop, region: usize) {
        for i in 0..inner.carried {
            self.given.insert(inner.operands[i]);
            let in_place = |s: &Segment| {
                let (arg, next) = (s.arguments[1 + i], s.next[i]);
                let held =
                    s.next[inner.carried..].iter().copied().chain(s.kept()).any(|v| v == arg);
                !held && may_overwrite(self.formed, &s.body, arg, next)
            };
            if inner.segments.iter().all(in_place) {
                let pairs = inner.segments.iter().map(|s| (s.next[i], s.arguments[1 + i]));
                self.over.extend(pairs);
                self.own.insert(inner.results[i], region);
            }
        }
    }

    fn repeat(&mut self, inner: &Loop, here: &Here) {
        for new in &inner.results[inner.carried..] {
            let mut olds = inner.operands[inner.carried..].iter();
            let may = |old: &&ValueId| {
                self.free(**old, *new, here) && loop_may(self.formed, inner, **old, *new)
            };
            let found = olds.find(may).filter(|_| !self.given.contains(new));
            self.settle(*new, found, here);
        }
        for segment in &inner.segments {
            let leaving: Vec<ValueId> =
                segment.next.iter().copied().chain(segment.kept()).collect();
            self.given.extend(&leaving);
            self.region(&segment.body, &leaving);
        }
    }

    fn launch(&mut self, launch: &Launch, here: &Here) {
        let buffers = &self.formed.kernels[launch.kernel].buffers;
        for (new, buffer) in launch.arguments.iter().zip(buffers) {
            let placed = self.given.contains(new) || self.over.contains_key(new);
            if buffer.access != Access::Read && !placed {
                let mut olds = launch.arguments.iter();
                let found = olds.find(|old| self.may_take(launch, **old, *new, here));
                self.settle(*new, found, here);
            }
        }
    }

    /// Gives `new` the memory of `old`, or its own.
    fn settle(&mut self, new: ValueId, old: Option<&ValueId>, here: &Here) {
        self.own.insert(new, here.region);
        if let Some(old) = old {
            self.over.insert(new, *old);
        }
    }

    /// Whether a launch may write `new` over `old` and everything else that lies there.
    fn may_take(&self, launch: &Launch, old: ValueId, new: ValueId, here: &Here) -> bool {
        let home = self.home(old);
        let mut there = launch.arguments.iter().filter(|v| self.home(**v) == home);
        self.free(old, new, here)
            && there.all(|v| {
                let once = launch.arguments.iter().filter(|a| *a == v).count() == 1;
                once && *v != new
                    && here.last.contains(v)
                    && launch_may(self.formed, launch, *v, new)
            })
    }

    /// Whether `old` is memory of its own, as large as `new` needs, that nothing reads later.
    fn free(&self, old: ValueId, new: ValueId, here: &Here) -> bool {
        old != new
            && here.last.contains(&old)
            && self.own.get(&old) == Some(&here.region)
            && self.formed.bytes(old) == self.formed.bytes(new)
    }

    /// The first value that lay where a value lies.
    fn home(&self, mut value: ValueId) -> ValueId {
        while let Some(old) = self.over.get(&value) {
            value = *old;
        }
        value
    }
}

/// The value of a state that an update replaces, when something reads it.
pub(crate) fn state(formed: &Formed, param: ParamId, slot: Slot) -> Option<ValueId> {
    let mut nodes = formed.graph.root.nodes.iter();
    nodes.find(|n| n.op == Op::Param(param, slot)).map(|n| n.results[0])
}
