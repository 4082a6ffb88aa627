//! Matrix fragments: which lane holds which element, and the products themselves.

use crate::lanes::{Isa, LANES, Regs, Slot};
use crate::num::{Format, Round, brain_to_f32, f32_to_half, fma64, half_to_f32};
use crate::types::Ty;

/// Which matrix of `D = A × B + C`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    A,
    B,
    C,
}

/// Elements of `ty` in one 32-bit register (one for doubles, which take two rows).
pub(crate) fn per_register(ty: Ty) -> usize {
    if ty == Ty::F64 { 1 } else { (32 / ty.bits()) as usize }
}

/// Row and column of element `e` of register `j` of lane `lane` in an `mma` fragment. B's row is
/// along k. (PTX ISA, "Matrix Fragments for mma": one formula covers every figure.)
pub(crate) fn position(role: Role, ty: Ty, lane: usize, j: usize, e: usize) -> (usize, usize) {
    let (group, thread) = (lane / 4, lane % 4);
    let per = per_register(ty);
    match role {
        Role::A => (group + 8 * (j & 1), (j >> 1) * 4 * per + thread * per + e),
        Role::B => (j * 4 * per + thread * per + e, group),
        Role::C => {
            // Two neighbours per row; f16 packs both in one register, the others use two.
            let i = j * per + e;
            (group + 8 * (i >> 1 & 1), i / 4 * 8 + thread * 2 + (i & 1))
        }
    }
}

/// Raw bits of element `e` of register `slot`.
#[inline(always)]
fn bits(word: u32, ty: Ty, e: usize) -> u32 {
    let width = ty.bits();
    if width >= 32 { word } else { word >> (e as u32 * width) & ((1 << width) - 1) }
}

/// Value of a float element of at most 32 bits.
#[inline(always)]
pub(crate) fn float_value(bits: u32, ty: Ty) -> f32 {
    match ty {
        Ty::F16 => half_to_f32(bits as u16),
        Ty::BF16 => brain_to_f32(bits as u16),
        // Tensor cores ignore the low 13 bits of a tf32 operand.
        Ty::TF32 => f32::from_bits(bits & 0xffff_e000),
        Ty::E4M3 => Format::E4M3.decode(bits) as f32,
        Ty::E5M2 => Format::E5M2.decode(bits) as f32,
        _ => f32::from_bits(bits),
    }
}

/// Value of an integer element.
#[inline(always)]
pub(crate) fn int_value(bits: u32, ty: Ty) -> i32 {
    match ty {
        Ty::S8 => i32::from(bits as u8 as i8),
        Ty::S4 => ((bits << 28) as i32) >> 28,
        _ => bits as i32,
    }
}

/// Where elements of a fragment go: `mma` positions, or the private order of `wmma`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    Mma(Role),
    /// Element `i` of a lane is number `lane × count + i` of the row-major matrix.
    Linear {
        count: usize,
    },
}

/// Calls `f(lane, register, element, index)` for each element of a `rows × cols` fragment.
#[inline(always)]
pub(crate) fn each(
    layout: Layout,
    ty: Ty,
    registers: usize,
    cols: usize,
    mut f: impl FnMut(usize, usize, usize, usize),
) {
    let per = per_register(ty);
    for j in 0..registers {
        for lane in 0..LANES {
            for e in 0..per {
                let index = match layout {
                    Layout::Mma(role) => {
                        let (row, col) = position(role, ty, lane, j, e);
                        row * cols + col
                    }
                    Layout::Linear { count } => {
                        let i = j * per + e;
                        if i >= count {
                            continue;
                        }
                        lane * count + i
                    }
                };
                f(lane, j, e, index);
            }
        }
    }
}

/// Reads a fragment of float elements.
#[inline(always)]
pub(crate) fn gather_f32(
    regs: &Regs,
    slots: &[Slot],
    layout: Layout,
    ty: Ty,
    cols: usize,
    out: &mut [f32],
) {
    each(layout, ty, slots.len(), cols, |lane, j, e, index| {
        out[index] = float_value(bits(regs.rows[slots[j] as usize].0[lane], ty, e), ty);
    });
}

/// Reads a fragment of integers (bits of one-bit types stay packed elsewhere).
pub(crate) fn gather_i32(
    regs: &Regs,
    slots: &[Slot],
    layout: Layout,
    ty: Ty,
    cols: usize,
    out: &mut [i32],
) {
    each(layout, ty, slots.len(), cols, |lane, j, e, index| {
        out[index] = int_value(bits(regs.rows[slots[j] as usize].0[lane], ty, e), ty);
    });
}

/// Reads a fragment of doubles.
pub(crate) fn gather_f64(
    regs: &Regs,
    slots: &[Slot],
    layout: Layout,
    cols: usize,
    out: &mut [f64],
) {
    each(layout, Ty::F64, slots.len(), cols, |lane, j, _, index| {
        out[index] = f64::from_bits(regs.u64_at(slots[j], lane));
    });
}

