//! `ldmatrix`, `stmatrix`, `movmatrix`, `mma`, `wmma` and `wgmma`.

use super::engine::Engine;
use super::step::Then;
use super::tensormap::swizzle;
use super::tiles::*;
use super::unit::Unit;
use crate::check::FindingKind;
use crate::lanes::{FULL, LANES, Pred, Regs, Row, Slot};
use crate::num::{Round, f32_to_half, half_to_f32};
use crate::profile::Counts;
use crate::program::{Address, Flow, Op, Order};
use crate::types::{Space, Ty};

/// m × n × k.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub(crate) struct Shape {
    pub(crate) m: u32,
    pub(crate) n: u32,
    pub(crate) k: u32,
}

/// Element types and modifiers of a product.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub(crate) struct Accumulate {
    pub(crate) a: Ty,
    pub(crate) b: Ty,
    pub(crate) c: Ty,
    pub(crate) d: Ty,
    pub(crate) sat: bool,
    /// Of doubles; the other types have no choice.
    pub(crate) round: Round,
    /// One-bit products: `true` counts xor, `false` and.
    pub(crate) bit: Option<bool>,
}

/// `mma` and `wmma.mma`.
#[derive(Debug)]
pub(crate) struct Mma {
    pub(crate) shape: Shape,
    pub(crate) types: Accumulate,
    pub(crate) d: Vec<Slot>,
    pub(crate) a: Vec<Slot>,
    pub(crate) b: Vec<Slot>,
    pub(crate) c: Vec<Slot>,
}

/// `wmma.load` and `wmma.store`.
#[derive(Debug)]
pub(crate) struct WmmaMemory {
    pub(crate) load: bool,
    pub(crate) at: Address,
    pub(crate) stride: Slot,
    pub(crate) regs: Vec<Slot>,
    pub(crate) ty: Ty,
    pub(crate) rows: u32,
    pub(crate) cols: u32,
    /// Row-major in memory.
    pub(crate) row: bool,
}

/// Where wgmma takes A from.
#[derive(Debug)]
pub(crate) enum WgmmaA {
    Registers(Vec<Slot>),
    /// Register with a descriptor.
    Shared(Slot),
}

/// `wgmma.mma_async`
#[derive(Debug)]
pub(crate) struct Wgmma {
    pub(crate) shape: Shape,
    pub(crate) types: Accumulate,
    pub(crate) d: Vec<Slot>,
    pub(crate) a: WgmmaA,
    pub(crate) b: Slot,
    pub(crate) scale_d: (Pred, bool),
    pub(crate) signs: (i32, i32),
    /// Transposed (MN-major) operands.
    pub(crate) trans: (bool, bool),
}

/// All matrix instructions.
#[derive(Debug)]
pub(crate) enum Matrix {
    Load {
        at: Address,
        dst: Vec<Slot>,
        trans: bool,
    },
    Store {
        at: Address,
        src: Vec<Slot>,
        trans: bool,
    },
    Transpose {
        d: Slot,
        a: Slot,
    },
    Mma(Box<Mma>),
    Wmma(Box<Mma>),
    /// `mma.m8n8k4` on halves: a product for each group of eight lanes. A and B in rows.
    Volta(Box<Mma>, (bool, bool)),
    WmmaMemory(Box<WmmaMemory>),
    Wgmma(Box<Wgmma>),
    WgmmaFence,
    WgmmaCommit,
    WgmmaWait {
        pending: u32,
    },
}

/// A `wgmma` on its way: everything but shared memory was read when it was issued.
#[derive(Debug)]
struct Pending {
    pc: u32,
    group: u32,
    a: Option<Vec<Row>>,
    descriptors: (u64, u64),
    keep: bool,
    /// Proxy epoch in which it was issued.
    epoch: u32,
}

/// What happens, in this order, when the results arrive.
#[derive(Debug)]
enum Later {
    Product(Pending),
    /// A plain copy of a register that is on its way: the copy gets the value too. Compilers emit
    /// these around inline assembly.
    Copy {
        from: Slot,
        to: Slot,
    },
}

