//! Initial values of all states, and the check that none was left out.

use std::sync::atomic::{AtomicBool, Ordering};

use gigac_ir::graph::{Init, Slot};
use gigac_ir::plan::{Plan, State};

use crate::error::{Error, Result};
use crate::exec::arena::{Arena, POISON};
use crate::exec::pool::Pool;
use crate::weights::random::Stream;

/// Elements that a thread fills at a time.
const CHUNK: u64 = 1 << 14;

/// Elements of a state.
pub fn elements(plan: &Plan, state: &State) -> u64 {
    plan.params[state.param as usize].elements()
}

/// One past the last byte of all states.
pub fn state_end(plan: &Plan) -> u64 {
    plan.states.iter().map(|s| s.offset + 4 * elements(plan, s)).max().unwrap_or(0)
}

/// Marks every state as not written.
pub fn forget(plan: &Plan, arena: &mut Arena) {
    for state in &plan.states {
        arena.slice_mut::<u32>(state.offset, elements(plan, state) as usize).fill(POISON);
    }
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
    for state in plan.states.iter().filter(|s| s.slot != Slot::Weight) {
        arena.slice_mut::<f32>(state.offset, elements(plan, state) as usize).fill(0.0);
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
    let values = arena.slice_mut::<f32>(state.offset, elements(plan, state) as usize);
    let (start, count) = (values.as_mut_ptr() as usize, values.len() as u64);
    pool.run(count.div_ceil(CHUNK), &|first, last, _| {
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
        let words = arena.slice::<u32>(state.offset, elements(plan, state) as usize);
        let missed = AtomicBool::new(false);
        pool.run((words.len() as u64).div_ceil(CHUNK), &|first, last, _| {
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