/// Writes a fragment of singles or halves.
#[inline(always)]
pub(crate) fn scatter_f32(
    regs: &mut Regs,
    slots: &[Slot],
    layout: Layout,
    ty: Ty,
    cols: usize,
    values: &[f32],
) {
    if ty == Ty::F16 {
        slots.iter().for_each(|&s| regs.rows[s as usize].0 = [0; LANES]);
        each(layout, ty, slots.len(), cols, |lane, j, e, index| {
            regs.rows[slots[j] as usize].0[lane] |=
                u32::from(f32_to_half(values[index])) << (16 * e);
        });
        return;
    }
    each(layout, ty, slots.len(), cols, |lane, j, _, index| {
        regs.rows[slots[j] as usize].0[lane] = crate::num::canon(values[index]).to_bits();
    });
}

pub(crate) fn scatter_i32(
    regs: &mut Regs,
    slots: &[Slot],
    layout: Layout,
    cols: usize,
    values: &[i32],
) {
    each(layout, Ty::S32, slots.len(), cols, |lane, j, _, index| {
        regs.rows[slots[j] as usize].0[lane] = values[index] as u32;
    });
}

pub(crate) fn scatter_f64(
    regs: &mut Regs,
    slots: &[Slot],
    layout: Layout,
    cols: usize,
    values: &[f64],
) {
    each(layout, Ty::F64, slots.len(), cols, |lane, j, _, index| {
        regs.set_u64(slots[j], lane, values[index].to_bits());
    });
}

/// Largest tiles: wgmma's 16 rows per warp × 256 columns, k of at most 64 elements.
pub(crate) struct Operands<'a, T> {
    /// `m × k`
    pub(crate) a: &'a [T],
    /// `k × n`
    pub(crate) b: &'a [T],
    /// `m × n`, in and out
    pub(crate) c: &'a mut [T],
    pub(crate) n: usize,
    pub(crate) k: usize,
}

#[inline(always)]
fn product_body(o: Operands<f32>) {
    for (c, a) in o.c.chunks_exact_mut(o.n).zip(o.a.chunks_exact(o.k)) {
        if o.n == 8 {
            // The common width stays in one vector register.
            let mut row = [0f32; 8];
            row.copy_from_slice(c);
            for (x, b) in a.iter().zip(o.b.chunks_exact(8)) {
                for j in 0..8 {
                    row[j] = x.mul_add(b[j], row[j]);
                }
            }
            c.copy_from_slice(&row);
        } else {
            for (x, b) in a.iter().zip(o.b.chunks_exact(o.n)) {
                c.iter_mut().zip(b).for_each(|(c, b)| *c = x.mul_add(*b, *c));
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn product_avx2(o: Operands<f32>) {
    product_body(o);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn product_avx512(o: Operands<f32>) {
    product_body(o);
}

/// `C += A × B` in single: products are exact, each addition rounds once.
pub(crate) fn product_f32(isa: Isa, o: Operands<f32>) {
    #[cfg(target_arch = "x86_64")]
    match isa {
        // SAFETY: `Isa::detect` found every feature that the callee enables.
        Isa::Avx512 => return unsafe { product_avx512(o) },
        // SAFETY: as above.
        Isa::Avx2 => return unsafe { product_avx2(o) },
        Isa::Baseline => {}
    }
    let _ = isa;
    product_body(o);
}

/// `C += A × B` in double.
pub(crate) fn product_f64(o: Operands<f64>, round: Round) {
    for (c, a) in o.c.chunks_exact_mut(o.n).zip(o.a.chunks_exact(o.k)) {
        for (x, b) in a.iter().zip(o.b.chunks_exact(o.n)) {
            c.iter_mut().zip(b).for_each(|(c, b)| *c = fma64(*x, *b, *c, round));
        }
    }
}

/// `C += A × B` in integers; `.satfinite` clamps the sum, otherwise it wraps.
pub(crate) fn product_i32(o: Operands<i32>, sat: bool) {
    for (c, a) in o.c.chunks_exact_mut(o.n).zip(o.a.chunks_exact(o.k)) {
        for (j, c) in c.iter_mut().enumerate() {
            let sum: i64 = a
                .iter()
                .enumerate()
                .map(|(k, x)| i64::from(*x) * i64::from(o.b[k * o.n + j]))
                .sum();
            let wide = i64::from(*c) + sum;
            *c = if sat {
                wide.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
            } else {
                wide as i32
            };
        }
    }
}

/// `D` of half precision is rounded once at the end.
pub(crate) fn round_half(values: &mut [f32]) {
    for v in values {
        let bits = Format::HALF.encode(f64::from(*v), Round::Even, false);
        *v = half_to_f32(bits as u16);
    }
}