/// The `wgmma` operations of one warp.
#[derive(Debug, Default)]
pub(crate) struct WgmmaQueue {
    pending: Vec<Later>,
    group: u32,
    /// Registers whose value is on its way.
    pub(crate) in_flight: Vec<Slot>,
    /// A `wgmma.fence` was executed.
    fenced: bool,
    /// Registers that something else than `wgmma` computed since the last fence.
    touched: Vec<bool>,
}

impl Unit {
    pub(crate) fn matrix(
        &mut self,
        engine: &Engine,
        counts: &mut Counts,
        w: usize,
        pc: u32,
        (active, idle): (u32, u32),
        matrix: &Matrix,
    ) -> Then {
        let Some(lanes) = self.gather_warp(w, pc, active, idle) else { return Then::Pick };
        if lanes != FULL {
            let who = (w, lanes.trailing_zeros() as usize, pc);
            self.report(engine, FindingKind::PartialWarp, who, None, || {
                format!("a matrix instruction needs all 32 lanes of the warp, only {lanes:#010x} are left")
            });
            return self.after_gather(w, pc, lanes, active, idle);
        }
        match matrix {
            Matrix::Load { at, dst, trans } => {
                self.ldmatrix(engine, counts, w, pc, at, dst, *trans)
            }
            Matrix::Store { at, src, trans } => {
                self.stmatrix(engine, counts, w, pc, at, src, *trans)
            }
            Matrix::Transpose { d, a } => transpose(&mut self.warps[w].regs, *d, *a),
            Matrix::Mma(mma) => {
                counts.tensor(pc, mma.shape.m * mma.shape.n * mma.shape.k);
                multiply(engine, &mut self.warps[w].regs, mma, false);
            }
            Matrix::Wmma(mma) => {
                counts.tensor(pc, mma.shape.m * mma.shape.n * mma.shape.k);
                multiply(engine, &mut self.warps[w].regs, mma, true);
            }
            Matrix::Volta(mma, rows) => {
                counts.tensor(pc, 4 * mma.shape.m * mma.shape.n * mma.shape.k);
                volta(&mut self.warps[w].regs, mma, *rows);
            }
            Matrix::WmmaMemory(m) => self.wmma_memory(engine, w, pc, m),
            Matrix::Wgmma(op) => {
                counts.tensor(pc, 16 * op.shape.n * op.shape.k);
                self.wgmma(engine, w, pc, op);
            }
            Matrix::WgmmaFence => {
                let queue = &mut self.warps[w].wgmma;
                queue.fenced = true;
                queue.touched.fill(false);
            }
            Matrix::WgmmaCommit => self.warps[w].wgmma.group += 1,
            Matrix::WgmmaWait { pending } => self.wgmma_wait(engine, w, *pending),
        }
        self.after_gather(w, pc, lanes, active, idle)
    }

    // --- 8 × 8 tiles --------------------------------------------------------------------------

