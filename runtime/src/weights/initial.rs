//! Initial values of all states, the copies of weights in bf16, and the check that none was left out.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use gigac_ir::graph::{Init, Slot};
use gigac_ir::plan::{Plan, State};
use half::bf16;

use crate::error::{Error, Result};
use crate::exec::arena::{Arena, POISON};
use crate::exec::pool::Pool;
use crate::weights::random::Stream;

/// Elements that a thread fills at a time.
const CHUNK: u64 = 1 << 14;

/// One past the last byte of all states.
pub fn state_end(plan: &Plan) -> u64 {
    plan.states.iter().map(|s| plan.extent(s).end).max().unwrap_or(0)
}

/// Marks every state as not written.
pub fn forget(plan: &Plan, arena: &mut Arena) {
    for state in &plan.states {
        arena.slice_mut::<u32>(state.offset, words(plan, state)).fill(POISON);
    }
}

/// The words that a state takes; what a last half word leaves of its own is nobody's.
fn words(plan: &Plan, state: &State) -> usize {
    let Range { start, end } = plan.extent(state);
    (end - start).div_ceil(4) as usize
}

/// Gives weights their declared distribution.
pub fn weights(plan: &Plan, arena: &mut Arena, pool: &mut Pool, seed: u32) {
    for state in plan.states.iter().filter(|s| s.slot == Slot::Weight) {
        let param = &plan.params[state.param as usize];
        fill(plan, state, arena, pool, Stream::new(seed, &param.name), param.init);
    }
}

/// Sets all moments to zero.
pub fn moments(plan: &Plan, arena: &mut Arena) {
    let moment = |s: &&State| matches!(s.slot, Slot::Moment1 | Slot::Moment2);
    for state in plan.states.iter().filter(moment) {
        arena.slice_mut::<f32>(state.offset, plan.elements(state) as usize).fill(0.0);
    }
}

/// Rounds weights to their copies in bf16, whatever the weights came from: to nearest even, as the
/// step's kernels do.
pub fn round(plan: &Plan, arena: &mut Arena, pool: &mut Pool) {
    let weight = |param: u32| {
        let mut weights = plan.states.iter().filter(|s| s.slot == Slot::Weight);
        weights.find(|s| s.param == param).expect("every parameter has weights").offset
    };
    for state in plan.states.iter().filter(|s| s.slot == Slot::Rounded) {
        let count = plan.elements(state);
        let from = arena.slice::<f32>(weight(state.param), count as usize).as_ptr() as usize;
        let to = arena.slice_mut::<u16>(state.offset, count as usize).as_mut_ptr() as usize;
        pool.run(&[count.div_ceil(CHUNK)], &|_, first, last, _| {
            let (first, last) = ((first * CHUNK) as usize, (last * CHUNK).min(count) as usize);
            // SAFETY: states lie apart, chunks are disjoint parts of them, and the arena stays
            // borrowed during the run.
            let (from, to) = unsafe {
                let from = (from as *const f32).add(first);
                let to = (to as *mut u16).add(first);
                let length = last - first;
                (
                    std::slice::from_raw_parts(from, length),
                    std::slice::from_raw_parts_mut(to, length),
                )
            };
            to.iter_mut().zip(from).for_each(|(to, x)| *to = bf16::from_f32(*x).to_bits());
        });
    }
}

fn fill(
    plan: &Plan,
    state: &State,
    arena: &mut Arena,
    pool: &mut Pool,
    stream: Stream,
    init: Init,
) {
    let values = arena.slice_mut::<f32>(state.offset, plan.elements(state) as usize);
    let (start, count) = (values.as_mut_ptr() as usize, values.len() as u64);
    pool.run(&[count.div_ceil(CHUNK)], &|_, first, last, _| {
        let (first, last) = (first * CHUNK, (last * CHUNK).min(count));
        // SAFETY: chunks are disjoint parts of the slice, which stays borrowed during the run.
        let part = unsafe {
            let start = (start as *mut f32).add(first as usize);
            std::slice::from_raw_parts_mut(start, (last - first) as usize)
        };
        stream.fill(init, first, part);
    });
}

/// Checks that every element of every state has been written since [`forget`].
///
/// # Errors
/// [`Error::Machine`] names the parameter: a fault of gigac.
pub fn check(plan: &Plan, arena: &Arena, pool: &mut Pool) -> Result<()> {
    for state in &plan.states {
        let words = arena.slice::<u32>(state.offset, words(plan, state));
        let missed = AtomicBool::new(false);
        pool.run(&[(words.len() as u64).div_ceil(CHUNK)], &|_, first, last, _| {
            let end = words.len().min((last * CHUNK) as usize);
            if words[(first * CHUNK) as usize..end].contains(&POISON) {
                missed.store(true, Ordering::Relaxed);
            }
        });
        if missed.into_inner() {
            let name = &plan.params[state.param as usize].name;
            let what = format!("{:?} of `{name}` was not written whole before step 0", state.slot);
            return Err(Error::Machine(what));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    /// Of both parameters there are copies; one has an odd number of elements.
    #[test]
    fn copies_are_rounded_weights() {
        let mut plan = testing::program().phases.remove(0).step;
        plan.params[1].axes[0].1 = 255;
        let first = plan.arena_bytes.next_multiple_of(64);
        let second = first + plan.params[0].elements() * 2;
        plan.states.push(State { param: 0, slot: Slot::Rounded, offset: first });
        plan.states.push(State { param: 1, slot: Slot::Rounded, offset: second });
        plan.arena_bytes = second + 512;
        let mut arena = Arena::new(plan.arena_bytes).unwrap();
        let mut pool = Pool::new(2, 0).unwrap();
        forget(&plan, &mut arena);
        weights(&plan, &mut arena, &mut pool, 5);
        moments(&plan, &mut arena);
        arena.slice_mut::<f32>(plan.states[0].offset, 3).copy_from_slice(&[
            1.0 + 1.0 / 256.0,
            -f32::NAN,
            -0.0,
        ]);
        let error = check(&plan, &arena, &mut pool).unwrap_err();
        assert!(error.to_string().contains("Rounded of `table`"), "{error}");
        round(&plan, &mut arena, &mut pool);
        check(&plan, &arena, &mut pool).unwrap();
        for (state, offset) in plan.states.iter().zip([first, second]) {
            let count = plan.elements(state) as usize;
            let weights = arena.slice::<f32>(state.offset, count);
            let copies = arena.slice::<u16>(offset, count);
            let rounded = |(x, y): (&f32, &u16)| bf16::from_f32(*x).to_bits() == *y;
            assert!(weights.iter().zip(copies).all(rounded), "{:?}", state.slot);
        }
        assert_eq!(arena.slice::<u16>(first, 3), [0x3f80, 0xffc0, 0x8000]);
        assert_eq!(arena.slice::<u16>(second + 510, 1), [0x7fda], "the last half word is nobody's");
    }
}
