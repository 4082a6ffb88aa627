//! Loops of block programs.
//!
//! The innermost loop is software-pipelined over the turns that count. With `s` stages, the positions of
//! the next `s − 1` such turns are carried: turn `i` waits until its panels have come, passes one
//! barrier, looks for the turn that is `s − 1` ahead, sends for its panels, and computes.

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
        let declared = self.program.kernel.var(var);
        let (tile, end) = (declared.tile as i64, declared.tiles() * declared.tile);
        let inside = |at: IntValue<'c>| gpu.below(at, gpu.i32(end));
        let mask = body.iter().find_map(|s| match s {
            Stmt::When(mask) => Some(*mask),
            _ => None,
        });
        let panels = self.fetched(body);
        let entering = self.entering(carried)?;
        let outside = self.lowerer.values.clone();
        if self.used {
            // Another loop's last turn may still be read.
            gpu.barrier();
        }
        self.used = true;
        let ahead = self.stages - 1;
        let mut queue = vec![self.seek(var, mask, gpu.i32(0), end)];
        for i in 0..ahead {
            if i > 0 {
                let last = queue[queue.len() - 1];
                queue.push(self.seek(var, mask, gpu.plus_constant(last, tile), end));
            }
            let at = queue[i as usize];
            gpu.when(inside(at), || self.send(&panels, (var, at), gpu.i32(i * self.stage)))?;
            gpu.commit_copies();
        }
        let (before, head, exit) = (gpu.here(), gpu.block("loop"), gpu.block("done"));
        gpu.branch(inside(queue[0]), head, exit);
        gpu.enter(head);
        let int = gpu.elem_type(Elem::I32);
        let positions: Vec<_> = queue.iter().map(|_| gpu.phi(int)).collect();
        let slots = [(); 2].map(|()| gpu.phi(int));
        let phis: Vec<_> = entering.iter().map(|v| gpu.phi(v.get_type())).collect();
        let number = |phi: &PhiValue<'c>| phi.as_basic_value().into_int_value();
        gpu.wait_copies(ahead - 1);
        gpu.barrier();
        let [read, write] = [0, 1].map(|i| number(&slots[i]));
        let furthest = number(&positions[positions.len() - 1]);
        let next = self.seek(var, mask, gpu.plus_constant(furthest, tile), end);
        gpu.when(inside(next), || self.send(&panels, (var, next), write))?;
        gpu.commit_copies();
        self.slot = Some(read);
        let leaving = self.turn((var, number(&positions[0])), carried, &phis, body)?;
        self.slot = None;
        let mut queued: Vec<_> = positions[1..].iter().map(number).collect();
        queued.push(next);
        let following = [read, write].map(|slot| self.next_slot(slot));
        let more = inside(queued[0]);
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
        panels.iter().try_for_each(|value| self.fill(*value, at, slot))
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
        let mut leaving = Vec::new();
        for carry in carried {
            let (next, own) = (self.lowerer.value(carry.next)?, self.lowerer.shape(carry.next));
            let shape = self.lowerer.shape(carry.arg);
            leaving.extend(shape.all().map(|at| next[own.index(&shape, &at)]));
        }
        self.lowerer.firsts[var.0 as usize] = None;
        Ok(leaving)
    }

    /// The first turn from a position on in which a mask may hold.
    fn seek(
        &mut self,
        var: VarId,
        mask: Option<TileId>,
        from: IntValue<'c>,
        end: u64,
    ) -> IntValue<'c> {
        let gpu = self.lowerer.gpu;
        let Some(mask) = mask else { return from };
        let tile = self.program.kernel.var(var).tile as i64;
        let (before, head, step, done) =
            (gpu.here(), gpu.block("seek"), gpu.block("skip"), gpu.block("found"));
        gpu.jump(head);
        gpu.enter(head);
        let phi = gpu.phi(gpu.elem_type(Elem::I32));
        let at = phi.as_basic_value().into_int_value();
        let outer = self.lowerer.firsts[var.0 as usize].replace(at);
        let somewhere = self.lowerer.holds(mask).somewhere;
        self.lowerer.firsts[var.0 as usize] = outer;
        let hidden = gpu.not(somewhere.unwrap_or(gpu.bool(true, 1)));
        let on = gpu.both(gpu.below(at, gpu.i32(end)), hidden);
        gpu.branch(on, step, done);
        gpu.enter(step);
        let next = gpu.plus_constant(at, tile);
        gpu.jump(head);
        phi.add_incoming(&[(&from, before), (&next, step)]);
        gpu.enter(done);
        at
    }
}
