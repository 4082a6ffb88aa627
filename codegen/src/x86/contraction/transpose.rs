//! Transposes a square of registers: 8 × 8 or 16 × 16 f32.
//!
//! Two rounds of unpacking transpose 4 × 4 squares inside the 128-bit parts; one round (AVX2) or
//! two (AVX-512) exchange the parts. Every shuffle is one instruction.

use inkwell::values::VectorValue;

use super::emit::Emit;

/// Registers of 128 bits hold this many f32.
const PART: u32 = 4;

/// The transposed square, as many vectors as lanes.
pub(in crate::x86) fn transpose<'c>(
    emit: &Emit<'c, '_>,
    rows: Vec<VectorValue<'c>>,
) -> Vec<VectorValue<'c>> {
    let parts = emit.lanes / PART;
    let within = |picks: [u32; 4]| {
        let lane = move |part: u32, pick: u32| match pick {
            0..PART => part * PART + pick,
            _ => parts * PART + part * PART + pick - PART,
        };
        (0..parts).flat_map(move |part| picks.map(|pick| lane(part, pick)))
    };
    let [low, high] = [[0, 4, 1, 5], [2, 6, 3, 7]];
    let [low_pair, high_pair] = [[0, 1, 4, 5], [2, 3, 6, 7]];
    let mut squares = Vec::new();
    for quad in rows.chunks_exact(4) {
        let pair = |a: usize, b, picks| emit.shuffle(quad[a], quad[b], within(picks));
        let [ab0, ab1] = [pair(0, 1, low), pair(0, 1, high)];
        let [cd0, cd1] = [pair(2, 3, low), pair(2, 3, high)];
        let join = |a, b, picks| emit.shuffle(a, b, within(picks));
        squares.push([
            join(ab0, cd0, low_pair),
            join(ab0, cd0, high_pair),
            join(ab1, cd1, low_pair),
            join(ab1, cd1, high_pair),
        ]);
    }
    exchange(emit, &squares)
}

/// `squares[i][j]` holds column `4·part + j` of rows `4i…`, for every part; gathers the parts of
/// each column.
fn exchange<'c>(emit: &Emit<'c, '_>, squares: &[[VectorValue<'c>; 4]]) -> Vec<VectorValue<'c>> {
    let pick = |a, b, parts: &[u32]| {
        let lanes = parts.iter().flat_map(|part| (0..PART).map(move |lane| part * PART + lane));
        emit.shuffle(a, b, lanes)
    };
    let column = |j: usize| -> Vec<VectorValue<'c>> {
        let rows: Vec<_> = squares.iter().map(|square| square[j]).collect();
        if let [a, b] = rows[..] {
            return vec![pick(a, b, &[0, 2]), pick(a, b, &[1, 3])];
        }
        let [a, b, c, d] = rows[..] else { panic!("a register has two or four parts") };
        let [even, odd] = [[0, 2, 4, 6], [1, 3, 5, 7]];
        let [ab, cd] = [pick(a, b, &even), pick(c, d, &even)];
        let [ef, gh] = [pick(a, b, &odd), pick(c, d, &odd)];
        vec![pick(ab, cd, &even), pick(ef, gh, &even), pick(ab, cd, &odd), pick(ef, gh, &odd)]
    };
    let columns: Vec<_> = (0..4).map(column).collect();
    (0..squares.len()).flat_map(|part| columns.iter().map(move |c| c[part])).collect()
}
