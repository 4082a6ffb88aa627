//! Atomics: read, combine, write in one go.

use super::access::{resolve, shared_key};
use super::engine::Engine;
use super::report::Who;
use super::step::Then;
use super::transfer::get_element;
use super::unit::Unit;
use super::warp::lanes_of;
use crate::check::shadow::Kind;
use crate::lanes::Regs;
use crate::num::{
    Format, Round, brain_to_f32, canon, f32_to_brain, f32_to_half, ftz, half_to_f32, minmax,
};
use crate::profile::Counts;
use crate::program::{AtomOp, Atomic, Order, Proxy};
use crate::types::{Space, Ty};

impl Unit {
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

fn element_bits(regs: &Regs, slot: u32, lane: usize, bytes: usize) -> u128 {
    let mut word = [0; 16];
    get_element(regs, slot, lane, &mut word[..bytes]);
    u128::from_le_bytes(word)
}

fn flush_f32(bits: u128) -> u128 {
    u128::from(ftz(true, f32::from_bits(bits as u32)).to_bits())
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
