//! Addresses and bytes: what every access to memory checks before it touches it.

use super::engine::Engine;
use super::report::Who;
use super::unit::Unit;
use crate::check::FindingKind;
use crate::check::clock::Stamp;
use crate::check::shadow::Kind;
use crate::lanes::LANES;
use crate::program::{Address, Order, Proxy, Scope};
use crate::types::{Space, window};

/// The space of a generic address, and the address in it.
#[inline]
pub(crate) fn resolve(address: u64) -> (Space, u64) {
    match address {
        a if a >= window::MODULE => (Space::Global, a),
        a if (window::PARAM..window::CODE).contains(&a) => (Space::Param, a - window::PARAM),
        a if (window::CONST..window::PARAM).contains(&a) => (Space::Const, a - window::CONST),
        a if (window::LOCAL..window::CONST).contains(&a) => (Space::Local, a - window::LOCAL),
        a if (window::SHARED..window::LOCAL).contains(&a) => (Space::Shared, a - window::SHARED),
        a => (Space::Global, a),
    }
}

/// The generic form of an address, for messages.
pub(super) fn shown(space: Space, address: u64) -> u64 {
    match space {
        Space::Shared | Space::Local | Space::Const | Space::Param => address & 0xffff_ffff,
        _ => address,
    }
}

/// Bytes of one access, at most a `.v8.b32`.
pub(crate) type Bytes = [u8; 32];

impl Unit {
    /// The address of each lane and its space.
    #[inline]
    pub(crate) fn addresses(&self, w: usize, at: &Address) -> [u64; LANES] {
        let regs = &self.warps[w].regs;
        match at.base {
            None => [at.offset as u64; LANES],
            Some((slot, true)) => {
                let base: [u64; LANES] = regs.get(slot);
                base.map(|b| b.wrapping_add_signed(at.offset))
            }
            Some((slot, false)) => {
                let base: [u32; LANES] = regs.get(slot);
                base.map(|b| u64::from(b.wrapping_add(at.offset as u32)))
            }
        }
    }

    /// Reports addresses that were computed from uninitialised values.
    pub(super) fn check_address(
        &mut self,
        engine: &Engine,
        w: usize,
        pc: u32,
        mask: u32,
        at: &Address,
    ) {
        let regs = &self.warps[w].regs;
        if let (true, Some((slot, _))) = (regs.tainted, at.base) {
            let bad = regs.undefined_lanes(slot) & mask;
            if bad != 0 {
                self.report_undefined(
                    engine,
                    (w, bad.trailing_zeros() as usize, pc),
                    "is used as an address",
                );
            }
        }
    }

    // --- shared memory ----------------------------------------------------------------------

    /// The block and offset of a shared address, if `bytes` bytes there are inside one variable.
    pub(crate) fn shared_at(
        &self,
        engine: &Engine,
        cta: usize,
        address: u64,
        bytes: usize,
    ) -> Option<(usize, usize)> {
        let rank = (address >> window::RANK_SHIFT) as usize;
        let cta = if rank == 0 { cta } else { rank - 1 };
        let offset = (address & ((1 << window::RANK_SHIFT) - 1)) as usize;
        let inside = cta < self.ctas.len() && offset + bytes <= self.ctas[cta].shared.len();
        if !inside {
            return None;
        }
        if offset < engine.program.static_shared as usize {
            let in_variable = engine.program.shared.iter().any(|v| {
                let start = v.offset as usize;
                v.bytes.is_some_and(|b| offset >= start && offset + bytes <= start + b as usize)
            });
            return in_variable.then_some((cta, offset));
        }
        Some((cta, offset))
    }

    pub(crate) fn stamp(&self, (w, lane, pc): Who, order: Order, atomic: bool) -> Stamp {
        let clock = &self.warps[w].clock;
        let mut flags = 0;
        if order.strong {
            flags |= Stamp::STRONG;
        }
        if order.scope >= Scope::Gpu {
            flags |= Stamp::WIDE;
        }
        if atomic {
            flags |= Stamp::ATOMIC;
        }
        Stamp {
            unit: clock.unit,
            clock: clock.now,
            pc,
            warp: clock.warp as u16,
            lane: lane as u8,
            flags,
        }
    }

