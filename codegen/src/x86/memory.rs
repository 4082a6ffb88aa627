//! Loads and stores.
//!
//! Lanes side by side move as one vector; lanes that all lie within a few vectors are loaded as
//! those and shuffled; others move one by one, in the order of the lanes.

use gigac_ir::kernel::{BufferId, Storage};
use inkwell::values::{InstructionOpcode, IntValue, PointerValue};

use super::address::Address;
use super::convert::{elem_of, from_memory, to_memory};
use super::emit::{Elem, Value};
use super::region::Region;

/// Bytes between what is loaded and what is fetched ahead: far enough to hide memory's latency, near
/// enough for rows of a few hundred elements.
const AHEAD: u64 = 1024;

/// Bytes of a line of the cache.
const LINE: u64 = 64;

/// Lanes that span more than this many times their number are loaded one by one.
const SHUFFLED_SPAN: u64 = 4;

impl<'c> Region<'_, 'c> {
    /// Loads lanes as what is computed with; masked lanes are 0. What lies ahead is fetched where the
    /// kernel `walks` along memory.
    pub(super) fn load(
        &self,
        buffer: BufferId,
        address: &Address<'c>,
        mask: Option<Value<'c>>,
        walks: bool,
    ) -> Value<'c> {
        let storage = self.storage(buffer);
        let (elem, lanes) = (elem_of(storage), address.fixed.len() as u64);
        let at = |base| self.emit.at(self.frame.buffer(buffer), elem, base);
        let raw = match (address.stride(), mask) {
            (Some(1), None) => {
                let at = at(address.base);
                if walks && lanes > 1 {
                    self.fetch_ahead(at, lanes * storage.bytes());
                }
                self.emit.load(at, elem, lanes)
            }
            (Some(1), Some(mask)) if lanes > 1 => self.masked_load(at(address.base), elem, mask),
            (Some(0), None) => self.emit.splat(self.emit.load(at(address.base), elem, 1), lanes),
            _ => match (self.shuffled_load(buffer, address), mask) {
                (Some(load), None) => load,
                _ => self.load_lanes(buffer, address, mask),
            },
        };
        from_memory(self.emit, storage, raw)
    }

    /// Brings the lines into the second cache that a walk along memory comes to next. The first
    /// cache has too few buffers for lines that are so far away.
    fn fetch_ahead(&self, at: PointerValue<'c>, bytes: u64) {
        let emit = self.emit;
        // A read of data, kept in all caches but the first.
        let [read, locality, data] = [0, 2, 1].map(|n| emit.int(n, 1));
        for line in (0..bytes).step_by(LINE as usize) {
            let at = emit.at(at, Elem::I8, emit.i64((AHEAD + line).cast_signed()));
            let arguments = [at.into(), read, locality, data];
            emit.intrinsic_call("llvm.prefetch", &[at.get_type().into()], &arguments);
        }
    }

    fn masked_load(&self, at: PointerValue<'c>, elem: Elem, mask: Value<'c>) -> Value<'c> {
        let emit = self.emit;
        let zero = emit.ty(elem, emit.lanes(mask)).const_zero();
        let types = [zero.get_type(), at.get_type().into()];
        let load = emit.intrinsic_call("llvm.masked.load", &types, &[at.into(), mask, zero]);
        load.expect("a load has a result")
    }

    /// All elements from the lowest to the highest lane in one load, if they are few. None of
    /// those between is outside the buffer when its neighbours are inside.
    fn shuffled_load(&self, buffer: BufferId, address: &Address<'c>) -> Option<Value<'c>> {
        let (low, high) = (address.fixed.iter().min()?, address.fixed.iter().max()?);
        let span = high.abs_diff(*low) + 1;
        if address.computed.is_some() || span > SHUFFLED_SPAN * address.fixed.len() as u64 {
            return None;
        }
        let (emit, elem) = (self.emit, elem_of(self.storage(buffer)));
        let base = emit.add(address.base, emit.i64(*low));
        let all = emit.load(emit.at(self.frame.buffer(buffer), elem, base), elem, span);
        let picks: Vec<u64> = address.fixed.iter().map(|f| f.abs_diff(*low)).collect();
        Some(emit.shuffle(all, all, &picks))
    }

    /// Lane by lane. A masked lane reads the first element instead, which always exists.
    fn load_lanes(
        &self,
        buffer: BufferId,
        address: &Address<'c>,
        mask: Option<Value<'c>>,
    ) -> Value<'c> {
        let (emit, elem) = (self.emit, elem_of(self.storage(buffer)));
        let element = |lane| {
            let mut index = self.lane_index(address, lane);
            if let Some(mask) = mask {
                let chosen = emit.select(emit.lane(mask, lane), index.into(), emit.i64(0).into());
                index = chosen.into_int_value();
            }
            emit.load(emit.at(self.frame.buffer(buffer), elem, index), elem, 1)
        };
        let lanes: Vec<Value> = (0..address.fixed.len() as u64).map(element).collect();
        let all = emit.gather_lanes(&lanes);
        match mask {
            Some(mask) => emit.select(mask, all, all.get_type().const_zero()),
            None => all,
        }
    }

    /// Element offset of one lane.
    fn lane_index(&self, address: &Address<'c>, lane: u64) -> IntValue<'c> {
        let emit = self.emit;
        let index = emit.add(address.base, emit.i64(address.fixed[lane as usize]));
        match address.computed {
            Some(computed) => emit.add(index, emit.lane(computed, lane).into_int_value()),
            None => index,
        }
    }

    /// Stores lanes, or adds them to what is there.
    pub(super) fn store(
        &self,
        buffer: BufferId,
        address: &Address<'c>,
        mask: Option<Value<'c>>,
        value: Value<'c>,
        accumulate: bool,
    ) {
        let (emit, lanes) = (self.emit, address.fixed.len() as u64);
        let elem = elem_of(self.storage(buffer));
        let at = |index| emit.at(self.frame.buffer(buffer), elem, index);
        if address.stride() == Some(1) && lanes > 1 {
            match mask {
                None => self.store_at(buffer, at(address.base), value, accumulate),
                Some(mask) => {
                    self.masked_store(buffer, at(address.base), mask, value, accumulate);
                }
            }
            return;
        }
        for lane in 0..lanes {
            let (at, value) = (at(self.lane_index(address, lane)), emit.lane(value, lane));
            let store = || self.store_at(buffer, at, value, accumulate);
            match mask {
                None => store(),
                Some(mask) => emit.when(emit.lane(mask, lane), store),
            }
        }
    }

    fn store_at(&self, buffer: BufferId, at: PointerValue<'c>, value: Value<'c>, accumulate: bool) {
        let (emit, storage) = (self.emit, self.storage(buffer));
        let elem = elem_of(storage);
        let value = match accumulate {
            true => self.sum(storage, emit.load(at, elem, emit.lanes(value)), value),
            false => value,
        };
        emit.store(at, elem, to_memory(emit, storage, value));
    }

    fn masked_store(
        &self,
        buffer: BufferId,
        at: PointerValue<'c>,
        mask: Value<'c>,
        value: Value<'c>,
        accumulate: bool,
    ) {
        let (emit, storage) = (self.emit, self.storage(buffer));
        let value = match accumulate {
            true => self.sum(storage, self.masked_load(at, elem_of(storage), mask), value),
            false => value,
        };
        let raw = to_memory(emit, storage, value);
        let types = [raw.get_type(), at.get_type().into()];
        emit.intrinsic_call("llvm.masked.store", &types, &[raw, at.into(), mask]);
    }

    /// What was in memory plus a value.
    fn sum(&self, storage: Storage, old: Value<'c>, value: Value<'c>) -> Value<'c> {
        let old = from_memory(self.emit, storage, old);
        let add = match storage {
            Storage::F32 | Storage::Bf16 => InstructionOpcode::FAdd,
            Storage::I32 => InstructionOpcode::Add,
            Storage::Bool => InstructionOpcode::Or,
        };
        self.emit.binary(add, old, value)
    }

    fn storage(&self, buffer: BufferId) -> Storage {
        self.kernel.buffers[buffer.0 as usize].storage
    }
}
