//! Loads, stores and atomics: address → checks → bytes.

use std::sync::Arc;

use super::engine::Engine;
use super::report::Who;
use super::step::Then;
use super::unit::Unit;
use super::warp::lanes_of;
use crate::check::FindingKind;
use crate::check::clock::Stamp;
use crate::check::knowledge::Knowledge;
use crate::check::shadow::Kind;
use crate::lanes::LANES;
use crate::num::{
    Format, Round, brain_to_f32, canon, f32_to_brain, f32_to_half, half_to_f32, minmax,
};
use crate::profile::Counts;
use crate::program::{Address, AtomOp, Atomic, Load, Order, Proxy, Scope, Store};
use crate::types::{Space, Ty, window};

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
fn shown(space: Space, address: u64) -> u64 {
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
    fn check_address(&mut self, engine: &Engine, w: usize, pc: u32, mask: u32, at: &Address) {
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

    fn bad_address(&mut self, engine: &Engine, who: Who, space: Space, address: u64, bytes: usize) {
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

    fn is_aligned(
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

    fn mark_stored(&mut self, cta: usize, offset: usize, bytes: usize, proxy: Proxy) {
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

    // --- synchronising variables --------------------------------------------------------------

    /// A strong write releases what the warp knows, or knew at its last fence.
    pub(crate) fn publish(
        &mut self,
        engine: &Engine,
        who: Who,
        space: Space,
        key: u64,
        order: Order,
    ) {
        if !engine.options.checks.races {
            return;
        }
        let known = self.known(who, space, order);
        if space == Space::Shared {
            self.variables.release(key, known, false);
        } else {
            engine.variables.lock().unwrap_or_else(|p| p.into_inner()).release(key, known, false);
        }
    }

    fn known(&mut self, who: Who, space: Space, order: Order) -> Option<Arc<Knowledge>> {
        let clock = &mut self.warps[who.0].clock;
        let wide = space != Space::Shared;
        if order.release && (order.scope >= Scope::Gpu || !wide) {
            clock.settle();
            Some(clock.publish())
        } else {
            clock.fenced(wide)
        }
    }

    /// A strong read acquires, or remembers what it saw for the next fence.
    pub(crate) fn acquire(
        &mut self,
        engine: &Engine,
        who: Who,
        space: Space,
        key: u64,
        order: Order,
    ) {
        if !engine.options.checks.races {
            return;
        }
        let known = if space == Space::Shared {
            self.variables.get(key).cloned()
        } else {
            engine.variables.lock().unwrap_or_else(|p| p.into_inner()).get(key).cloned()
        };
        if order.acquire {
            self.learn(who, known);
        } else if let Some(known) = known {
            self.warps[who.0].clock.observe(&known);
        }
    }

    /// Read-modify-writes acquire even when relaxed: locks are commonly taken so, and the hardware
    /// orders what depends on them.
    fn learn(&mut self, who: Who, known: Option<Arc<Knowledge>>) {
        if let Some(known) = known {
            self.warps[who.0].clock.learn(&known, Some(who.1));
        }
    }

    // --- instructions -------------------------------------------------------------------------

    pub(crate) fn load(
        &mut self,
        engine: &Engine,
        counts: &mut Counts,
        w: usize,
        pc: u32,
        mask: u32,
        load: &Load,
    ) -> Then {
        let addresses = self.addresses(w, &load.at);
        let element = load.ty.bytes() as usize;
        let bytes = element * load.dst.len();
        self.check_address(engine, w, pc, mask, &load.at);
        counts.accessed(pc, engine.options.profile, load.at.space, &addresses, mask, bytes, false);
        let mut undefined = [0u32; 8];
        let generic = load.at.space == Space::Generic;
        let order = Order { strong: load.order.strong || load.is_guess, ..load.order };
        let mut buffer = Bytes::default();
        for lane in lanes_of(mask) {
            let (space, address) =
                if generic { resolve(addresses[lane]) } else { (load.at.space, addresses[lane]) };
            let out = &mut buffer[..bytes];
            let bad = self.read(engine, (w, lane, pc), (space, address), out, element, order);
            if bad != 0 {
                self.warps[w].origin = Some((pc, lane as u8, shown(space, address)));
                (0..load.dst.len()).for_each(|i| undefined[i] |= (bad >> i & 1) << lane);
            }
            if load.order.strong {
                let (space, key) = self.variable_key(space, address);
                self.acquire(engine, (w, lane, pc), space, key, load.order);
            }
            let regs = &mut self.warps[w].regs;
            for (i, dst) in load.dst.iter().enumerate() {
                if let Some((slot, bits)) = dst {
                    put_element(
                        regs,
                        *slot,
                        *bits,
                        lane,
                        &buffer[i * element..(i + 1) * element],
                        load.ty,
                    );
                }
            }
        }
        self.mark_loaded(engine, w, mask, load, &undefined);
        if load.order.strong { Then::Yield } else { Then::Next }
    }

    fn mark_loaded(
        &mut self,
        engine: &Engine,
        w: usize,
        mask: u32,
        load: &Load,
        undefined: &[u32; 8],
    ) {
        let regs = &mut self.warps[w].regs;
        if undefined.iter().any(|&u| u != 0) && engine.options.checks.uninitialised {
            regs.taint();
        }
        if regs.tainted {
            // Narrow values are extended by zeros, which are defined, or by their sign.
            let wide = load.ty.is_signed() || load.ty.bits() >= 32;
            let all = if wide { u32::MAX } else { (1 << load.ty.bits()) - 1 };
            for (i, dst) in load.dst.iter().enumerate() {
                let Some((slot, bits)) = dst else { continue };
                for row in 0..bits.div_ceil(32) {
                    let here = if row == 0 || load.ty.bits() > 32 || load.ty.is_signed() {
                        all
                    } else {
                        0
                    };
                    regs.set_undefined(slot + row, mask, 0);
                    regs.set_undefined(slot + row, undefined[i], here);
                }
            }
        }
    }

    /// The key under which a synchronising variable is kept.
    pub(crate) fn variable_key(&self, space: Space, address: u64) -> (Space, u64) {
        if space == Space::Shared { (space, address & 0xff_ffff) } else { (Space::Global, address) }
    }

    pub(crate) fn store(
        &mut self,
        engine: &Engine,
        counts: &mut Counts,
        w: usize,
        pc: u32,
        mask: u32,
        store: &Store,
    ) -> Then {
        let addresses = self.addresses(w, &store.at);
        let element = store.ty.bytes() as usize;
        let bytes = element * store.src.len();
        self.check_address(engine, w, pc, mask, &store.at);
        counts.accessed(pc, engine.options.profile, store.at.space, &addresses, mask, bytes, true);
        let generic = store.at.space == Space::Generic;
        let mut buffer = Bytes::default();
        for lane in lanes_of(mask) {
            let (space, address) =
                if generic { resolve(addresses[lane]) } else { (store.at.space, addresses[lane]) };
            let regs = &self.warps[w].regs;
            let (mut undefined, mut partly) = (0, false);
            for (i, &slot) in store.src.iter().enumerate() {
                get_element(regs, slot, lane, &mut buffer[i * element..(i + 1) * element]);
                if regs.tainted {
                    let width = element.min(4) as u32 * 8;
                    let all = u32::MAX >> (32 - width);
                    let bits = regs.undefined_bits(slot, lane) & all;
                    partly |= bits != 0;
                    undefined |= u32::from(bits == all) << i;
                }
            }
            if partly && matches!(space, Space::Global | Space::Generic) {
                self.report_undefined(engine, (w, lane, pc), "is stored to global memory");
            }
            self.write(
                engine,
                (w, lane, pc),
                (space, address),
                &buffer[..bytes],
                (element, undefined),
                store.order,
            );
        }
        Then::Next
    }

    pub(crate) fn atomic(
        &mut self,
        engine: &Engine,
        counts: &mut Counts,
        w: usize,
        pc: u32,
        mask: u32,
        atomic: &Atomic,
    ) -> Then {
        let addresses = self.addresses(w, &atomic.at);
        let element = atomic.ty.bytes() as usize;
        let n = atomic.src.len();
        self.check_address(engine, w, pc, mask, &atomic.at);
        counts.accessed(
            pc,
            engine.options.profile,
            atomic.at.space,
            &addresses,
            mask,
            element * n,
            true,
        );
        for lane in lanes_of(mask) {
            let (space, address) = if atomic.at.space == Space::Generic {
                resolve(addresses[lane])
            } else {
                (atomic.at.space, addresses[lane])
            };
            if !self.is_aligned(engine, (w, lane, pc), space, address, element * n) {
                continue;
            }
            for i in 0..n {
                let regs = &self.warps[w].regs;
                let value = element_bits(regs, atomic.src[i], lane, element);
                let swap = atomic.swap.map_or(0, |s| element_bits(regs, s, lane, element));
                if regs.undefined_bits(atomic.src[i], lane) != 0 {
                    self.report_undefined(engine, (w, lane, pc), "is the operand of an atomic");
                }
                let at = address + (i * element) as u64;
                // The units behind global memory flush subnormals, those of shared memory do not.
                let flush =
                    atomic.op == AtomOp::Add && atomic.ty == Ty::F32 && space != Space::Shared;
                let update = |old: u128| {
                    let flushed = |v: u128| if flush { flush_f32(v) } else { v };
                    flushed(combine(atomic.op, atomic.ty, flushed(old), flushed(value), swap))
                };
                let old =
                    self.update(engine, (w, lane, pc), (space, at), element, atomic.order, &update);
                if let Some(&d) = atomic.dst.get(i) {
                    let regs = &mut self.warps[w].regs;
                    for row in 0..element.div_ceil(4) as u32 {
                        regs.set_u32(d + row, lane, (old >> (32 * row)) as u32);
                    }
                    for row in 0..element.div_ceil(4) as u32 {
                        regs.set_undefined(d + row, 1 << lane, 0);
                    }
                }
            }
        }
        if atomic.op == AtomOp::Cas || atomic.order.acquire { Then::Yield } else { Then::Next }
    }

    /// Read-modify-write of one element; returns the old value.
    pub(crate) fn update(
        &mut self,
        engine: &Engine,
        who: Who,
        (space, address): (Space, u64),
        bytes: usize,
        order: Order,
        f: &dyn Fn(u128) -> u128,
    ) -> u128 {
        self.warps[who.0].worked |= 1 << who.1;
        let (space, key) = match space {
            Space::Shared => {
                let cta = self.warps[who.0].cta;
                match self.shared_at(engine, cta, address, bytes) {
                    Some((cta, offset)) => (Space::Shared, shared_key(cta, offset)),
                    None => {
                        self.bad_address(engine, who, space, address, bytes);
                        return 0;
                    }
                }
            }
            Space::Local | Space::Const | Space::Param | Space::Reg => {
                self.bad_address(engine, who, space, address, bytes);
                return 0;
            }
            _ => (Space::Global, address),
        };
        if !engine.options.checks.races {
            return if space == Space::Shared {
                self.update_shared(engine, who, key, bytes, order, f)
            } else {
                self.update_global(engine, who, address, bytes, order, f)
            };
        }
        if space == Space::Shared {
            let known = self.variables.get(key).cloned();
            self.learn(who, known);
            let old = self.update_shared(engine, who, key, bytes, order, f);
            let known = self.known(who, space, order);
            self.variables.release(key, known, true);
            return old;
        }
        // What the variable carries and what it says change together: whoever sees the new value on
        // another host thread must find what it releases.
        let mut variables = engine.variables.lock().unwrap_or_else(|p| p.into_inner());
        let known = variables.get(key).cloned();
        self.learn(who, known);
        let old = self.update_global(engine, who, address, bytes, order, f);
        let known = self.known(who, space, order);
        variables.release(key, known, true);
        old
    }

    fn update_shared(
        &mut self,
        engine: &Engine,
        who: Who,
        key: u64,
        bytes: usize,
        order: Order,
        f: &dyn Fn(u128) -> u128,
    ) -> u128 {
        let (cta, offset) = ((key >> 32) as usize, (key & 0xffff_ffff) as usize);
        self.check_shared(engine, who, (cta, offset), bytes, Kind::Atomic, order);
        let memory = &mut self.ctas[cta];
        if engine.options.checks.uninitialised && memory.written.none(offset, bytes) {
            self.warps[who.0].origin = Some((who.2, who.1 as u8, offset as u64));
            self.report_undefined(engine, who, "is updated by an atomic");
        }
        let memory = &mut self.ctas[cta];
        let mut word = [0; 16];
        word[..bytes].copy_from_slice(&memory.shared[offset..offset + bytes]);
        let old = u128::from_le_bytes(word);
        let new = f(old);
        self.events += u64::from(new != old);
        memory.shared[offset..offset + bytes].copy_from_slice(&new.to_le_bytes()[..bytes]);
        memory.written.set(offset, bytes, true);
        self.mark_stored(cta, offset, bytes, Proxy::Generic);
        old
    }

    fn update_global(
        &mut self,
        engine: &Engine,
        who: Who,
        address: u64,
        bytes: usize,
        order: Order,
        f: &dyn Fn(u128) -> u128,
    ) -> u128 {
        let Some((buffer, offset)) = engine.globals.find(address, bytes as u64) else {
            self.bad_address(engine, who, Space::Global, address, bytes);
            return 0;
        };
        if engine.options.checks.races {
            let stamp = self.stamp(who, order, true);
            let conflict =
                buffer.shadow.access(offset, bytes, Kind::Atomic, stamp, &self.warps[who.0].clock);
            if let Some(conflict) = conflict {
                self.report_race(engine, who, "atomic", address, conflict);
            }
        }
        if engine.options.checks.uninitialised && buffer.is_uninitialised(offset, bytes) {
            self.warps[who.0].origin = Some((who.2, who.1 as u8, address));
            self.report_undefined(engine, who, "is updated by an atomic");
        }
        let old = if bytes <= 4 {
            buffer.update_word(offset, bytes, &mut |old| f(u128::from(old)) as u32).into()
        } else {
            let _held = engine.globals.wide.lock().unwrap_or_else(|p| p.into_inner());
            let mut word = [0; 16];
            buffer.read(offset, &mut word[..bytes]);
            let old = u128::from_le_bytes(word);
            buffer.write(offset, &f(old).to_le_bytes()[..bytes]);
            old
        };
        buffer.mark_written(offset, bytes);
        self.events += u64::from(f(old) != old);
        old
    }
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Read => "read",
        Kind::Write => "write",
        Kind::Atomic => "atomic",
    }
}

fn shared_key(cta: usize, offset: usize) -> u64 {
    (cta as u64) << 32 | offset as u64
}

fn nearest_shared(engine: &Engine, address: u64) -> Option<String> {
    let offset = (address & 0xff_ffff) as u32;
    let before =
        engine.program.shared.iter().filter(|v| v.offset <= offset).max_by_key(|v| v.offset);
    before.map(|v| v.name.clone())
}

/// Puts loaded bytes into a register, extending to its width by the sign of the type.
#[inline]
fn put_element(
    regs: &mut crate::lanes::Regs,
    slot: u32,
    bits: u32,
    lane: usize,
    bytes: &[u8],
    ty: Ty,
) {
    let mut word = [0u8; 16];
    word[..bytes.len()].copy_from_slice(bytes);
    if ty.is_signed() && bytes[bytes.len() - 1] & 0x80 != 0 && bits > ty.bits() {
        word[bytes.len()..(bits / 8) as usize].fill(0xff);
    }
    for row in 0..bits.div_ceil(32) {
        let at = row as usize * 4;
        let value = u32::from_le_bytes([word[at], word[at + 1], word[at + 2], word[at + 3]]);
        regs.set_u32(slot + row, lane, value);
    }
}

/// Bytes of a register, low ones first.
#[inline]
pub(crate) fn get_element(regs: &crate::lanes::Regs, slot: u32, lane: usize, out: &mut [u8]) {
    for (row, chunk) in out.chunks_mut(4).enumerate() {
        let word = regs.u32_at(slot + row as u32, lane).to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
}

fn element_bits(regs: &crate::lanes::Regs, slot: u32, lane: usize, bytes: usize) -> u128 {
    let mut word = [0; 16];
    get_element(regs, slot, lane, &mut word[..bytes]);
    u128::from_le_bytes(word)
}

fn flush_f32(bits: u128) -> u128 {
    u128::from(crate::num::ftz(true, f32::from_bits(bits as u32)).to_bits())
}

/// The new value of an atomic.
pub(crate) fn combine(op: AtomOp, ty: Ty, old: u128, value: u128, swap: u128) -> u128 {
    use AtomOp::*;
    match op {
        Exch => value,
        Cas => {
            if old == value {
                swap
            } else {
                old
            }
        }
        And => old & value,
        Or => old | value,
        Xor => old ^ value,
        Inc => {
            if old as u32 >= value as u32 {
                0
            } else {
                old + 1
            }
        }
        Dec => {
            if old as u32 == 0 || old as u32 > value as u32 {
                value
            } else {
                old - 1
            }
        }
        Add => add(ty, old, value),
        Min | Max => extreme(ty, old, value, op == Max),
    }
}

fn halves(a: u128, b: u128, f: impl Fn(u16, u16) -> u16) -> u128 {
    u128::from(f(a as u16, b as u16)) | u128::from(f((a >> 16) as u16, (b >> 16) as u16)) << 16
}

fn add(ty: Ty, a: u128, b: u128) -> u128 {
    let half = |a: u16, b: u16| f32_to_half(half_to_f32(a) + half_to_f32(b));
    let brain = |a: u16, b: u16| {
        let sum = f64::from(brain_to_f32(a)) + f64::from(brain_to_f32(b));
        if sum.is_finite() {
            Format::BRAIN.encode(sum, Round::Even, false) as u16
        } else {
            f32_to_brain(sum as f32)
        }
    };
    match ty {
        Ty::F32 => u128::from(canon(f32::from_bits(a as u32) + f32::from_bits(b as u32)).to_bits()),
        Ty::F64 => u128::from((f64::from_bits(a as u64) + f64::from_bits(b as u64)).to_bits()),
        Ty::F16 => u128::from(half(a as u16, b as u16)),
        Ty::BF16 => u128::from(brain(a as u16, b as u16)),
        Ty::F16x2 => halves(a, b, half),
        Ty::BF16x2 => halves(a, b, brain),
        _ if ty.bits() == 32 => u128::from((a as u32).wrapping_add(b as u32)),
        _ => u128::from((a as u64).wrapping_add(b as u64)),
    }
}

fn extreme(ty: Ty, a: u128, b: u128, max: bool) -> u128 {
    let pick = |first: bool| if first == max { a } else { b };
    let half = |a: u16, b: u16| f32_to_half(minmax(half_to_f32(a), half_to_f32(b), max, false));
    let brain = |a: u16, b: u16| f32_to_brain(minmax(brain_to_f32(a), brain_to_f32(b), max, false));
    match ty {
        Ty::S32 => pick(a as i32 >= b as i32),
        Ty::S64 => pick(a as i64 >= b as i64),
        Ty::F16 => u128::from(half(a as u16, b as u16)),
        Ty::BF16 => u128::from(brain(a as u16, b as u16)),
        Ty::F16x2 => halves(a, b, half),
        Ty::BF16x2 => halves(a, b, brain),
        _ => pick(a >= b),
    }
}
