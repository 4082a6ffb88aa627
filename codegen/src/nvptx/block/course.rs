//! Which turns of a loop count: those in which its mask may hold.
//!
//! Where these are known to follow one another, first and last are found in front of the loop, which then steps from one
//! to the next. Else positions of turns ahead are carried, and every turn looks for one more.

use gigac_ir::kernel::{Stmt, TileId, VarId};
use inkwell::values::IntValue;

use super::super::gpu::Gpu;
use super::Block;
use crate::llvm::emit::{Elem, Value};

/// The turns of a loop that count.
pub(super) struct Course<'c> {
    var: VarId,
    tile: u64,
    /// The mask, where turns have to be looked for one by one.
    scanned: Option<TileId>,
    /// Where positions end.
    end: IntValue<'c>,
}

impl<'c> Course<'c> {
    pub(super) fn exists(&self, gpu: &Gpu<'c>, at: IntValue<'c>) -> Value<'c> {
        gpu.below(at, self.end)
    }

    /// The turn that is so many behind the first one of a queue.
    pub(super) fn later(&self, gpu: &Gpu<'c>, queue: &[IntValue<'c>], turns: u64) -> IntValue<'c> {
        match self.scanned {
            Some(_) => queue[turns as usize],
            None => gpu.plus_constant(queue[0], (turns * self.tile) as i64),
        }
    }

    /// The queue of the next turn; `furthest` has been found in this one.
    pub(super) fn following(
        &self,
        gpu: &Gpu<'c>,
        queue: &[IntValue<'c>],
        furthest: IntValue<'c>,
    ) -> Vec<IntValue<'c>> {
        match self.scanned {
            Some(_) => queue[1..].iter().copied().chain([furthest]).collect(),
            None => vec![gpu.plus_constant(queue[0], self.tile as i64)],
        }
    }
}

impl<'c> Block<'_, '_, 'c> {
    /// The turns of a loop with this body, and the queue in front of the first one.
    pub(super) fn course(&mut self, var: VarId, body: &[Stmt]) -> (Course<'c>, Vec<IntValue<'c>>) {
        let gpu = self.lowerer.gpu;
        let declared = self.program.kernel.var(var);
        let (tile, tiles) = (declared.tile, declared.tiles());
        let mask = body.iter().find_map(|s| match s {
            Stmt::When(mask) => Some(*mask),
            _ => None,
        });
        let end = gpu.i32(tiles * tile);
        let (zero, ahead) = (gpu.i32(0), self.stages - 1);
        let Some(mask) = mask else {
            return (Course { var, tile, scanned: None, end }, vec![zero]);
        };
        let mut course = Course { var, tile, scanned: Some(mask), end };
        let mut queue = vec![self.seek(&course, mask, zero)];
        if self.lowerer.is_convex(mask, var) {
            let end = self.last(&course, mask, queue[0]);
            course = Course { scanned: None, end, ..course };
        } else {
            for i in 1..ahead as usize {
                let after = gpu.plus_constant(queue[i - 1], tile as i64);
                queue.push(self.seek(&course, mask, after));
            }
        }
        (course, queue)
    }

    /// The turn to send for.
    pub(super) fn furthest(&mut self, course: &Course<'c>, queue: &[IntValue<'c>]) -> IntValue<'c> {
        let gpu = self.lowerer.gpu;
        match course.scanned {
            Some(mask) => {
                let last = queue[queue.len() - 1];
                self.seek(course, mask, gpu.plus_constant(last, course.tile as i64))
            }
            None => course.later(gpu, queue, self.stages - 1),
        }
    }

    /// Whether the mask may hold in a turn.
    fn counts(&mut self, course: &Course<'c>, mask: TileId, at: IntValue<'c>) -> Value<'c> {
        let place = course.var.0 as usize;
        let outer = self.lowerer.firsts[place].replace(at);
        let somewhere = self.lowerer.holds(mask).somewhere;
        self.lowerer.firsts[place] = outer;
        somewhere.unwrap_or(self.lowerer.gpu.bool(true, 1))
    }

    /// The first turn from a position on that counts.
    fn seek(&mut self, course: &Course<'c>, mask: TileId, from: IntValue<'c>) -> IntValue<'c> {
        let gpu = self.lowerer.gpu;
        let (before, head, step, done) =
            (gpu.here(), gpu.block("seek"), gpu.block("skip"), gpu.block("found"));
        gpu.jump(head);
        gpu.enter(head);
        let phi = gpu.phi(gpu.elem_type(Elem::I32));
        let at = phi.as_basic_value().into_int_value();
        let hidden = gpu.not(self.counts(course, mask, at));
        gpu.branch(gpu.both(gpu.below(at, course.end), hidden), step, done);
        gpu.enter(step);
        let next = gpu.plus_constant(at, course.tile as i64);
        gpu.jump(head);
        phi.add_incoming(&[(&from, before), (&next, step)]);
        gpu.enter(done);
        at
    }

    /// The end of the turns that count, by bisection: `first` counts, or lies at the end itself.
    fn last(&mut self, course: &Course<'c>, mask: TileId, first: IntValue<'c>) -> IntValue<'c> {
        let gpu = self.lowerer.gpu;
        let turn = |at| gpu.quotient(at, course.tile);
        let [low, high] = [turn(first), turn(course.end)];
        let (before, head, step, done) =
            (gpu.here(), gpu.block("bisect"), gpu.block("half"), gpu.block("end"));
        gpu.jump(head);
        gpu.enter(head);
        let phis = [(); 2].map(|()| gpu.phi(gpu.elem_type(Elem::I32)));
        let [from, to] = [0, 1].map(|i| phis[i].as_basic_value().into_int_value());
        let after = gpu.plus_constant(from, 1);
        gpu.branch(gpu.below(after, to), step, done);
        gpu.enter(step);
        let middle = gpu.shift(gpu.plus(from, to), -1);
        let counts = self.counts(course, mask, gpu.times(middle, course.tile as i64));
        let [upper, lower] = [[middle, to], [from, middle]].map(|x| x.map(Value::from));
        let next = [0, 1].map(|i| gpu.select(counts, upper[i], lower[i]));
        gpu.jump(head);
        for (i, enters) in [low, high].iter().enumerate() {
            phis[i].add_incoming(&[(enters, before), (&next[i], step)]);
        }
        gpu.enter(done);
        gpu.times(to, course.tile as i64)
    }
}
