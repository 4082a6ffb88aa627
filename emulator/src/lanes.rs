//! The register file of a warp and the loops over its 32 lanes.
//!
//! A register is one row of 32 words, a 64-bit register two rows (low words, high words), so every
//! inner loop is a plain loop over arrays that LLVM turns into SIMD code. Each loop is compiled
//! twice, for the baseline and for AVX2 with FMA, and the decoder picks one when the program is
//! loaded ([`Isa::detect`]). Predicates are 32-bit lane masks.

use half::{bf16, f16};

/// Lanes in a warp.
pub(crate) const LANES: usize = 32;
/// All lanes.
pub(crate) const FULL: u32 = u32::MAX;

/// One word of every lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(64))]
pub(crate) struct Row(pub(crate) [u32; LANES]);

/// Index of a row; a 64-bit register also owns the next one.
pub(crate) type Slot = u32;
/// Index of a predicate.
pub(crate) type Pred = u32;

/// The registers of one warp.
#[derive(Clone, Debug, Default)]
pub(crate) struct Regs {
    pub(crate) rows: Vec<Row>,
    pub(crate) preds: Vec<u32>,
    /// Bits of each row whose value came from memory that nobody initialised; empty until there are
    /// any.
    pub(crate) undef: Vec<Row>,
    /// Lanes of each predicate of which the same is true.
    pub(crate) pred_undef: Vec<u32>,
    /// Whether anything was ever undefined; while false, nothing is propagated.
    pub(crate) tainted: bool,
}

impl Regs {
    pub(crate) fn get<T: Lane>(&self, slot: Slot) -> [T; LANES] {
        T::get(&self.rows, slot as usize)
    }

    pub(crate) fn put<T: Lane>(&mut self, slot: Slot, mask: u32, values: &[T; LANES]) {
        T::put(&mut self.rows, slot as usize, mask, values);
    }

    pub(crate) fn u32_at(&self, slot: Slot, lane: usize) -> u32 {
        self.rows[slot as usize].0[lane]
    }

    pub(crate) fn set_u32(&mut self, slot: Slot, lane: usize, value: u32) {
        self.rows[slot as usize].0[lane] = value;
    }

    pub(crate) fn u64_at(&self, slot: Slot, lane: usize) -> u64 {
        let slot = slot as usize;
        u64::from(self.rows[slot].0[lane]) | u64::from(self.rows[slot + 1].0[lane]) << 32
    }

    pub(crate) fn set_u64(&mut self, slot: Slot, lane: usize, value: u64) {
        self.set_u32(slot, lane, value as u32);
        self.set_u32(slot + 1, lane, (value >> 32) as u32);
    }

    /// From now on undefined bits are kept track of.
    pub(crate) fn taint(&mut self) {
        if !self.tainted {
            self.tainted = true;
            self.undef.clear();
            self.undef.resize(self.rows.len(), Row([0; LANES]));
            self.pred_undef.clear();
            self.pred_undef.resize(self.preds.len(), 0);
        }
    }

    /// Lanes in which a row has undefined bits.
    pub(crate) fn undefined_lanes(&self, slot: Slot) -> u32 {
        let row = self.undef.get(slot as usize).filter(|_| self.tainted);
        row.map_or(0, |row| (0..LANES).fold(0, |m, i| m | u32::from(row.0[i] != 0) << i))
    }

    /// Undefined bits of one lane.
    pub(crate) fn undefined_bits(&self, slot: Slot, lane: usize) -> u32 {
        if self.tainted { self.undef[slot as usize].0[lane] } else { 0 }
    }

    /// Sets the undefined bits of the lanes in `mask`.
    pub(crate) fn set_undefined(&mut self, slot: Slot, mask: u32, bits: u32) {
        if self.tainted {
            let row = &mut self.undef[slot as usize].0;
            (0..LANES).filter(|i| mask >> i & 1 != 0).for_each(|i| row[i] = bits);
        }
    }

    /// The predicate with `negate` applied.
    pub(crate) fn pred(&self, (pred, negate): (Pred, bool)) -> u32 {
        if negate { !self.preds[pred as usize] } else { self.preds[pred as usize] }
    }

