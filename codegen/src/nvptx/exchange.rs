//! Which buffers threads of a block pass elements to one another through.
//!
//! A buffer that a kernel both writes and reads needs a barrier in front of its accesses, unless
//! every thread reads only what it has written itself. That is so when all accesses spread over the
//! threads in the same way, by whole variables whose reach is below every other stride: then the
//! thread of an element follows from its offset. Stores that add are made by one thread for each
//! element, so without loads it is enough that they agree.

use gigac_ir::kernel::{Access, BufferId, Expr, Factor, Kernel, Offset, Stmt, Term};

use super::layout::{Layout, Spread};

/// By buffer: whether its accesses need a barrier in front.
pub(super) struct Exchange(Vec<bool>);

impl Exchange {
    pub(super) fn of(kernel: &Kernel, layout: &Layout<'_>, threads: u64) -> Self {
        let exchanged = |buffer: u32| {
            let access = kernel.buffers[buffer as usize].access;
            let shared = matches!(access, Access::ReadWrite | Access::Local);
            shared && !is_private(kernel, layout, threads, BufferId(buffer))
        };
        Self((0..kernel.buffers.len() as u32).map(exchanged).collect())
    }

    pub(super) fn needs_barrier(&self, buffer: BufferId) -> bool {
        self.0[buffer.0 as usize]
    }
}

/// An access as the threads see it.
#[derive(PartialEq)]
struct Signature {
    /// Strides, extents, tiles and spreads of variables that lie over threads.
    spread: Vec<(i64, u64, u64, Spread)>,
    /// How far these variables reach.
    reach: u64,
}

fn is_private(kernel: &Kernel, layout: &Layout<'_>, threads: u64, buffer: BufferId) -> bool {
    let (mut offsets, mut loads) = (Vec::new(), false);
    collect(&kernel.body, buffer, &mut offsets, &mut loads);
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
                } else if divisor == 1 && modulus == 0 && *coefficient > 0 {
                    reach += coefficient.unsigned_abs() * (declared.extent - 1);
                    spread.push((*coefficient, declared.extent, declared.tile, of.clone()));
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
    buffer: BufferId,
    offsets: &mut Vec<&'k Offset>,
    loads: &mut bool,
) {
    for stmt in body {
        match stmt {
            Stmt::Let(_, Expr::Load { buffer: b, offset, .. }) if *b == buffer => {
                offsets.push(offset);
                *loads = true;
            }
            Stmt::Store { buffer: b, offset, .. } if *b == buffer => offsets.push(offset),
            Stmt::Loop { body, .. } => collect(body, buffer, offsets, loads),
            Stmt::Let(..) | Stmt::Store { .. } | Stmt::When(_) => {}
        }
    }
}