    /// Lane `8·i + r` gives the address of row `r` of tile `i`; lane `l` receives elements
    /// `2·(l mod 4)` and the next of row `l / 4`, or of the column under `.trans`.
    #[allow(clippy::too_many_arguments)]
    fn ldmatrix(
        &mut self,
        engine: &Engine,
        counts: &mut Counts,
        w: usize,
        pc: u32,
        at: &Address,
        dst: &[Slot],
        trans: bool,
    ) {
        let addresses = self.addresses(w, at);
        let used = if dst.len() == 4 { FULL } else { (1 << (8 * dst.len())) - 1 };
        counts.accessed(pc, engine.options.profile, Space::Shared, &addresses, used, 16, false);
        for (i, &d) in dst.iter().enumerate() {
            let mut tile = [[0u8; 16]; 8];
            let mut bad = [0u32; 8];
            for (r, row) in tile.iter_mut().enumerate() {
                let lane = 8 * i + r;
                let place = match at.space {
                    Space::Generic => super::access::resolve(addresses[lane]),
                    space => (space, addresses[lane]),
                };
                bad[r] = self.read(engine, (w, lane, pc), place, row, 2, Order::default());
                if bad[r] != 0 {
                    self.warps[w].origin = Some((pc, lane as u8, addresses[lane]));
                }
            }
            let half = |r: usize, c: usize| {
                u32::from(u16::from_le_bytes([tile[r][2 * c], tile[r][2 * c + 1]]))
            };
            let regs = &mut self.warps[w].regs;
            let mut undefined = [0; LANES];
            for (lane, undefined) in undefined.iter_mut().enumerate() {
                let (r, c) = (lane / 4, lane % 4 * 2);
                let (first, second) =
                    if trans { ((c, r), (c + 1, r)) } else { ((r, c), (r, c + 1)) };
                regs.set_u32(d, lane, half(first.0, first.1) | half(second.0, second.1) << 16);
                let half = |(r, c): (usize, usize)| (bad[r] >> c & 1) * 0xffff;
                *undefined = half(first) | half(second) << 16;
            }
            if undefined != [0; LANES] && engine.options.checks.uninitialised {
                regs.taint();
            }
            (0..LANES).for_each(|lane| regs.set_undefined(d, 1 << lane, undefined[lane]));
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn stmatrix(
        &mut self,
        engine: &Engine,
        counts: &mut Counts,
        w: usize,
        pc: u32,
        at: &Address,
        src: &[Slot],
        trans: bool,
    ) {
        let addresses = self.addresses(w, at);
        let used = if src.len() == 4 { FULL } else { (1 << (8 * src.len())) - 1 };
        counts.accessed(pc, engine.options.profile, Space::Shared, &addresses, used, 16, true);
        for (i, &s) in src.iter().enumerate() {
            let mut tile = [[0u8; 16]; 8];
            for lane in 0..LANES {
                let word = self.warps[w].regs.u32_at(s, lane);
                let (r, c) = (lane / 4, lane % 4 * 2);
                for (e, half) in [word as u16, (word >> 16) as u16].into_iter().enumerate() {
                    let (row, col) = if trans { (c + e, r) } else { (r, c + e) };
                    tile[row][2 * col..2 * col + 2].copy_from_slice(&half.to_le_bytes());
                }
            }
            for (r, row) in tile.iter().enumerate() {
                let lane = 8 * i + r;
                let place = match at.space {
                    Space::Generic => super::access::resolve(addresses[lane]),
                    space => (space, addresses[lane]),
                };
                self.write(engine, (w, lane, pc), place, row, (16, 0), Order::default());
            }
        }
    }

    // --- wmma ---------------------------------------------------------------------------------

    fn wmma_memory(&mut self, engine: &Engine, w: usize, pc: u32, m: &WmmaMemory) {
        let addresses = self.addresses(w, &m.at);
        let stride = u64::from(self.warps[w].regs.u32_at(m.stride, 0));
        let count = (m.rows * m.cols) as usize / LANES;
        let bits = u64::from(m.ty.bits());
        let per = per_register(m.ty);
        for lane in 0..LANES {
            let who = (w, lane, pc);
            for i in 0..count {
                let index = (lane * count + i) as u64;
                let (row, col) = (index / u64::from(m.cols), index % u64::from(m.cols));
                let element = if m.row { row * stride + col } else { col * stride + row };
                let byte = addresses[0] + element * bits / 8;
                let place = match m.at.space {
                    Space::Generic => super::access::resolve(byte),
                    space => (space, byte),
                };
                let size = (bits as usize / 8).max(1);
                let (slot, e) = (m.regs[i / per], i % per);
                let shift = (element * bits % 8) as u32;
                if m.load {
                    self.wmma_load_one(engine, who, place, (slot, e, size, shift), m.ty);
                } else {
                    let mut data = [0; 8];
                    super::access::get_element(
                        &self.warps[w].regs,
                        slot,
                        lane,
                        &mut data[..size.max(4)],
                    );
                    let word = u64::from_le_bytes(data) >> (e as u64 * bits % 64);
                    self.write(
                        engine,
                        who,
                        place,
                        &word.to_le_bytes()[..size],
                        (size, 0),
                        Order::default(),
                    );
                }
            }
        }
    }

    fn wmma_load_one(
        &mut self,
        engine: &Engine,
        who: super::report::Who,
        place: (Space, u64),
        (slot, e, size, shift): (Slot, usize, usize, u32),
        ty: Ty,
    ) {
        let mut data = [0; 8];
        let bad = self.read(engine, who, place, &mut data[..size], size, Order::default());
        let (w, lane, pc) = who;
        let value = u64::from_le_bytes(data) >> shift;
        let regs = &mut self.warps[w].regs;
        if ty == Ty::F64 {
            regs.set_u64(slot, lane, value);
        } else {
            let width = ty.bits();
            let mask = if width == 32 { u32::MAX } else { (1 << width) - 1 };
            let at = e as u32 * width;
            let old = regs.u32_at(slot, lane);
            regs.set_u32(slot, lane, old & !(mask << at) | (value as u32 & mask) << at);
        }
        if bad != 0 && engine.options.checks.uninitialised {
            regs.taint();
            regs.set_undefined(slot, 1 << lane, u32::MAX);
            self.warps[w].origin = Some((pc, lane as u8, place.1));
        } else if e == 0 {
            regs.set_undefined(slot, 1 << lane, 0);
        }
    }

    // --- wgmma --------------------------------------------------------------------------------

    fn wgmma(&mut self, engine: &Engine, w: usize, pc: u32, op: &Wgmma) {
        self.check_wgmma_fence(engine, w, pc, op);
        let epoch = self.proxy_epoch;
        let warp = &mut self.warps[w];
        let regs = &warp.regs;
        let (a, first) = match &op.a {
            WgmmaA::Registers(slots) => {
                (Some(slots.iter().map(|&s| regs.rows[s as usize]).collect()), 0)
            }
            WgmmaA::Shared(slot) => (None, regs.u64_at(*slot, 0)),
        };
        let descriptors = (first, regs.u64_at(op.b, 0));
        let keep = regs.pred(op.scale_d) & 1 != 0;
        let group = warp.wgmma.group;
        let product = Pending { pc, group, a, descriptors, keep, epoch };
        warp.wgmma.pending.push(Later::Product(product));
        warp.clock.now += 1;
        if engine.options.async_at_once {
            self.wgmma_land(engine, w, |_| true);
            return;
        }
        let queue = &mut self.warps[w].wgmma;
        for d in &op.d {
            if !queue.in_flight.contains(d) {
                queue.in_flight.push(*d);
            }
        }
    }

    fn wgmma_wait(&mut self, engine: &Engine, w: usize, pending: u32) {
        let group = self.warps[w].wgmma.group;
        self.wgmma_land(engine, w, |p| p.group + pending < group);
    }

    /// The products that are `ready` arrive, and the copies of what has arrived.
    fn wgmma_land(&mut self, engine: &Engine, w: usize, ready: impl Fn(&Pending) -> bool) {
        let mut late: Vec<Later> = Vec::new();
        let mut in_flight: Vec<Slot> = Vec::new();
        for later in std::mem::take(&mut self.warps[w].wgmma.pending) {
            match later {
                Later::Product(p) => {
                    let Some(op) = wgmma_at(engine, p.pc) else { continue };
                    if ready(&p) {
                        self.wgmma_perform(engine, w, &p, op);
                    } else {
                        in_flight.extend(&op.d);
                        late.push(Later::Product(p));
                    }
                }
                Later::Copy { from, to } if in_flight.contains(&from) => {
                    in_flight.push(to);
                    late.push(Later::Copy { from, to });
                }
                Later::Copy { from, to } => {
                    let rows = &mut self.warps[w].regs.rows;
                    rows[to as usize] = rows[from as usize];
                }
            }
        }
        let queue = &mut self.warps[w].wgmma;
        (queue.pending, queue.in_flight) = (late, in_flight);
    }

    fn wgmma_perform(&mut self, engine: &Engine, w: usize, p: &Pending, op: &Wgmma) {
        let (n, k) = (op.shape.n as usize, op.shape.k as usize);
        let quarter = self.warps[w].index as usize % 4;
        let isa = engine.isa();
        let t = op.types;
        let b_bytes =
            self.wgmma_operand(engine, (w, 1, p), p.descriptors.1, t.b, (0, n, k), op.trans.1);
        let a_bytes = match &p.a {
            Some(_) => Vec::new(),
            None => self.wgmma_operand(
                engine,
                (w, 0, p),
                p.descriptors.0,
                t.a,
                (16 * quarter, 16, k),
                op.trans.0,
            ),
        };
        let regs = &mut self.warps[w].regs;
        let (layout, a_layout) = (Layout::Mma(Role::C), Layout::Mma(Role::A));
        // A register operand is read through a small register file of its own.
        let own = p.a.as_ref().map(|rows| Regs { rows: rows.clone(), ..Regs::default() });
        let slots: Vec<Slot> = (0..4).collect();
        if t.a.is_float() {
            let mut a = vec![0f32; 16 * k];
            match &own {
                Some(own) => gather_f32(own, &slots, a_layout, t.a, k, &mut a),
                None => a.iter_mut().zip(&a_bytes).for_each(|(x, &b)| *x = float_value(b, t.a)),
            }
            let mut b = vec![0f32; k * n];
            let sign = (op.signs.0 * op.signs.1) as f32;
            (0..n).for_each(|j| {
                (0..k).for_each(|i| b[i * n + j] = sign * float_value(b_bytes[j * k + i], t.b))
            });
            let mut c = vec![0f32; 16 * n];
            if p.keep {
                gather_f32(regs, &op.d, layout, t.d, n, &mut c);
            }
            product_f32(isa, Operands { a: &a, b: &b, c: &mut c, n, k });
            scatter_f32(regs, &op.d, layout, t.d, n, &c);
        } else {
            let mut a = vec![0i32; 16 * k];
            match &own {
                Some(own) => gather_i32(own, &slots, a_layout, t.a, k, &mut a),
                None => a.iter_mut().zip(&a_bytes).for_each(|(x, &b)| *x = int_value(b, t.a)),
            }
            let mut b = vec![0i32; k * n];
            (0..n).for_each(|j| {
                (0..k).for_each(|i| b[i * n + j] = int_value(b_bytes[j * k + i], t.b))
            });
            let mut c = vec![0i32; 16 * n];
            if p.keep {
                gather_i32(regs, &op.d, layout, Ty::S32, n, &mut c);
            }
            if t.a == Ty::B1 {
                bit_product(Operands { a: &a, b: &b, c: &mut c, n, k }, t.bit == Some(true));
            } else {
                product_i32(Operands { a: &a, b: &b, c: &mut c, n, k }, t.sat);
            }
            scatter_i32(regs, &op.d, layout, n, &c);
        }
    }

    /// Raw elements of a shared operand, `count × k` row-major from row `first` on, addressed by a
    /// descriptor (PTX ISA, "Matrix Descriptor" and "Shared Memory Matrix Layout").
    fn wgmma_operand(
        &mut self,
        engine: &Engine,
        (w, operand, pending): (usize, usize, &Pending),
        descriptor: u64,
        ty: Ty,
        (first, count, k): (usize, usize, usize),
        transposed: bool,
    ) -> Vec<u32> {
        let field = |at: u32| (descriptor >> at & 0x3fff) << 4;
        let (start, leading, stride) = (field(0), field(16), field(32));
        let mode = [0, 3, 2, 1][(descriptor >> 62) as usize];
        // Bytes of one swizzled row, and the 16-byte units in it.
        let row = 16u64 << mode;
        let bits = ty.bits() as usize;
        let per = 128 / bits;
        let mut out = vec![0u32; count * k];
        let mut chunk = [0u8; 16];
        let lane = operand;
        let element = |chunk: &[u8; 16], e: usize| -> u32 {
            let at = e * bits;
            let word = u32::from_le_bytes([
                chunk[at / 32 * 4],
                chunk[at / 32 * 4 + 1],
                chunk[at / 32 * 4 + 2],
                chunk[at / 32 * 4 + 3],
            ]);
            if bits == 32 { word } else { word >> (at % 32) & ((1 << bits) - 1) }
        };
        let fetch = |unit: &mut Self, offset: u64, chunk: &mut [u8; 16]| {
            let address = swizzle(start + offset, mode);
            unit.read_async(engine, (w, lane, pending.pc), address, chunk, pending.epoch);
        };
        if transposed {
            let units = u64::from(row as u32) / 16;
            for q in first / per..(first + count) / per {
                for i in 0..k as u64 {
                    let q = q as u64;
                    let offset = if mode == 0 {
                        q * stride + (i % 8) * 16 + (i / 8) * leading
                    } else {
                        (q % units) * 16 + (q / units) * leading + (i % 8) * row + (i / 8) * stride
                    };
                    fetch(self, offset, &mut chunk);
                    for e in 0..per {
                        out[(q as usize * per + e - first) * k + i as usize] = element(&chunk, e);
                    }
                }
            }
            return out;
        }
        for r in 0..count {
            let line = (first + r) as u64;
            for c in 0..k / per {
                let along = if mode == 0 { c as u64 * leading } else { c as u64 * 16 };
                fetch(self, (line % 8) * row + (line / 8) * stride + along, &mut chunk);
                for e in 0..per {
                    out[r * k + c * per + e] = element(&chunk, e);
                }
            }
        }
        out
    }

    /// `wgmma` sees registers as they were at the last `wgmma.fence`; results of earlier ones are
    /// ordered by themselves.
    fn check_wgmma_fence(&mut self, engine: &Engine, w: usize, pc: u32, op: &Wgmma) {
        if !engine.options.checks.waits {
            return;
        }
        let warp = &self.warps[w];
        let keep = warp.regs.pred(op.scale_d) & 1 != 0;
        let touched = |slot: &Slot| warp.wgmma.touched.get(*slot as usize) == Some(&true);
        let a = match &op.a {
            WgmmaA::Registers(slots) => slots.as_slice(),
            WgmmaA::Shared(_) => &[],
        };
        if warp.wgmma.fenced && !a.iter().any(touched) && !(keep && op.d.iter().any(touched)) {
            return;
        }
        self.report(engine, FindingKind::MissingFence, (w, 0, pc), None, || {
            "reads registers that were written after the last `wgmma.fence`".into()
        });
    }

    /// An instruction has written registers. A plain copy is as good as its source, and constants
    /// come from anywhere; the compiler moves both at will.
    pub(crate) fn mark_wgmma_registers(&mut self, engine: &Engine, w: usize, pc: u32) {
        let inst = &engine.program.code[pc as usize];
        let rows = self.warps[w].regs.rows.len();
        let queue = &mut self.warps[w].wgmma;
        if !queue.pending.is_empty() && !inst.is_move {
            // Whoever overwrites a copy no longer wants what it stood for.
            queue.pending.retain(
                |later| !matches!(later, Later::Copy { to, .. } if inst.flow.writes.contains(to)),
            );
        }
        let touched = &mut queue.touched;
        touched.resize(rows, false);
        let new = !inst.is_move || inst.flow.reads.iter().any(|&r| touched[r as usize]);
        inst.flow.writes.iter().for_each(|&d| touched[d as usize] = new);
    }

    /// Registers of a `wgmma` on its way must not be touched before the wait. Plain moves are let
    /// through, since compilers emit them around inline assembly: the copy receives the value too.
    pub(crate) fn check_wgmma_registers(
        &mut self,
        engine: &Engine,
        w: usize,
        pc: u32,
        active: u32,
        flow: &Flow,
    ) {
        let inst = &engine.program.code[pc as usize];
        let queue = &mut self.warps[w].wgmma;
        let touched = flow.reads.iter().find(|s| queue.in_flight.contains(s)).copied();
        let Some(touched) = touched else { return };
        if inst.is_move && flow.reads.len() == 1 && flow.writes.len() == 1 {
            queue.pending.push(Later::Copy { from: touched, to: flow.writes[0] });
            queue.in_flight.push(flow.writes[0]);
            return;
        }
        if engine.options.checks.waits {
            let source = queue.pending.iter().rev().find_map(|later| match later {
                Later::Product(p) => Some(engine.program.code[p.pc as usize].line),
                Later::Copy { .. } => None,
            });
            self.report(
                engine,
                FindingKind::MissingWait,
                (w, active.trailing_zeros() as usize & 31, pc),
                None,
                || {
                    format!(
                        "uses an accumulator that `wgmma` (line {}) has not delivered yet",
                        source.unwrap_or(0)
                    )
                },
            );
        }
    }
}

/// The `wgmma` at `pc`.
fn wgmma_at<'e>(engine: &'e Engine, pc: u32) -> Option<&'e Wgmma> {
    match &engine.program.code[pc as usize].op {
        Op::Matrix(matrix) => match &**matrix {
            Matrix::Wgmma(op) => Some(op),
            _ => None,
        },
        _ => None,
    }
}

