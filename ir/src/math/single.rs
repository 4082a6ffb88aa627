//! One lane: the functions on a single f32, in Rust.

use super::Lanes;

/// The [`Lanes`] of a single f32.
#[derive(Clone, Copy, Debug, Default)]
pub struct Single;

impl Lanes for Single {
    type Real = f32;
    type Int = i32;
    type Mask = bool;

    fn real(&self, value: f32) -> f32 {
        value
    }
    fn int(&self, value: i32) -> i32 {
        value
    }
    fn add(&self, a: f32, b: f32) -> f32 {
        a + b
    }
    fn sub(&self, a: f32, b: f32) -> f32 {
        a - b
    }
    fn mul(&self, a: f32, b: f32) -> f32 {
        a * b
    }
    fn div(&self, a: f32, b: f32) -> f32 {
        a / b
    }
    fn fma(&self, a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
    fn sqrt(&self, a: f32) -> f32 {
        a.sqrt()
    }
    fn floor(&self, a: f32) -> f32 {
        a.floor()
    }
    fn round(&self, a: f32) -> f32 {
        a.round_ties_even()
    }
    fn bits(&self, a: f32) -> i32 {
        a.to_bits() as i32
    }
    fn float(&self, a: i32) -> f32 {
        f32::from_bits(a as u32)
    }
    fn to_real(&self, a: i32) -> f32 {
        a as f32
    }
    fn int_add(&self, a: i32, b: i32) -> i32 {
        a.wrapping_add(b)
    }
    fn int_sub(&self, a: i32, b: i32) -> i32 {
        a.wrapping_sub(b)
    }
    fn int_and(&self, a: i32, b: i32) -> i32 {
        a & b
    }
    fn int_xor(&self, a: i32, b: i32) -> i32 {
        a ^ b
    }
    fn shl(&self, a: i32, by: u32) -> i32 {
        a << by
    }
    fn shr(&self, a: i32, by: u32) -> i32 {
        a >> by
    }
    fn lt(&self, a: f32, b: f32) -> bool {
        a < b
    }
    fn eq(&self, a: f32, b: f32) -> bool {
        a == b
    }
    fn int_eq(&self, a: i32, b: i32) -> bool {
        a == b
    }
    fn both(&self, a: bool, b: bool) -> bool {
        a && b
    }
    fn either(&self, a: bool, b: bool) -> bool {
        a || b
    }
    fn not(&self, a: bool) -> bool {
        !a
    }
    fn select(&self, mask: bool, then: f32, otherwise: f32) -> f32 {
        if mask { then } else { otherwise }
    }
}