    pub(crate) fn put_pred(&mut self, pred: Pred, mask: u32, value: u32) {
        let p = &mut self.preds[pred as usize];
        *p = *p & !mask | value & mask;
    }
}

/// A type that a register can hold in each lane.
pub(crate) trait Lane: Copy + Default + Send + Sync + 'static {
    fn get(rows: &[Row], slot: usize) -> [Self; LANES];
    fn put(rows: &mut [Row], slot: usize, mask: u32, values: &[Self; LANES]);
}

macro_rules! narrow_lane {
    ($($ty:ty, |$w:ident| $from:expr, |$v:ident| $to:expr;)*) => {$(
        impl Lane for $ty {
            #[inline(always)]
            fn get(rows: &[Row], slot: usize) -> [Self; LANES] {
                let row = &rows[slot].0;
                std::array::from_fn(|i| { let $w = row[i]; $from })
            }
            #[inline(always)]
            fn put(rows: &mut [Row], slot: usize, mask: u32, values: &[Self; LANES]) {
                let row = &mut rows[slot].0;
                for i in 0..LANES {
                    let $v = values[i];
                    let new = $to;
                    row[i] = if mask >> i & 1 != 0 { new } else { row[i] };
                }
            }
        }
    )*};
}

narrow_lane! {
    u8, |w| w as u8, |v| u32::from(v);
    i8, |w| w as i8, |v| u32::from(v as u8);
    u16, |w| w as u16, |v| u32::from(v);
    i16, |w| w as i16, |v| u32::from(v as u16);
    u32, |w| w, |v| v;
    i32, |w| w as i32, |v| v as u32;
    f32, |w| f32::from_bits(w), |v| v.to_bits();
    f16, |w| f16::from_bits(w as u16), |v| u32::from(v.to_bits());
    bf16, |w| bf16::from_bits(w as u16), |v| u32::from(v.to_bits());
    [f16; 2], |w| [f16::from_bits(w as u16), f16::from_bits((w >> 16) as u16)],
        |v| u32::from(v[0].to_bits()) | u32::from(v[1].to_bits()) << 16;
    [bf16; 2], |w| [bf16::from_bits(w as u16), bf16::from_bits((w >> 16) as u16)],
        |v| u32::from(v[0].to_bits()) | u32::from(v[1].to_bits()) << 16;
    [u16; 2], |w| [w as u16, (w >> 16) as u16], |v| u32::from(v[0]) | u32::from(v[1]) << 16;
    [i16; 2], |w| [w as i16, (w >> 16) as i16], |v| u32::from(v[0] as u16) | u32::from(v[1] as u16) << 16;
}

macro_rules! wide_lane {
    ($($ty:ty, |$w:ident| $from:expr, |$v:ident| $to:expr;)*) => {$(
        impl Lane for $ty {
            #[inline(always)]
            fn get(rows: &[Row], slot: usize) -> [Self; LANES] {
                let (low, high) = (&rows[slot].0, &rows[slot + 1].0);
                std::array::from_fn(|i| {
                    let $w = u64::from(low[i]) | u64::from(high[i]) << 32;
                    $from
                })
            }
            #[inline(always)]
            fn put(rows: &mut [Row], slot: usize, mask: u32, values: &[Self; LANES]) {
                let [low, high] = &mut rows[slot..slot + 2] else { return };
                for i in 0..LANES {
                    let $v = values[i];
                    let new: u64 = $to;
                    let keep = mask >> i & 1 == 0;
                    low.0[i] = if keep { low.0[i] } else { new as u32 };
                    high.0[i] = if keep { high.0[i] } else { (new >> 32) as u32 };
                }
            }
        }
    )*};
}

wide_lane! {
    u64, |w| w, |v| v;
    i64, |w| w as i64, |v| v as u64;
    f64, |w| f64::from_bits(w), |v| v.to_bits();
}

/// What the host's vector units can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd)]
pub enum Isa {
    /// What every build of this crate may assume.
    #[default]
    Baseline,
    /// AVX2, FMA, F16C, BMI, LZCNT, POPCNT.
    Avx2,
    /// AVX-512 F, BW, DQ, VL on top.
    Avx512,
}

impl Isa {
    /// All of them, the plainest first.
    pub const ALL: [Isa; 3] = [Isa::Baseline, Isa::Avx2, Isa::Avx512];

