//! Loads and stores: registers to memory and back, lane by lane.

use super::access::{Bytes, resolve, shown};
use super::engine::Engine;
use super::step::Then;
use super::unit::Unit;
use super::warp::lanes_of;
use crate::lanes::Regs;
use crate::profile::Counts;
use crate::program::{Load, Order, Store};
use crate::types::{Space, Ty};

impl Unit {
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
}

/// Puts loaded bytes into a register, extending to its width by the sign of the type.
#[inline]
fn put_element(regs: &mut Regs, slot: u32, bits: u32, lane: usize, bytes: &[u8], ty: Ty) {
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
pub(crate) fn get_element(regs: &Regs, slot: u32, lane: usize, out: &mut [u8]) {
    for (row, chunk) in out.chunks_mut(4).enumerate() {
        let word = regs.u32_at(slot + row as u32, lane).to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
}