/// One-bit products: the number of positions where the bits differ (xor) or are both set (and).
fn bit_product(o: Operands<i32>, xor: bool) {
    for (c, a) in o.c.chunks_exact_mut(o.n).zip(o.a.chunks_exact(o.k)) {
        for (j, c) in c.iter_mut().enumerate() {
            let hit =
                |k: usize, x: i32| if xor { x ^ o.b[k * o.n + j] } else { x & o.b[k * o.n + j] };
            *c = c.wrapping_add(a.iter().enumerate().map(|(k, x)| hit(k, *x)).sum());
        }
    }
}

/// `movmatrix.trans`: an 8 × 8 tile spread over the warp.
fn transpose(regs: &mut Regs, d: Slot, a: Slot) {
    let rows: [u32; LANES] = regs.get(a);
    let half = |r: usize, c: usize| rows[4 * r + c / 2] >> (16 * (c % 2)) & 0xffff;
    let out = std::array::from_fn(|lane| {
        let (r, c) = (lane / 4, lane % 4 * 2);
        half(c, r) | half(c + 1, r) << 16
    });
    regs.put::<u32>(d, FULL, &out);
    regs.set_undefined(d, FULL, 0);
}

/// `mma` and `wmma.mma`.
fn multiply(engine: &Engine, regs: &mut Regs, mma: &Mma, wmma: bool) {
    let Shape { m, n, k } = mma.shape;
    let (m, n, k) = (m as usize, n as usize, k as usize);
    let layout = |role: Role, rows: usize, cols: usize| {
        if wmma { Layout::Linear { count: rows * cols / LANES } } else { Layout::Mma(role) }
    };
    let (la, lb, lc) = (layout(Role::A, m, k), layout(Role::B, k, n), layout(Role::C, m, n));
    if regs.tainted {
        spread(regs, mma, (la, lb, lc));
    }
    let t = mma.types;
    match t.a {
        Ty::F64 => {
            let (mut a, mut b, mut c) = (vec![0.0; m * k], vec![0.0; k * n], vec![0.0; m * n]);
            gather_f64(regs, &mma.a, la, k, &mut a);
            gather_f64(regs, &mma.b, lb, n, &mut b);
            gather_f64(regs, &mma.c, lc, n, &mut c);
            product_f64(Operands { a: &a, b: &b, c: &mut c, n, k }, t.round);
            scatter_f64(regs, &mma.d, lc, n, &c);
        }
        _ if t.a.is_float() => {
            let (mut a, mut b, mut c) = ([0f32; 512], [0f32; 512], [0f32; 256]);
            let (a, b, c) = (&mut a[..m * k], &mut b[..k * n], &mut c[..m * n]);
            gather_f32(regs, &mma.a, la, t.a, k, a);
            gather_f32(regs, &mma.b, lb, t.b, n, b);
            gather_f32(regs, &mma.c, lc, t.c, n, c);
            product_f32(engine.isa(), Operands { a, b, c, n, k });
            if t.d == Ty::F16 {
                round_half(c);
            }
            scatter_f32(regs, &mma.d, lc, t.d, n, c);
        }
        _ => {
            let (mut a, mut b, mut c) = (vec![0; m * k], vec![0; k * n], vec![0; m * n]);
            gather_i32(regs, &mma.a, la, t.a, k, &mut a);
            gather_i32(regs, &mma.b, lb, t.b, n, &mut b);
            gather_i32(regs, &mma.c, lc, Ty::S32, n, &mut c);
            let o = Operands { a: &a, b: &b, c: &mut c, n, k };
            if t.a == Ty::B1 {
                bit_product(o, t.bit == Some(true))
            } else {
                product_i32(o, t.sat)
            }
            scatter_i32(regs, &mma.d, lc, n, &c);
        }
    }
}

