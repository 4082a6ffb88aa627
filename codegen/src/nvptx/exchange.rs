//! Which buffers threads of a block pass elements to one another through.
//!
//! A buffer that a kernel both writes and reads needs a barrier in front of its accesses, unless
//! every thread reads only what it has written itself. That is so when all accesses spread over the
//! threads in the same way, by whole variables whose reach is below every other stride: then the
//! thread of an element follows from its offset. Stores that add are made by one thread for each
//! element, so without loads it is enough that they agree.
//!
//! A result that may lie over an operand is the same buffer as that, in some launch. All that is read
//! of an element is read before it is written, so there the stores alone need the barrier.

use gigac_ir::kernel::{Access, BufferId, Expr, Factor, Kernel, Offset, Stmt, Term};

use super::layout::{Layout, Spread};

/// By buffer: what needs a barrier in front.
pub(super) struct Exchange(Vec<Barriers>);

#[derive(Clone, Copy)]
struct Barriers {
    loads: bool,
    stores: bool,
    /// Whether its memory is written to.
    changes: bool,
}

impl Exchange {
    pub(super) fn of(kernel: &Kernel, layout: &Layout<'_>, threads: u64) -> Self {
        let private = |buffers: &[BufferId]| is_private(kernel, layout, threads, buffers);
        let all = || (0..kernel.buffers.len() as u32).map(BufferId);
        let barriers = |buffer: BufferId| {
            let access = kernel.buffers[buffer.0 as usize].access;
            let shared = matches!(access, Access::ReadWrite | Access::Local);
            let loads = shared && !private(&[buffer]);
            let over = |old: &BufferId| may_be_one(kernel, buffer, *old);
            let stores = loads || all().filter(over).any(|old| !private(&[old, buffer]));
            let changes =
                access != Access::Read || all().any(|new| may_be_one(kernel, new, buffer));
            Barriers { loads, stores, changes }
        };
        Self(all().map(barriers).collect())
    }

    /// Whether loads of a buffer need a barrier in front.
    pub(super) fn before_loads(&self, buffer: BufferId) -> bool {
        self.0[buffer.0 as usize].loads
    }

    /// Whether stores to a buffer need a barrier in front.
    pub(super) fn before_stores(&self, buffer: BufferId) -> bool {
        self.0[buffer.0 as usize].stores
    }

    /// Whether the kernel writes to the memory of a buffer, in some launch.
    pub(super) fn changes(&self, buffer: BufferId) -> bool {
        self.0[buffer.0 as usize].changes
    }
}

/// Whether some launch may have the result `new` over the operand `old`.
fn may_be_one(kernel: &Kernel, new: BufferId, old: BufferId) -> bool {
    let [to, from] = [new, old].map(|b| &kernel.buffers[b.0 as usize]);
    let arguments =
        to.access == Access::Write && matches!(from.access, Access::Read | Access::Write);
    new != old && arguments && to.elements == from.elements && kernel.may_lie_over(new, old)
}

/// An access as the threads see it.
#[derive(PartialEq)]
struct Signature {
    /// Strides, extents, tiles and spreads of variables that lie over threads.
    spread: Vec<(i64, u64, u64, Spread)>,
    /// How far these variables reach.
    reach: u64,
}

fn is_private(kernel: &Kernel, layout: &Layout<'_>, threads: u64, buffers: &[BufferId]) -> bool {
    let (mut offsets, mut loads) = (Vec::new(), false);
    collect(&kernel.body, buffers, &mut offsets, &mut loads);
    let Some((first, _)) = offsets.split_first() else { return true };
    let read = |offset: &&Offset| signature(kernel, layout, offset);
    let Some(expected) = read(first) else { return false };
    let mask: u64 = expected.spread.iter().map(|(.., spread)| spread.mask()).sum();
    let covered = !loads || mask == threads - 1;
    covered
        && offsets.iter().all(|offset| {
            let apart = (offset.constant - first.constant).unsigned_abs();
            let separate = is_multiple(apart, expected.reach + 1);
            read(offset).is_some_and(|s| s == expected) && separate
        })
}

/// Whether a stride steps over whole blocks of so many elements.
fn is_multiple(stride: u64, block: u64) -> bool {
    block != 0 && stride.is_multiple_of(block)
}

/// The signature of an offset; none when other strides may lead into another thread's elements.
fn signature(kernel: &Kernel, layout: &Layout<'_>, offset: &Offset) -> Option<Signature> {
    let mut spread = Vec::new();
    let (mut reach, mut others) = (0, Vec::new());
    for Term { coefficient, factor } in &offset.terms {
        match *factor {
            Factor::Digit { var, divisor, modulus } => {
                let (of, declared) = (layout.spread(var), kernel.var(var));
                if of.bits.is_empty() {
                    others.push(coefficient.unsigned_abs());
                } else if divisor == 1
                    && (modulus == 0 || modulus == declared.tile)
                    && *coefficient > 0
                {
                    // The whole variable, or the place in its tile.
                    let extent = if modulus == 0 { declared.extent } else { modulus };
                    reach += coefficient.unsigned_abs() * (extent - 1);
                    spread.push((*coefficient, extent, declared.tile, of.clone()));
                } else {
                    return None;
                }
            }
            Factor::Scalar(_) => others.push(coefficient.unsigned_abs()),
            Factor::Tile(tile) => {
                let uniform = |v: &_| layout.spread(*v).bits.is_empty();
                if !kernel.ty(tile).vars.iter().all(uniform) {
                    return None;
                }
                others.push(coefficient.unsigned_abs());
            }
        }
    }
    spread.sort_by_key(|(coefficient, ..)| *coefficient);
    // Whole variables tell positions apart when each steps over all that the smaller ones reach.
    let mut below = 0;
    let nested = spread.iter().all(|(coefficient, extent, ..)| {
        let steps = coefficient.unsigned_abs();
        let over = steps > below;
        below += steps * (extent - 1);
        over
    });
    let apart = others.iter().all(|stride| is_multiple(*stride, reach + 1));
    (nested && apart).then_some(Signature { spread, reach })
}

fn collect<'k>(
    body: &'k [Stmt],
    buffers: &[BufferId],
    offsets: &mut Vec<&'k Offset>,
    loads: &mut bool,
) {
    for stmt in body {
        match stmt {
            Stmt::Let(_, Expr::Load { buffer: b, offset, .. }) if buffers.contains(b) => {
                offsets.push(offset);
                *loads = true;
            }
            Stmt::Store { buffer: b, offset, .. } if buffers.contains(b) => offsets.push(offset),
            Stmt::Loop { body, .. } => collect(body, buffers, offsets, loads),
            Stmt::Let(..) | Stmt::Store { .. } | Stmt::When(_) => {}
        }
    }
}
