//! `wgmma`: products of a warp group that go on while it does something else.

use super::engine::Engine;
use super::matrix::{Accumulate, Matrix, Shape, bit_product};
use super::tensormap::swizzle;
use super::tiles::*;
use super::unit::Unit;
use crate::check::FindingKind;
use crate::lanes::{Pred, Regs, Row, Slot};
use crate::program::{Flow, Op};
use crate::types::Ty;

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
    pub(super) group: u32,
    /// Registers whose value is on its way.
    pub(crate) in_flight: Vec<Slot>,
    /// A `wgmma.fence` was executed.
    pub(super) fenced: bool,
    /// Registers that something else than `wgmma` computed since the last fence.
    pub(super) touched: Vec<bool>,
}

impl Unit {
    pub(super) fn wgmma(&mut self, engine: &Engine, w: usize, pc: u32, op: &Wgmma) {
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

    pub(super) fn wgmma_wait(&mut self, engine: &Engine, w: usize, pending: u32) {
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