/// `mma.m8n8k4`: lanes 4·q … 4·q + 3 and the same plus 16 hold one product of their own (PTX ISA,
/// "Matrix Fragments for mma.m8n8k4 with .f16").
fn volta(regs: &mut Regs, mma: &Mma, (a_row, b_row): (bool, bool)) {
    let single = |ty: Ty| ty == Ty::F32;
    let element = |regs: &Regs, slots: &[Slot], lane: usize, i: usize| {
        half_to_f32((regs.u32_at(slots[i / 2], lane) >> (16 * (i % 2))) as u16)
    };
    // Where element i of a lane's accumulator is.
    let place = |ty: Ty, lane: usize, i: usize| {
        let upper = lane / 16 * 4;
        if single(ty) {
            ((lane & 1) + (i & 2) + upper, (i & 4) + (lane & 2) + (i & 1))
        } else {
            (lane % 4 + upper, i)
        }
    };
    let mut out = [[[0f32; 8]; 8]; 4];
    for (quad, product) in out.iter_mut().enumerate() {
        let (mut a, mut b) = ([[0f32; 4]; 8], [[0f32; 8]; 4]);
        let lanes = (0..4).map(|l| 4 * quad + l);
        for lane in lanes.flat_map(|l| [l, l + 16]) {
            let upper = lane / 16 * 4;
            for i in 0..4 {
                let (m, k) = if a_row { (lane % 4 + upper, i) } else { (i + upper, lane % 4) };
                a[m][k] = element(regs, &mma.a, lane, i);
                let (k, n) = if b_row { (lane % 4, i + upper) } else { (i, lane % 4 + upper) };
                b[k][n] = element(regs, &mma.b, lane, i);
            }
            for i in 0..8 {
                let (m, n) = place(mma.types.c, lane, i);
                product[m][n] = if single(mma.types.c) {
                    f32::from_bits(regs.u32_at(mma.c[i], lane))
                } else {
                    element(regs, &mma.c, lane, i)
                };
            }
        }
        for (row, a) in product.iter_mut().zip(&a) {
            for (n, sum) in row.iter_mut().enumerate() {
                *sum = (0..4).fold(*sum, |s, k| a[k].mul_add(b[k][n], s));
            }
        }
    }
    for lane in 0..LANES {
        for (j, &d) in mma.d.iter().enumerate() {
            let at = |i: usize| {
                let (m, n) = place(mma.types.d, lane, i);
                out[lane / 4 % 4][m][n]
            };
            let word = if single(mma.types.d) {
                crate::num::canon(at(j)).to_bits()
            } else {
                u32::from(f32_to_half(at(2 * j))) | u32::from(f32_to_half(at(2 * j + 1))) << 16
            };
            regs.set_u32(d, lane, word);
        }
    }
    if regs.tainted {
        let reads = mma.a.iter().chain(&mma.b).chain(&mma.c);
        let undefined = reads.fold(0, |m, &s| m | regs.undefined_lanes(s));
        let bits = if undefined != 0 { u32::MAX } else { 0 };
        mma.d.iter().for_each(|&d| regs.set_undefined(d, FULL, bits));
    }
}

