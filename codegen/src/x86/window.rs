//! Windows: wide tiles a few registers at a time.
//!
//! A tile of 64 lanes is four registers of AVX-512 and eight of AVX2; with a handful of values at
//! work, that is more than there are. So statements that treat every lane by itself are emitted
//! window by window: all of them for the first lanes, then for the next. Their meaning does not
//! change, as lanes do not see each other — except through memory, so a run of statements
//! ends before an access to a buffer that the run accesses elsewhere, if either is a store.

use gigac_ir::kernel::{BufferId, Expr, Offset, Stmt, VarId};

use super::region::Region;
use super::tile::Span;
use crate::CodegenError;

/// Registers of one value in a window: two dependency chains side by side hide some latency and
/// leave registers for constants.
const REGISTERS: u64 = 2;

impl Region<'_, '_> {
    /// The windows of so many lanes.
    pub(super) fn windows(&self, lanes: u64) -> Vec<Span> {
        let width = REGISTERS * self.emit.target.lanes();
        (0..lanes).step_by(width as usize).map(|from| (from, width.min(lanes - from))).collect()
    }

    /// Emits statements, in windows where that is possible and worth it.
    pub(super) fn block(&mut self, mut body: &[Stmt]) -> Result<(), CodegenError> {
        while let Some((first, after)) = body.split_first() {
            match self.run(body) {
                Some((vector, run)) if run.len() > 1 => {
                    self.windowed(vector, run)?;
                    body = &body[run.len()..];
                }
                _ => {
                    self.stmt(first)?;
                    body = after;
                }
            }
        }
        Ok(())
    }

    /// Leading statements that can be emitted in windows of a variable, unless one window holds all.
    fn run<'k>(&self, body: &'k [Stmt]) -> Option<(VarId, &'k [Stmt])> {
        let vector = body.iter().find_map(|stmt| self.vector_of(stmt))?;
        if self.windows(self.lanes(vector)).len() < 2 {
            return None;
        }
        let mut run = Run { vectors: self.vectors, accesses: Vec::new() };
        let other = |stmt: &Stmt| self.vector_of(stmt).is_some_and(|var| var != vector);
        let length = body.iter().take_while(|stmt| !other(stmt) && run.admits(stmt)).count();
        Some((vector, &body[..length]))
    }

    fn windowed(&mut self, vector: VarId, run: &[Stmt]) -> Result<(), CodegenError> {
        for window in self.windows(self.lanes(vector)) {
            self.window = Some((vector, window));
            for stmt in run {
                // What is the same for all lanes is done once.
                if window.0 == 0 || self.vector_of(stmt) == Some(vector) {
                    self.stmt(stmt)?;
                }
            }
        }
        self.window = None;
        Ok(())
    }

    /// The vector variable that a statement's lanes are those of.
    fn vector_of(&self, stmt: &Stmt) -> Option<VarId> {
        let ty = match stmt {
            Stmt::Let(value, _) => self.kernel.ty(*value).clone(),
            Stmt::Store { offset, value, mask, .. } => self.stored_type(offset, *value, *mask),
            Stmt::When(_) | Stmt::Loop { .. } => return None,
        };
        ty.vars.into_iter().find(|var| self.vectors.contains(var))
    }
}

/// Statements that treat each lane of a vector variable by itself.
struct Run<'k> {
    vectors: &'k [VarId],
    accesses: Vec<(BufferId, &'k Offset, bool)>,
}

impl<'k> Run<'k> {
    fn admits(&mut self, stmt: &'k Stmt) -> bool {
        match stmt {
            Stmt::Let(_, Expr::Load { buffer, offset, .. }) => self.access(*buffer, offset, false),
            Stmt::Let(_, Expr::Reduce(_, _, var)) => !self.vectors.contains(var),
            Stmt::Let(_, Expr::Dot(..)) | Stmt::Loop { .. } => false,
            Stmt::Let(..) | Stmt::When(_) => true,
            Stmt::Store { buffer, offset, .. } => self.access(*buffer, offset, true),
        }
    }

    /// Notes an access, unless lanes may meet in the buffer.
    fn access(&mut self, buffer: BufferId, offset: &'k Offset, stores: bool) -> bool {
        let apart = |(other, at, stored): &(BufferId, &Offset, bool)| {
            *other != buffer || *at == offset || !(stores || *stored)
        };
        let admitted = self.accesses.iter().all(apart);
        self.accesses.push((buffer, offset, stores));
        admitted
    }
}
