//! The plan as text: memory first, then the program.

use std::fmt::{self, Display, Formatter, Write};

use super::{Address, End, Item, Memory, Order, Part, Plan, TurnTerm, Wait};

impl Display for Address {
    /// `1024 + 64·L0 + 128·((L1 + 1) mod 2)`, where `L0` is the turn of the outermost loop.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.base)?;
        self.turns.iter().try_for_each(|term| write!(f, " + {term}"))
    }
}

impl Display for End {
    /// `@1024`, or `host @1024`.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.memory {
            Memory::Device => write!(f, "@{}", self.address),
            Memory::Host => write!(f, "host @{}", self.address),
        }
    }
}

impl Display for TurnTerm {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { depth, stride, shift, modulus } = self;
        match (shift, modulus) {
            (0, 0) => write!(f, "{stride}*L{depth}"),
            (0, _) => write!(f, "{stride}*(L{depth} mod {modulus})"),
            (_, 0) => write!(f, "{stride}*({})", shifted(*depth, *shift)),
            _ => write!(f, "{stride}*(({}) mod {modulus})", shifted(*depth, *shift)),
        }
    }
}

impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "plan {} (arena {} bytes, {} live",
            self.name, self.arena_bytes, self.live_bytes
        )?;
        if self.host_bytes > 0 {
            write!(f, "; {} on the host", self.host_bytes)?;
        }
        writeln!(f, ") {{")?;
        for state in &self.states {
            let param = &self.params[state.param as usize];
            writeln!(f, "  state {} {:?} @{}", param.name, state.slot, state.offset)?;
        }
        for input in &self.inputs {
            let (name, storage, shape) = (&input.name, input.storage, shape(&input.axes));
            writeln!(
                f,
                "  input {name}: {storage:?}{shape} @{} from {:?}",
                input.offset, input.feed
            )?;
        }
        for result in &self.results {
            let (role, storage, shape) = (&result.role, result.storage, shape(&result.axes));
            writeln!(f, "  result {role:?}: {storage:?}{shape} @{}", result.offset)?;
        }
        for buffer in &self.buffers {
            let (name, category, (from, to)) = (&buffer.name, buffer.category, buffer.live);
            let (offset, bytes) = (buffer.offset, buffer.bytes);
            writeln!(
                f,
                "  buffer {name:?} {category:?} @{offset} {bytes} bytes, live {from}-{to}"
            )?;
        }
        self.items(f, &self.items, 1)?;
        writeln!(f, "}}")
    }
}

impl Plan {
    fn items(&self, f: &mut Formatter<'_>, items: &[Item], depth: usize) -> fmt::Result {
        let indent = "  ".repeat(depth);
        for item in items {
            match item {
                Item::Launch { parts, order } => match &parts[..] {
                    [part] => {
                        write!(f, "{indent}launch ")?;
                        self.part(f, part, &self.order(order))?;
                    }
                    parts => {
                        writeln!(f, "{indent}launch together{} {{", self.order(order))?;
                        for part in parts {
                            write!(f, "{indent}  ")?;
                            self.part(f, part, "")?;
                        }
                        writeln!(f, "{indent}}}")?;
                    }
                },
                Item::Copy { from, to, bytes, order } => {
                    let order = self.order(order);
                    writeln!(f, "{indent}copy {from} to {to}, {bytes} bytes{order}")?;
                }
                Item::Loop { axis, first, count, reversed, body } => {
                    let order = if *reversed { "down" } else { "up" };
                    let from = if *first == 0 { String::new() } else { format!(" from {first}") };
                    writeln!(f, "{indent}loop {axis} {count}{from} {order} {{")?;
                    self.items(f, body, depth + 1)?;
                    writeln!(f, "{indent}}}")?;
                }
            }
        }
        Ok(())
    }
}

impl Plan {
    /// `k(Read @0, Write @64)`, what stands behind it, and what it computes.
    fn part(&self, f: &mut Formatter<'_>, part: &Part, behind: &str) -> fmt::Result {
        let info = &self.kernels[part.kernel as usize];
        write!(f, "{}(", info.name)?;
        for (i, (address, argument)) in part.buffers.iter().zip(&info.arguments).enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{:?} @{address}", argument.access)?;
        }
        part.scalars.iter().try_for_each(|depth| write!(f, ", L{depth}"))?;
        writeln!(f, "){behind} // {}", info.origin)
    }

    /// ` on copies after e0, e1 behind 2 records e3`; nothing for an item of the first stream that
    /// neither waits nor records.
    fn order(&self, order: &Order) -> String {
        let mut text = String::new();
        if order.stream != 0 {
            let name = self.streams.get(order.stream as usize).map_or("?", String::as_str);
            let _ = write!(text, " on {name}");
        }
        for (i, Wait { event, behind }) in order.waits.iter().enumerate() {
            let _ = write!(text, "{}e{event}", if i == 0 { " after " } else { ", " });
            if *behind > 0 {
                let _ = write!(text, " behind {behind}");
            }
        }
        for (i, event) in order.records.iter().enumerate() {
            let _ = write!(text, "{}e{event}", if i == 0 { " records " } else { ", " });
        }
        text
    }
}

/// `L0 + 1` or `L0 - 1`.
fn shifted(depth: u32, shift: i64) -> String {
    let sign = if shift < 0 { '-' } else { '+' };
    format!("L{depth} {sign} {}", shift.unsigned_abs())
}

fn shape(axes: &[(String, u64)]) -> String {
    let axes: Vec<String> = axes.iter().map(|(name, size)| format!("{name}={size}")).collect();
    format!("[{}]", axes.join(", "))
}