    /// Asks the processor.
    pub fn detect() -> Isa {
        #[cfg(target_arch = "x86_64")]
        {
            let v3 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("lzcnt")
                && is_x86_feature_detected!("popcnt");
            let v4 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            match (v3, v4) {
                (true, true) => Isa::Avx512,
                (true, false) => Isa::Avx2,
                _ => Isa::Baseline,
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        Isa::Baseline
    }

    /// The better of those that the processor has and `self` allows.
    pub(crate) fn available(self) -> Isa {
        let host = Isa::detect();
        if self < host { self } else { host }
    }
}

/// A decoded arithmetic instruction: slots and modifiers are captured.
pub(crate) type AluFn = Box<dyn Fn(&mut Regs, u32) + Send + Sync>;

/// Defines a lane loop, its AVX2 twin, and the function that picks one and boxes it.
macro_rules! lane_loop {
    ($(#[$doc:meta])* $name:ident / $body:ident / $avx2:ident
     <$($generic:ident),*> ($($slot:ident: $slot_ty:ty),*; $f:ident: $fty:path) |$regs:ident, $mask:ident| $code:block) => {
        #[allow(clippy::too_many_arguments)] // One slot per operand.
        #[inline(always)]
        fn $body<$($generic: Lane,)* Func: $fty>($regs: &mut Regs, $mask: u32, $($slot: $slot_ty,)* $f: Func) $code

        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
        #[allow(clippy::too_many_arguments)] // One slot per operand.
        fn $avx2<$($generic: Lane,)* Func: $fty>($regs: &mut Regs, $mask: u32, $($slot: $slot_ty,)* $f: Func) {
            $body::<$($generic,)* Func>($regs, $mask, $($slot,)* $f)
        }

        $(#[$doc])*
        pub(crate) fn $name<$($generic: Lane,)* Func>(isa: Isa, $($slot: $slot_ty,)* $f: Func) -> AluFn
        where Func: $fty + Copy + Send + Sync + 'static {
            #[cfg(target_arch = "x86_64")]
            if isa >= Isa::Avx2 {
                return Box::new(move |regs, mask| {
                    // SAFETY: `Isa::detect` found every feature that the callee enables.
                    unsafe { $avx2::<$($generic,)* Func>(regs, mask, $($slot,)* $f) }
                });
            }
            let _ = isa;
            Box::new(move |regs, mask| $body::<$($generic,)* Func>(regs, mask, $($slot,)* $f))
        }
    };
}

lane_loop! {
    /// `d = f(a)` in every lane.
    map1 / map1_body / map1_avx2 <A, R> (d: Slot, a: Slot; f: Fn(A) -> R) |regs, mask| {
        let a: [A; LANES] = regs.get(a);
        let out: [R; LANES] = std::array::from_fn(|i| f(a[i]));
        regs.put(d, mask, &out);
    }
}

lane_loop! {
    /// `d = f(a, b)` in every lane.
    map2 / map2_body / map2_avx2 <A, B, R> (d: Slot, a: Slot, b: Slot; f: Fn(A, B) -> R) |regs, mask| {
        let a: [A; LANES] = regs.get(a);
        let b: [B; LANES] = regs.get(b);
        let out: [R; LANES] = std::array::from_fn(|i| f(a[i], b[i]));
        regs.put(d, mask, &out);
    }
}

lane_loop! {
    /// `d = f(a, b, c)` in every lane.
    map3 / map3_body / map3_avx2 <A, B, C, R> (d: Slot, a: Slot, b: Slot, c: Slot; f: Fn(A, B, C) -> R) |regs, mask| {
        let a: [A; LANES] = regs.get(a);
        let b: [B; LANES] = regs.get(b);
        let c: [C; LANES] = regs.get(c);
        let out: [R; LANES] = std::array::from_fn(|i| f(a[i], b[i], c[i]));
        regs.put(d, mask, &out);
    }
}

lane_loop! {
    /// `d = f(a, b, c, e)` in every lane.
    map4 / map4_body / map4_avx2 <A, B, C, E, R>
    (d: Slot, a: Slot, b: Slot, c: Slot, e: Slot; f: Fn(A, B, C, E) -> R) |regs, mask| {
        let a: [A; LANES] = regs.get(a);
        let b: [B; LANES] = regs.get(b);
        let c: [C; LANES] = regs.get(c);
        let e: [E; LANES] = regs.get(e);
        let out: [R; LANES] = std::array::from_fn(|i| f(a[i], b[i], c[i], e[i]));
        regs.put(d, mask, &out);
    }
}

lane_loop! {
    /// `d, carry_out = f(a, b, c, carry_in)` in every lane; carries are predicates.
    carry3 / carry3_body / carry3_avx2 <A>
    (d: Slot, a: Slot, b: Slot, c: Slot, cc: (Pred, Option<Pred>); f: Fn(A, A, A, bool) -> (A, bool)) |regs, mask| {
        let a: [A; LANES] = regs.get(a);
        let b: [A; LANES] = regs.get(b);
        let c: [A; LANES] = regs.get(c);
        let carry = regs.preds[cc.0 as usize];
        let both: [(A, bool); LANES] = std::array::from_fn(|i| f(a[i], b[i], c[i], carry >> i & 1 != 0));
        let out: [A; LANES] = std::array::from_fn(|i| both[i].0);
        regs.put(d, mask, &out);
        if let Some(out) = cc.1 {
            let bits = (0..LANES).fold(0, |m, i| m | u32::from(both[i].1) << i);
            regs.put_pred(out, mask, bits);
        }
    }
}

/// How a comparison meets the optional third operand, and where the results go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PredOut {
    /// The result.
    pub(crate) p: Option<Pred>,
    /// The complemented result.
    pub(crate) q: Option<Pred>,
    /// `.and`, `.or`, `.xor` with this predicate.
    pub(crate) combine: Option<(BoolOp, (Pred, bool))>,
}

/// Boolean operators of `setp`, `set`, `lop3`, `vote`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub(crate) enum BoolOp {
    And,
    Or,
    Xor,
}

impl BoolOp {
    pub(crate) fn apply(self, a: u32, b: u32) -> u32 {
        match self {
            BoolOp::And => a & b,
            BoolOp::Or => a | b,
            BoolOp::Xor => a ^ b,
        }
    }
}

impl PredOut {
    /// Writes the comparison mask `t`: `p = t op c`, `q = !t op c`.
    pub(crate) fn write(self, regs: &mut Regs, mask: u32, t: u32) {
        let (mut yes, mut no) = (t, !t);
        if let Some((op, c)) = self.combine {
            let c = regs.pred(c);
            (yes, no) = (op.apply(t, c), op.apply(!t, c));
        }
        if let Some(p) = self.p {
            regs.put_pred(p, mask, yes);
        }
        if let Some(q) = self.q {
            regs.put_pred(q, mask, no);
        }
    }
}

lane_loop! {
    /// Predicate of `f(a, b)` in every lane.
    test2 / test2_body / test2_avx2 <A, B> (a: Slot, b: Slot, out: PredOut; f: Fn(A, B) -> bool) |regs, mask| {
        let a: [A; LANES] = regs.get(a);
        let b: [B; LANES] = regs.get(b);
        let hit: [u32; LANES] = std::array::from_fn(|i| u32::from(f(a[i], b[i])) << i);
        out.write(regs, mask, hit.iter().fold(0, |m, h| m | h));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inactive_lanes_keep_their_value() {
        let mut regs = Regs { rows: vec![Row([7; LANES]); 4], ..Regs::default() };
        for isa in [Isa::Baseline, Isa::detect()] {
            map2::<u32, u32, u64, _>(isa, 2, 0, 1, |a, b| u64::from(a) << 32 | u64::from(b))(
                &mut regs, 0b101,
            );
            assert_eq!(regs.u64_at(2, 0), 7 << 32 | 7);
            assert_eq!(regs.u64_at(2, 1), 7 << 32 | 7);
            regs.rows[1] = Row([9; LANES]);
            map1::<u32, u32, _>(isa, 0, 1, |a| a + 1)(&mut regs, 1 << 31);
            assert_eq!((regs.u32_at(0, 31), regs.u32_at(0, 30)), (10, 7));
            regs = Regs { rows: vec![Row([7; LANES]); 4], ..Regs::default() };
        }
    }
}
