//! Loads and stores of tiles: run by run, as wide as alignment allows.

use gigac_ir::kernel::{BufferId, Factor, Offset, Storage, Term, TileId, VarId};
use inkwell::values::{InstructionOpcode as Op, PointerValue};

use super::layout::Shape;
use super::lower::{Lowerer, Refusal, Tile, zero};
use super::runs::{WIDEST, longest};
use crate::llvm::convert::{elem_of, from_memory, to_memory};
use crate::llvm::emit::{Elem, Value};

/// Registers that one access takes: so many neighbours along a variable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    var: Option<VarId>,
    pub(super) length: u64,
}

impl<'c> Lowerer<'_, 'c> {
    /// The longest runs that the offset and the spread of a variable allow.
    pub(super) fn run(
        &self,
        buffer: BufferId,
        offset: &Offset,
        mask: Option<TileId>,
        shape: &Shape,
    ) -> Run {
        let along = |var: &VarId| {
            let spread = self.layout.spread(*var);
            let mut length = longest(self.kernel, buffer, offset, mask, *var);
            while length > 1 && !spread.has_runs_of(length) {
                length /= 2;
            }
            Run { var: Some(*var), length }
        };
        let longest = shape.vars.iter().map(along).max_by_key(|run| run.length);
        longest.filter(|run| run.length > 1).unwrap_or(Run { var: None, length: 1 })
    }

    /// Runs of so many registers along a variable.
    pub(super) fn run_along(&self, var: VarId, length: u64) -> Run {
        Run { var: Some(var), length }
    }

    /// Coordinates at which runs begin, and the registers of each run.
    pub(super) fn starts(&self, shape: &Shape, run: Run) -> Vec<(Vec<usize>, Vec<usize>)> {
        let first = |at: &Vec<usize>| {
            let along = run.var.map_or(0, |var| shape.along(at, var));
            along.is_multiple_of(run.length as usize)
        };
        let members = |at: Vec<usize>| {
            let member = |i: usize| {
                let mut at = at.clone();
                if let Some(p) = shape.vars.iter().position(|v| Some(*v) == run.var) {
                    at[p] += i;
                }
                shape.index(shape, &at)
            };
            let members = (0..run.length as usize).map(member).collect();
            (at, members)
        };
        shape.all().filter(first).map(members).collect()
    }

    /// Loads the elements of a shape. Positions that do not exist read some other element, and
    /// lanes whose mask is false give zero.
    pub(super) fn load(
        &mut self,
        buffer: BufferId,
        offset: &Offset,
        mask: Option<TileId>,
        shape: &Shape,
    ) -> Result<Tile<'c>, Refusal> {
        if self.exchange.before_loads(buffer) {
            self.gpu.barrier();
        }
        let gpu = self.gpu;
        let storage = self.kernel.buffers[buffer.0 as usize].storage;
        let (run, fixed) = (self.run(buffer, offset, mask, shape), self.is_constant(buffer));
        let shared = self.shared_offset(offset);
        let mut tile = vec![zero(gpu, storage); shape.count()];
        for (at, members) in self.starts(shape, run) {
            let masked = self.masked(mask, shape, &at)?;
            let inside = self.inside(shape, &at);
            let condition = match (masked, inside) {
                (Some(a), Some(b)) => Some(gpu.both(a, b)),
                (a, b) => a.or(b),
            };
            let (element, constant) = self.element(shared, offset, (shape, &at))?;
            let lanes = match condition {
                None => {
                    let place = self.address(buffer, (element, constant));
                    self.lanes(storage, place, run.length, fixed)
                }
                Some(condition) if fixed => {
                    let element = gpu.plus_constant(element, constant);
                    let element = gpu.select(condition, element.into(), gpu.i64(0).into());
                    let place = self.address(buffer, (element.into_int_value(), 0));
                    let lanes = self.lanes(storage, place, run.length, fixed);
                    let keep = |x: Value<'c>| match masked {
                        Some(masked) => gpu.select(masked, x, zero(gpu, storage)),
                        None => x,
                    };
                    lanes.into_iter().map(keep).collect()
                }
                Some(condition) => {
                    let place = self.address(buffer, (element, constant));
                    let body = || self.lanes(storage, place, run.length, fixed);
                    self.where_holds(condition, zero(gpu, storage), body)
                }
            };
            members.iter().zip(lanes).for_each(|(register, lane)| tile[*register] = lane);
        }
        Ok(tile.into())
    }

    /// Where an asynchronous copy of a run reads, and how many of its bytes, if not always all: nothing, and at element 0,
    /// where the run does not exist. `narrow`: by a sum of 32 bits where all offsets fit.
    pub(super) fn source(
        &mut self,
        (buffer, offset): (BufferId, &Offset),
        (shape, at): (&Shape, &[usize]),
        bytes: u64,
        narrow: bool,
    ) -> Result<(PointerValue<'c>, Option<Value<'c>>), Refusal> {
        let gpu = self.gpu;
        let plain = |t: &Term| {
            matches!(t.factor, Factor::Digit { divisor: 1, modulus: 0, .. } | Factor::Scalar(_))
        };
        let narrow = narrow && offset.terms.iter().all(plain);
        let shared = match narrow {
            true => self.narrow_offset(offset),
            false => self.shared_offset(offset),
        };
        let inside = self.inside(shape, at);
        let (element, constant) = self.element(shared, offset, (shape, at))?;
        let whole = || gpu.plus_constant(element, constant);
        Ok(match inside {
            None if narrow => (self.address(buffer, (gpu.widen_position(whole()), 0)), None),
            None => (self.address(buffer, (element, constant)), None),
            Some(inside) => {
                let element = whole();
                let zero = element.get_type().const_zero();
                let element = gpu.select(inside, element.into(), zero.into()).into_int_value();
                let size = gpu.select(inside, gpu.int(bytes as i32, 1), gpu.int(0, 1));
                (self.address(buffer, (gpu.widen_position(element), 0)), Some(size))
            }
        })
    }

    /// Reads a vector of 4-byte elements along a variable from shared memory.
    pub(super) fn read_vector(
        &self,
        storage: Storage,
        (along, base): (VarId, PointerValue<'c>),
        shape: &Shape,
    ) -> Tile<'c> {
        let gpu = self.gpu;
        let mut length = WIDEST / storage.bytes();
        while !self.layout.spread(along).has_runs_of(length) {
            length /= 2;
        }
        let mut tile = vec![zero(gpu, storage); shape.count()];
        for (at, members) in self.starts(shape, self.run_along(along, length)) {
            let in_tile = self.in_tile(along, shape.along(&at, along));
            let place = gpu.bytes(base, gpu.times(in_tile, storage.bytes() as i64));
            let lanes = self.lanes(storage, place, length, false);
            members.iter().zip(lanes).for_each(|(register, lane)| tile[*register] = lane);
        }
        tile.into()
    }

    /// The mask of a register.
    fn masked(
        &mut self,
        mask: Option<TileId>,
        shape: &Shape,
        at: &[usize],
    ) -> Result<Option<Value<'c>>, Refusal> {
        let Some(mask) = mask.filter(|mask| !self.held.contains(mask)) else { return Ok(None) };
        let (tile, own) = (self.value(mask)?, self.shape(mask));
        Ok(Some(tile[own.index(shape, at)]))
    }

    /// Stores a tile, each element once: of threads that hold the same one the first does.
    pub(super) fn store(
        &mut self,
        buffer: BufferId,
        offset: &Offset,
        value: TileId,
        mask: Option<TileId>,
        accumulate: bool,
    ) -> Result<(), Refusal> {
        if self.exchange.before_stores(buffer) {
            self.gpu.barrier();
        }
        let gpu = self.gpu;
        let shape = self.layout.shape(&self.stored_vars(offset, value, mask));
        let (tile, own) = (self.value(value)?, self.shape(value));
        let storage = self.kernel.buffers[buffer.0 as usize].storage;
        let run = self.run(buffer, offset, mask, &shape);
        let shared = self.shared_offset(offset);
        let used: u64 = shape.vars.iter().map(|v| self.layout.spread(*v).mask()).sum();
        let copies = (self.frame.threads - 1) & !used;
        let first = (copies != 0).then(|| {
            let copy = gpu.and(self.frame.thread, copies);
            gpu.icmp(inkwell::IntPredicate::EQ, copy.into(), gpu.i32(0).into())
        });
        for (at, members) in self.starts(&shape, run) {
            let coordinates: Vec<Vec<usize>> = shape.all().collect();
            let lane = |register: &usize| tile[own.index(&shape, &coordinates[*register])];
            let lanes: Vec<Value> = members.iter().map(lane).collect();
            let (element, constant) = self.element(shared, offset, (&shape, &at))?;
            let place = self.address(buffer, (element, constant));
            let masked = self.masked(mask, &shape, &at)?;
            let conditions = [first, masked, self.inside(&shape, &at)];
            let condition = conditions.into_iter().flatten().reduce(|a, b| gpu.both(a, b));
            let write = || self.write(storage, place, &lanes, accumulate);
            match condition {
                Some(condition) => gpu.when(condition, write),
                None => write(),
            }
        }
        Ok(())
    }

    /// Variables along which a store has lanes.
    fn stored_vars(&self, offset: &Offset, value: TileId, mask: Option<TileId>) -> Vec<VarId> {
        let tiles = offset.tiles().into_iter().chain(mask).chain([value]);
        let mut vars: Vec<VarId> = tiles.flat_map(|t| self.kernel.ty(t).vars.clone()).collect();
        vars.extend(offset.vars());
        vars.sort_unstable();
        vars.dedup();
        vars
    }

    pub(super) fn write(
        &self,
        storage: Storage,
        place: PointerValue<'c>,
        lanes: &[Value<'c>],
        accumulate: bool,
    ) {
        let gpu = self.gpu;
        let add = |a: Value<'c>, b: Value<'c>| {
            gpu.binary(if a.is_float_value() { Op::FAdd } else { Op::Add }, a, b)
        };
        let sums: Vec<Value>;
        let lanes = match accumulate {
            false => lanes,
            true => {
                let old = self.lanes(storage, place, lanes.len() as u64, false);
                sums = old.into_iter().zip(lanes).map(|(old, new)| add(old, *new)).collect();
                &sums
            }
        };
        let align = lanes.len() as u64 * storage.bytes();
        if let (Storage::Bf16, true) = (storage, lanes.len() > 1) {
            let words = lanes.chunks(2).map(|pair| gpu.bf16_pair(pair[0], pair[1]));
            gpu.store_as(place, gpu.gather_lanes(&words.collect::<Vec<_>>()), align);
            return;
        }
        let raw = lanes.iter().map(|lane| match storage {
            Storage::Bf16 => gpu.bf16_bits(*lane),
            _ => to_memory(gpu, storage, *lane),
        });
        gpu.store_as(place, gpu.gather_lanes(&raw.collect::<Vec<_>>()), align);
    }

    /// Loads elements that lie side by side, aligned as a whole, from a buffer that may be fixed while the kernel runs.
    fn lanes(
        &self,
        storage: Storage,
        place: PointerValue<'c>,
        count: u64,
        fixed: bool,
    ) -> Vec<Value<'c>> {
        let gpu = self.gpu;
        let load = |ty| {
            let loaded = gpu.load_as(place, ty, count * storage.bytes());
            if fixed {
                gpu.unchanging(loaded);
            }
            loaded
        };
        if let (Storage::Bf16, true) = (storage, count > 1) {
            let words = load(gpu.ty(Elem::I32, count / 2));
            let halves = |i: u64| {
                let word = gpu.lane(words, i).into_int_value();
                let pair = [gpu.shift(word, 16), gpu.and(word, 0xffff_0000)];
                pair.map(|half| gpu.cast(Op::BitCast, half.into(), Elem::F32))
            };
            return (0..count / 2).flat_map(halves).collect();
        }
        let raw = load(gpu.ty(elem_of(storage), count));
        (0..count).map(|i| from_memory(gpu, storage, gpu.lane(raw, i))).collect()
    }
}
