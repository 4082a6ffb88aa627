//! Kernels and launches → text, for people: loops and launches with the values that they touch,
//! then the kernels.

use std::fmt::{self, Display, Formatter};

use gigac_ir::graph::ValueId;
use gigac_ir::kernel::Access;
use gigac_ir::plan::Memory;

use super::{Formed, Launch, Loop, Segment, Unit};

impl Display for Formed {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "formed {} {{", self.graph.name)?;
        self.units(f, &self.units, 1)?;
        for (role, value) in self.graph.results() {
            writeln!(f, "  result {role:?} = {}", self.value(value))?;
        }
        writeln!(f, "}}")?;
        self.kernels.iter().try_for_each(|kernel| write!(f, "\n{kernel}"))
    }
}

impl Formed {
    fn units(&self, f: &mut Formatter<'_>, units: &[Unit], depth: usize) -> fmt::Result {
        units.iter().try_for_each(|unit| match unit {
            Unit::Launch(launch) => {
                write!(f, "{}launch ", "  ".repeat(depth))?;
                self.launch(f, launch)
            }
            Unit::Together(launches) => {
                let indent = "  ".repeat(depth);
                writeln!(f, "{indent}launch together {{")?;
                for launch in launches {
                    write!(f, "{indent}  ")?;
                    self.launch(f, launch)?;
                }
                writeln!(f, "{indent}}}")
            }
            Unit::Repeat(inner) => self.repeat(f, inner, depth),
        })
    }

    fn launch(&self, f: &mut Formatter<'_>, launch: &Launch) -> fmt::Result {
        let kernel = &self.kernels[launch.kernel];
        let buffers = launch.arguments.iter().zip(&kernel.buffers);
        let arguments = buffers.map(|(v, b)| match b.access {
            Access::Read => format!("Read {}", self.value(*v)),
            access => format!("{access:?} {}", self.made(*v)),
        });
        let turns = launch.turns.iter().map(|depth| format!("L{depth}"));
        let arguments: Vec<String> = arguments.chain(turns).collect();
        writeln!(f, "{}({}) // {}", kernel.name, arguments.join(", "), launch.origin)
    }

    fn repeat(&self, f: &mut Formatter<'_>, inner: &Loop, depth: usize) -> fmt::Result {
        inner.segments.iter().try_for_each(|segment| self.segment(f, inner, segment, depth))
    }

    fn segment(
        &self,
        f: &mut Formatter<'_>,
        inner: &Loop,
        segment: &Segment,
        depth: usize,
    ) -> fmt::Result {
        let indent = "  ".repeat(depth);
        let name = &self.graph.axes[inner.axis.index()].name;
        let (from, count) = (segment.turns.start, segment.turns.end - segment.turns.start);
        let from = if from == 0 { String::new() } else { format!(" from {from}") };
        let order = if inner.reversed { "down" } else { "up" };
        writeln!(f, "{indent}loop {name} {count}{from} {order} {{")?;
        let (arguments, next) = (&segment.arguments[1..], &segment.next);
        for i in 0..inner.carried {
            let [first, arg, next, last] =
                [inner.operands[i], arguments[i], next[i], inner.results[i]].map(|v| self.value(v));
            writeln!(f, "{indent}  carry {arg} = {first}, then {next}; at last {last}")?;
        }
        for (whole, part) in inner.operands.iter().zip(arguments).skip(inner.carried) {
            writeln!(f, "{indent}  slice {} of {}", self.value(*part), self.value(*whole))?;
        }
        for (whole, part) in inner.results.iter().zip(next).skip(inner.carried) {
            writeln!(f, "{indent}  stack {} into {}", self.value(*part), self.value(*whole))?;
        }
        for stack in &segment.stacks {
            let (slice, whole) = (self.value(stack.slice), self.value(stack.whole));
            let host = if stack.memory == Memory::Host { " on the host" } else { "" };
            writeln!(f, "{indent}  keep {slice} in {whole}{host}")?;
        }
        self.units(f, &segment.body, depth + 1)?;
        writeln!(f, "{indent}}}")
    }

    fn value(&self, value: ValueId) -> String {
        match &self.graph.values[value.index()].name {
            Some(name) => format!("{value} {name:?}"),
            None => value.to_string(),
        }
    }

    /// A value where it is made: with the one that it lies over.
    fn made(&self, value: ValueId) -> String {
        match self.over.get(&value) {
            Some(old) => format!("{} over {old}", self.value(value)),
            None => self.value(value),
        }
    }
}
