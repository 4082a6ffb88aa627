//! Loops of block programs.
//!
//! The innermost loop is software-pipelined over the turns that count (`course`). With `s` stages, turn `i` waits until
//! its panels have come, passes one barrier, sends for the panels of the turn that is `s − 1` ahead, and computes.

use gigac_ir::kernel::{Carry, Stmt, TileId, VarId};
use inkwell::values::{IntValue, PhiValue};

use super::super::lower::Refusal;
use super::Block;
use super::program::Dot;
use crate::llvm::emit::{Elem, Value};

impl<'e, 'c> Block<'_, 'e, 'c> {
    /// A loop around others.
    pub(super) fn plain(
        &mut self,
        var: VarId,
        carried: &[Carry],
        body: &'e [Stmt],
    ) -> Result<(), Refusal> {
        if !self.program.products(body).is_empty() {
            return Err("it has products beside an inner loop of products".to_owned());
        }
        let gpu = self.lowerer.gpu;
        let declared = self.program.kernel.var(var);
        let (tile, end) = (declared.tile, declared.tiles() * declared.tile);
        let entering = self.entering(carried)?;
        let outside = self.lowerer.values.clone();
        // From the second turn on, the inner loop finds its stages used.
        self.used = true;
        let (before, head, exit) = (gpu.here(), gpu.block("loop"), gpu.block("done"));
        gpu.jump(head);
        gpu.enter(head);
        let first = gpu.phi(gpu.elem_type(Elem::I32));
        let phis: Vec<_> = entering.iter().map(|v| gpu.phi(v.get_type())).collect();
        let at = first.as_basic_value().into_int_value();
        let leaving = self.turn((var, at), carried, &phis, body)?;
        let next = gpu.plus_constant(at, tile as i64);
        let more = gpu.below(next, gpu.i32(end));
        let last = gpu.here();
        gpu.branch(more, head, exit);
        first.add_incoming(&[(&gpu.i32(0), before), (&next, last)]);
        for ((phi, enters), leaves) in phis.iter().zip(&entering).zip(&leaving) {
            phi.add_incoming(&[(enters, before), (leaves, last)]);
        }
        gpu.enter(exit);
        self.lowerer.values = outside;
        self.lowerer.distribute(carried.iter().map(|c| c.result), &leaving);
        Ok(())
    }

    /// The innermost loop.
    pub(super) fn pipelined(
        &mut self,
        var: VarId,
        carried: &[Carry],
        body: &'e [Stmt],
    ) -> Result<(), Refusal> {
        let gpu = self.lowerer.gpu;
        let panels = self.fetched(body);
        let entering = self.entering(carried)?;
        let outside = self.lowerer.values.clone();
        if self.used {
            // Another loop's last turn may still be read.
            gpu.barrier();
        }
        self.used = true;
        let ahead = self.stages - 1;
        let (course, queue) = self.course(var, body);
        for i in 0..ahead {
            let at = course.later(gpu, &queue, i);
            gpu.when(course.exists(gpu, at), || {
                self.send(&panels, (var, at), gpu.i32(i * self.stage))
            })?;
            gpu.commit_copies();
        }
        let (before, head, exit) = (gpu.here(), gpu.block("loop"), gpu.block("done"));
        gpu.branch(course.exists(gpu, queue[0]), head, exit);
        gpu.enter(head);
        let int = gpu.elem_type(Elem::I32);
        let positions: Vec<_> = queue.iter().map(|_| gpu.phi(int)).collect();
        let slots = [(); 2].map(|()| gpu.phi(int));
        let phis: Vec<_> = entering.iter().map(|v| gpu.phi(v.get_type())).collect();
        let number = |phi: &PhiValue<'c>| phi.as_basic_value().into_int_value();
        gpu.wait_copies(ahead - 1);
        gpu.barrier();
        let [read, write] = [0, 1].map(|i| number(&slots[i]));
        let here: Vec<_> = positions.iter().map(number).collect();
        let next = self.furthest(&course, &here);
        gpu.when(course.exists(gpu, next), || self.send(&panels, (var, next), write))?;
        gpu.commit_copies();
        self.slot = Some(read);
        self.stage_vectors(&self.vectors_along(var), read);
        let leaving = self.turn((var, here[0]), carried, &phis, body)?;
        self.slot = None;
        let queued = course.following(gpu, &here, next);
        // What was read in this turn is written in the next one.
        let following = [if self.stages == 2 { write } else { self.next_slot(read) }, read];
        let more = course.exists(gpu, queued[0]);
        let last = gpu.here();
        gpu.branch(more, head, exit);
        for ((phi, enters), leaves) in positions.iter().zip(&queue).zip(&queued) {
            phi.add_incoming(&[(enters, before), (leaves, last)]);
        }
        for (i, leaves) in following.iter().enumerate() {
            let enters = gpu.i32(i as u64 * ahead * self.stage);
            slots[i].add_incoming(&[(&enters, before), (leaves, last)]);
        }
        for ((phi, enters), leaves) in phis.iter().zip(&entering).zip(&leaving) {
            phi.add_incoming(&[(enters, before), (leaves, last)]);
        }
        gpu.enter(exit);
        let mut results = Vec::new();
        for (enters, leaves) in entering.iter().zip(&leaving) {
            let phi = gpu.phi(enters.get_type());
            phi.add_incoming(&[(enters, before), (leaves, last)]);
            results.push(phi.as_basic_value());
        }
        self.lowerer.values = outside;
        self.lowerer.distribute(carried.iter().map(|c| c.result), &results);
        for carry in carried {
            if let Some(part) = self.program.partial(carry) {
                self.join_partial(carry, part);
            }
        }
        Ok(())
    }

    fn next_slot(&self, slot: IntValue<'c>) -> IntValue<'c> {
        let gpu = self.lowerer.gpu;
        let next = gpu.plus_constant(slot, self.stage as i64);
        let inside = gpu.below(next, gpu.i32(self.stages * self.stage));
        gpu.select(inside, next.into(), gpu.i32(0).into()).into_int_value()
    }

    /// Operands that every turn fetches.
    fn fetched(&self, body: &[Stmt]) -> Vec<TileId> {
        let operands = |dot: Dot| [dot.lhs, dot.rhs];
        let mut all: Vec<TileId> =
            self.program.products(body).into_iter().flat_map(operands).collect();
        all.retain(|v| self.panels.contains_key(v) && self.program.turns(*v));
        all.sort_unstable();
        all.dedup();
        all
    }

    fn send(
        &self,
        panels: &[TileId],
        at: (VarId, IntValue<'c>),
        slot: IntValue<'c>,
    ) -> Result<(), Refusal> {
        panels.iter().try_for_each(|value| self.fill(*value, at, slot))?;
        self.send_vectors(&self.vectors_along(at.0), at, slot)
    }

    /// The registers of carried values before the first turn.
    fn entering(&mut self, carried: &[Carry]) -> Result<Vec<Value<'c>>, Refusal> {
        let mut entering = Vec::new();
        for carry in carried {
            let (init, own) = (self.lowerer.value(carry.init)?, self.lowerer.shape(carry.init));
            let shape = self.lowerer.shape(carry.arg);
            entering.extend(shape.all().map(|at| init[own.index(&shape, &at)]));
        }
        Ok(entering)
    }

    /// One turn; gives what is carried on. Positions that do not exist may be carried along: nothing
    /// that exists is computed from them.
    fn turn(
        &mut self,
        (var, at): (VarId, IntValue<'c>),
        carried: &[Carry],
        phis: &[PhiValue<'c>],
        body: &'e [Stmt],
    ) -> Result<Vec<Value<'c>>, Refusal> {
        self.lowerer.firsts[var.0 as usize] = Some(at);
        let values: Vec<Value<'c>> = phis.iter().map(|phi| phi.as_basic_value()).collect();
        self.lowerer.distribute(carried.iter().map(|c| c.arg), &values);
        self.block(body, false)?;
        for carry in carried {
            if let Some(part) = self.program.partial(carry) {
                self.add_partial(carry, part)?;
            }
        }
        let mut leaving = Vec::new();
        for carry in carried {
            let (next, own) = (self.lowerer.value(carry.next)?, self.lowerer.shape(carry.next));
            let shape = self.lowerer.shape(carry.arg);
            leaving.extend(shape.all().map(|at| next[own.index(&shape, &at)]));
        }
        self.lowerer.firsts[var.0 as usize] = None;
        Ok(leaving)
    }
}
