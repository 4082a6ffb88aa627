//! `ldmatrix`, `stmatrix`, `movmatrix`, `mma`, `wmma` and `wgmma`.

use super::engine::Engine;
use super::step::Then;
use super::tiles::*;
use super::unit::Unit;
use super::wgmma::Wgmma;
use crate::check::FindingKind;
use crate::lanes::{FULL, LANES, Regs, Slot};
use crate::num::{Round, f32_to_half, half_to_f32};
use crate::profile::Counts;
use crate::program::{Address, Order};
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
                    super::transfer::get_element(
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
}

/// One-bit products: the number of positions where the bits differ (xor) or are both set (and).
pub(super) fn bit_product(o: Operands<i32>, xor: bool) {
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
