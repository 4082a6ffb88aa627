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
            let run = self.run_length(body);
            if run > 1 {
                self.windowed(&body[..run])?;
                body = &body[run..];
            } else {
                self.stmt(first)?;
                body = after;
            }
        }
        Ok(())
    }

    /// Number of leading statements that can be emitted in windows; 0 if one window holds all.
    fn run_length(&self, body: &[Stmt]) -> usize {
        let Some(vector) = self.vector else { return 0 };
        if self.windows(self.lanes(vector)).len() < 2 {
            return 0;
        }
        let mut run = Run { vector, accesses: Vec::new() };
        body.iter().take_while(|stmt| run.admits(stmt)).count()
    }

    fn windowed(&mut self, run: &[Stmt]) -> Result<(), CodegenError> {
        let vector = self.vector.expect("only kernels with a vector variable have windows");
        for window in self.windows(self.lanes(vector)) {
            self.window = Some(window);
            for stmt in run {
                // What is the same for all lanes is done once.
                if window.0 == 0 || self.varies(stmt, vector) {
                    self.stmt(stmt)?;
                }
            }
        }
        self.window = None;
        Ok(())
    }

    fn varies(&self, stmt: &Stmt, vector: VarId) -> bool {
        match stmt {
            Stmt::Let(value, _) => self.kernel.ty(*value).vars.contains(&vector),
            Stmt::Store { offset, value, mask, .. } => {
                self.stored_type(offset, *value, *mask).vars.contains(&vector)
            }
            Stmt::When(_) => false,
            Stmt::Loop { .. } => panic!("runs of statements hold no loops"),
        }
    }
}

/// Statements that treat each lane of the vector variable by itself.
struct Run<'k> {
    vector: VarId,
    accesses: Vec<(BufferId, &'k Offset, bool)>,
}

impl<'k> Run<'k> {
    fn admits(&mut self, stmt: &'k Stmt) -> bool {
        match stmt {
            Stmt::Let(_, Expr::Load { buffer, offset, .. }) => self.access(*buffer, offset, false),
            Stmt::Let(_, Expr::Reduce(_, _, var)) => *var != self.vector,
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