/// An undefined element of A makes its row undefined, one of B its column, one of C itself.
fn spread(regs: &mut Regs, mma: &Mma, (la, lb, lc): (Layout, Layout, Layout)) {
    let Shape { m, n, k } = mma.shape;
    let (m, n, k) = (m as usize, n as usize, k as usize);
    let (mut rows, mut cols, mut own) = (vec![false; m], vec![false; n], vec![false; m * n]);
    let bad = |regs: &Regs, slot: Slot, lane: usize, e: usize, ty: Ty| {
        let width = ty.bits().min(32);
        regs.undefined_bits(slot, lane) >> (e as u32 * width) & (u32::MAX >> (32 - width)) != 0
    };
    each(la, mma.types.a, mma.a.len(), k, |lane, j, e, index| {
        rows[index / k] |= bad(regs, mma.a[j], lane, e, mma.types.a)
    });
    each(lb, mma.types.b, mma.b.len(), n, |lane, j, e, index| {
        cols[index % n] |= bad(regs, mma.b[j], lane, e, mma.types.b)
    });
    each(lc, mma.types.c, mma.c.len(), n, |lane, j, e, index| {
        own[index] |= bad(regs, mma.c[j], lane, e, mma.types.c)
    });
    let mut out = vec![0u32; mma.d.len()];
    each(lc, mma.types.d, mma.d.len(), n, |lane, j, _, index| {
        out[j] |= u32::from(rows[index / n] || cols[index % n] || own[index]) << lane;
    });
    for (&d, lanes) in mma.d.iter().zip(out) {
        regs.set_undefined(d, FULL, 0);
        regs.set_undefined(d, lanes, u32::MAX);
    }
}