    /// Whether a copy to this place has been delivered.
    fn check_delivered(
        &mut self,
        engine: &Engine,
        who: Who,
        (cta, offset): (usize, usize),
        bytes: usize,
    ) {
        if self.ctas[cta].any_in_flight > 0 && engine.options.checks.waits {
            let words = offset / 4..=(offset + bytes - 1) / 4;
            if self.ctas[cta].in_flight[words].iter().any(|&n| n > 0) {
                self.report_in_flight(engine, who, cta, offset);
            }
        }
    }

    /// Race and missing-wait checks of one shared access.
    pub(crate) fn check_shared(
        &mut self,
        engine: &Engine,
        who: Who,
        (cta, offset): (usize, usize),
        bytes: usize,
        kind: Kind,
        order: Order,
    ) {
        self.check_delivered(engine, who, (cta, offset), bytes);
        if !engine.options.checks.races {
            return;
        }
        let stamp = self.stamp(who, order, kind == Kind::Atomic);
        let clock = &self.warps[who.0].clock;
        let Some(shadow) = &mut self.ctas[cta].shadow else { return };
        if let Some(conflict) = shadow.access(offset, bytes, kind, stamp, clock) {
            self.report_race(engine, who, kind_name(kind), offset as u64, conflict);
        }
    }

    fn report_in_flight(&mut self, engine: &Engine, who: Who, cta: usize, offset: usize) {
        let origin = self.find_in_flight(cta, offset);
        self.report(engine, FindingKind::MissingWait, who, Some(offset as u64), || match origin {
            Some(pc) => {
                let line = engine.program.code[pc as usize].line;
                let text = engine.program.line_text(line);
                format!("touches shared memory that the copy of line {line} ({text}) has not delivered yet")
            }
            None => "touches shared memory that an asynchronous copy has not delivered yet".into(),
        });
    }

    // --- one lane ---------------------------------------------------------------------------

    pub(super) fn bad_address(
        &mut self,
        engine: &Engine,
        who: Who,
        space: Space,
        address: u64,
        bytes: usize,
    ) {
        let shared =
            (space == Space::Shared).then(|| self.ctas[self.warps[who.0].cta].shared.len());
        self.report(engine, FindingKind::OutOfBounds, who, Some(shown(space, address)), || {
            let place = match space {
                Space::Shared => match nearest_shared(engine, address) {
                    Some(name) => format!(
                        "shared memory, near `{name}` ({} bytes in all)",
                        shared.unwrap_or(0)
                    ),
                    None => format!("the {} bytes of shared memory", shared.unwrap_or(0)),
                },
                Space::Global => match engine.globals.nearest(address) {
                    Some(b) => {
                        let offset = address.wrapping_sub(b.base) as i64;
                        format!("buffer `{}`: byte {offset} of {}", b.name, b.len)
                    }
                    None => "every buffer".into(),
                },
                other => format!("{other:?} memory").to_lowercase(),
            };
            format!("{bytes} bytes outside {place}")
        });
    }

    pub(super) fn is_aligned(
        &mut self,
        engine: &Engine,
        who: Who,
        space: Space,
        address: u64,
        bytes: usize,
    ) -> bool {
        if address & (bytes as u64 - 1) == 0 {
            return true;
        }
        self.report(engine, FindingKind::Misaligned, who, Some(shown(space, address)), || {
            format!("an access of {bytes} bytes needs an address that is a multiple of {bytes}")
        });
        false
    }

    /// Reads for one lane; returns a mask of the `element`-sized parts that nobody wrote.
    pub(crate) fn read(
        &mut self,
        engine: &Engine,
        who: Who,
        (space, address): (Space, u64),
        out: &mut [u8],
        element: usize,
        order: Order,
    ) -> u32 {
        out.fill(0);
        let bytes = out.len();
        if !self.is_aligned(engine, who, space, address, bytes) {
            return 0;
        }
        let parts = bytes / element;
        match space {
            Space::Shared => {
                let cta = self.warps[who.0].cta;
                let Some((cta, offset)) = self.shared_at(engine, cta, address, bytes) else {
                    self.bad_address(engine, who, space, address, bytes);
                    return 0;
                };
                self.check_shared(engine, who, (cta, offset), bytes, Kind::Read, order);
                let memory = &self.ctas[cta];
                out.copy_from_slice(&memory.shared[offset..offset + bytes]);
                if memory.written.all(offset, bytes) {
                    return 0;
                }
                (0..parts).fold(0, |m, i| {
                    m | u32::from(memory.written.none(offset + i * element, element)) << i
                })
            }
            Space::Global | Space::Generic => {
                let Some((buffer, offset)) = engine.globals.find(address, bytes as u64) else {
                    self.bad_address(engine, who, Space::Global, address, bytes);
                    return 0;
                };
                buffer.read(offset, out);
                if engine.options.checks.races {
                    let stamp = self.stamp(who, order, false);
                    let conflict = buffer.shadow.access(
                        offset,
                        bytes,
                        Kind::Read,
                        stamp,
                        &self.warps[who.0].clock,
                    );
                    if let Some(conflict) = conflict {
                        self.report_race(engine, who, "read", address, conflict);
                    }
                }
                let fresh =
                    |i: usize| buffer.is_uninitialised(offset + (i * element) as u64, element);
                (0..parts).fold(0, |m, i| m | u32::from(fresh(i)) << i)
            }
            Space::Local => self.read_local(engine, who, address, out, element),
            Space::Const => {
                self.read_bytes(engine, who, space, address, &engine.program.const_bytes, out)
            }
            Space::Param | Space::Reg => {
                self.read_bytes(engine, who, space, address, &engine.params, out)
            }
        }
    }

    fn read_bytes(
        &mut self,
        engine: &Engine,
        who: Who,
        space: Space,
        address: u64,
        from: &[u8],
        out: &mut [u8],
    ) -> u32 {
        let at = usize::try_from(address).unwrap_or(usize::MAX);
        match at.checked_add(out.len()).and_then(|end| from.get(at..end)) {
            Some(bytes) => out.copy_from_slice(bytes),
            None => self.bad_address(engine, who, space, address, out.len()),
        }
        0
    }

    fn read_local(
        &mut self,
        engine: &Engine,
        who: Who,
        address: u64,
        out: &mut [u8],
        element: usize,
    ) -> u32 {
        let bytes = out.len();
        let stack = self.warps[who.0].stack(who.1);
        let end = address.saturating_add(bytes as u64);
        if end > u64::from(stack.top) {
            self.bad_address(engine, who, Space::Local, address, bytes);
            return 0;
        }
        stack.grow();
        let at = address as usize;
        out.copy_from_slice(&stack.memory[at..at + bytes]);
        (0..bytes / element)
            .fold(0, |m, i| m | u32::from(stack.written.none(at + i * element, element)) << i)
    }

    /// Writes for one lane. `undefined`: mask of parts of which nobody defined any bit.
    pub(crate) fn write(
        &mut self,
        engine: &Engine,
        who: Who,
        (space, address): (Space, u64),
        data: &[u8],
        (element, undefined): (usize, u32),
        order: Order,
    ) {
        let bytes = data.len();
        if !self.is_aligned(engine, who, space, address, bytes) {
            return;
        }
        self.warps[who.0].worked |= 1 << who.1;
        match space {
            Space::Shared => self.write_shared(
                engine,
                who,
                address,
                data,
                (element, undefined),
                order,
                Proxy::Generic,
            ),
            Space::Global | Space::Generic => {
                self.write_global(engine, who, address, data, order);
            }
            Space::Local => {
                let stack = self.warps[who.0].stack(who.1);
                if address.saturating_add(bytes as u64) > u64::from(stack.top) {
                    self.bad_address(engine, who, space, address, bytes);
                    return;
                }
                stack.grow();
                let at = address as usize;
                let changed = stack.memory[at..at + bytes] != *data;
                stack.memory[at..at + bytes].copy_from_slice(data);
                for i in 0..bytes / element {
                    stack.written.set(at + i * element, element, undefined >> i & 1 == 0);
                }
                self.events += u64::from(changed);
            }
            Space::Const | Space::Param | Space::Reg => {
                self.bad_address(engine, who, space, address, bytes)
            }
        }
    }

    #[allow(clippy::too_many_arguments)] // One more than a store: through which proxy.
    pub(crate) fn write_shared(
        &mut self,
        engine: &Engine,
        who: Who,
        address: u64,
        data: &[u8],
        (element, undefined): (usize, u32),
        order: Order,
        proxy: Proxy,
    ) {
        let bytes = data.len();
        let cta = self.warps[who.0].cta;
        let Some((cta, offset)) = self.shared_at(engine, cta, address, bytes) else {
            self.bad_address(engine, who, Space::Shared, address, bytes);
            return;
        };
        let memory = &self.ctas[cta];
        let same =
            memory.shared[offset..offset + bytes] == *data && memory.written.all(offset, bytes);
        // Storing what is there already changes nothing for anybody, whatever the order.
        if !same || order.strong {
            self.check_shared(engine, who, (cta, offset), bytes, Kind::Write, order);
        } else {
            self.check_delivered(engine, who, (cta, offset), bytes);
        }
        if !same {
            self.events += 1;
        }
        let memory = &mut self.ctas[cta];
        memory.shared[offset..offset + bytes].copy_from_slice(data);
        for i in 0..bytes / element {
            memory.written.set(offset + i * element, element, undefined >> i & 1 == 0);
        }
        self.mark_stored(cta, offset, bytes, proxy);
        if order.strong {
            self.publish(engine, who, Space::Shared, shared_key(cta, offset), order);
        }
    }

    pub(super) fn mark_stored(&mut self, cta: usize, offset: usize, bytes: usize, proxy: Proxy) {
        let epoch = if proxy == Proxy::Generic { self.proxy_epoch } else { 0 };
        let stored = &mut self.ctas[cta].stored;
        if !stored.is_empty() {
            stored[offset / 4..=(offset + bytes - 1) / 4].fill(epoch);
        }
    }

    /// Reads shared memory through the asynchronous proxy, for an operation issued in `epoch`:
    /// what an ordinary store wrote since the last `fence.proxy.async` may not be visible to it.
    pub(crate) fn read_async(
        &mut self,
        engine: &Engine,
        who: Who,
        address: u64,
        out: &mut [u8],
        epoch: u32,
    ) -> u32 {
        let bytes = out.len();
        let bad = self.read(engine, who, (Space::Shared, address), out, bytes, Order::default());
        if engine.options.checks.waits
            && let Some((cta, offset)) =
                self.shared_at(engine, self.warps[who.0].cta, address, bytes)
            && self.ctas[cta].stored[offset / 4..=(offset + bytes - 1) / 4]
                .iter()
                .any(|&e| e >= epoch)
        {
            self.report(engine, FindingKind::MissingFence, who, Some(offset as u64), || {
                "reads through the asynchronous proxy what an ordinary store wrote, without \
                 `fence.proxy.async` in between"
                    .into()
            });
        }
        bad
    }

    pub(crate) fn write_global(
        &mut self,
        engine: &Engine,
        who: Who,
        address: u64,
        data: &[u8],
        order: Order,
    ) {
        let bytes = data.len();
        let Some((buffer, offset)) = engine.globals.find(address, bytes as u64) else {
            self.bad_address(engine, who, Space::Global, address, bytes);
            return;
        };
        if engine.options.checks.races {
            let mut old = Bytes::default();
            buffer.read(offset, &mut old[..bytes]);
            if old[..bytes] != *data || order.strong {
                let stamp = self.stamp(who, order, false);
                let conflict = buffer.shadow.access(
                    offset,
                    bytes,
                    Kind::Write,
                    stamp,
                    &self.warps[who.0].clock,
                );
                if let Some(conflict) = conflict {
                    self.report_race(engine, who, "write", address, conflict);
                }
            }
        }
        // Publish first: whoever sees the value must find what it releases.
        if order.strong {
            self.publish(engine, who, Space::Global, address, order);
        }
        if buffer.write(offset, data) {
            self.events += 1;
        }
        buffer.mark_written(offset, bytes);
    }
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Read => "read",
        Kind::Write => "write",
        Kind::Atomic => "atomic",
    }
}

pub(super) fn shared_key(cta: usize, offset: usize) -> u64 {
    (cta as u64) << 32 | offset as u64
}

fn nearest_shared(engine: &Engine, address: u64) -> Option<String> {
    let offset = (address & 0xff_ffff) as u32;
    let before =
        engine.program.shared.iter().filter(|v| v.offset <= offset).max_by_key(|v| v.offset);
    before.map(|v| v.name.clone())
}
