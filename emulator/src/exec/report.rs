//! Turning what went wrong into a [`Finding`].

use std::sync::atomic::Ordering::Relaxed;

use super::engine::Engine;
use super::unit::{Unit, block_id};
use super::warp::Why;
use crate::check::clock::Stamp;
use crate::check::shadow::Conflict;
use crate::check::{Access, Finding, FindingKind, Place};

/// Warp, lane and program counter.
pub(crate) type Who = (usize, usize, u32);

impl Unit {
    fn place(&self, engine: &Engine, (w, lane, pc): Who) -> Place {
        let warp = &self.warps[w];
        self.place_of(engine, self.ctas[warp.cta].id, warp.index, lane, pc)
    }

    fn place_of(&self, engine: &Engine, block: [u32; 3], warp: u32, lane: usize, pc: u32) -> Place {
        let line = engine.program.code[pc as usize].line;
        let t = warp * 32 + lane as u32;
        let [nx, ny, _] = engine.block;
        let thread = [t % nx, t / nx % ny, t / nx / ny];
        Place { line, text: engine.program.line_text(line).to_string(), block, thread }
    }

    /// Records a finding; the message is made only if it is the first of its kind on its line.
    pub(crate) fn report(
        &mut self,
        engine: &Engine,
        kind: FindingKind,
        who: Who,
        address: Option<u64>,
        message: impl FnOnce() -> String,
    ) {
        if !engine.options.checks.wants(kind) {
            return;
        }
        let line = engine.program.code[who.2 as usize].line;
        let mut findings = engine.findings.lock().unwrap_or_else(|p| p.into_inner());
        if findings.seen(kind, line, 0) {
            return;
        }
        let at = self.place(engine, who);
        findings.push(Finding { kind, message: message(), at, address, other: None, count: 1 });
        if findings.len() >= engine.options.max_findings {
            engine.stop.store(true, Relaxed);
        }
    }

    /// Records a race between the access of `who` and an earlier one.
    pub(crate) fn report_race(
        &mut self,
        engine: &Engine,
        who: Who,
        what: &str,
        address: u64,
        with: Conflict,
    ) {
        let code = &engine.program.code;
        let (line, other_line) = (code[who.2 as usize].line, code[with.stamp.pc as usize].line);
        let mut findings = engine.findings.lock().unwrap_or_else(|p| p.into_inner());
        if findings.seen(FindingKind::Race, line, other_line) {
            return;
        }
        let other = Access { what: with.what, at: self.stamped(engine, with.stamp) };
        let message = format!("this {what} and an earlier {} are not ordered", with.what);
        let at = self.place(engine, who);
        findings.push(Finding {
            kind: FindingKind::Race,
            message,
            at,
            address: Some(address),
            other: Some(other),
            count: 1,
        });
        if findings.len() >= engine.options.max_findings {
            engine.stop.store(true, Relaxed);
        }
    }

    fn stamped(&self, engine: &Engine, stamp: Stamp) -> Place {
        let (rank, warp) = (
            usize::from(stamp.warp) / self.warps_per_cta,
            usize::from(stamp.warp) % self.warps_per_cta,
        );
        let block = block_id(engine, u64::from(stamp.unit), rank as u32);
        self.place_of(engine, block, warp as u32, usize::from(stamp.lane), stamp.pc)
    }

    /// An uninitialised value was used; names the load that it came from.
    pub(crate) fn report_undefined(&mut self, engine: &Engine, who: Who, use_: &str) {
        let origin = self.warps[who.0].origin;
        let address = origin.map(|(_, _, a)| a);
        self.report(engine, FindingKind::Uninitialised, who, address, || match origin {
            Some((pc, _, _)) => {
                let line = engine.program.code[pc as usize].line;
                let text = engine.program.line_text(line);
                format!("a value that nobody wrote, loaded on line {line} ({text}), {use_}")
            }
            None => format!("a value that nobody wrote {use_}"),
        });
    }

    /// Every thread waits and nothing can wake any of them.
    pub(crate) fn report_deadlock(&mut self, engine: &Engine) {
        for w in 0..self.warps.len() {
            for i in 0..self.warps[w].waits.len() {
                let wait = self.warps[w].waits[i];
                let who = (w, wait.lanes.trailing_zeros() as usize, wait.pc);
                let live = self.warps[w].live;
                match wait.why {
                    Why::Warp => {
                        self.report(engine, FindingKind::BarrierDivergence, who, None, || {
                            format!(
                                "lanes {:#010x} of the warp are here, lanes {:#010x} never come",
                                wait.lanes,
                                live & !wait.lanes
                            )
                        });
                    }
                    Why::Members(members) => {
                        self.report(engine, FindingKind::MemberMask, who, None, || {
                            format!(
                                "member mask {members:#010x} names lanes {:#010x}, which never come",
                                members & live & !wait.lanes
                            )
                        });
                    }
                    Why::Barrier(_) | Why::Cluster => {}
                }
                self.deadlocked(engine, who, wait.why);
            }
        }
    }

    fn deadlocked(&mut self, engine: &Engine, who: Who, why: Why) {
        let cta = self.warps[who.0].cta;
        let message = match why {
            Why::Barrier(id) => {
                let state = &self.ctas[cta].barriers[id as usize];
                let expected = state.expected.unwrap_or(self.ctas[cta].live);
                format!("barrier {id} waits for {expected} threads, {} arrived", state.arrived)
            }
            Why::Cluster => "the cluster barrier waits for threads that never arrive".into(),
            Why::Warp => "an aligned instruction waits for lanes that never arrive".into(),
            Why::Members(_) => "a member mask waits for lanes that never arrive".into(),
        };
        self.report(engine, FindingKind::Deadlock, who, None, || message);
    }

    /// Threads run but nothing has changed for longer than the launch's patience.
    pub(crate) fn report_stuck(&mut self, engine: &Engine) {
        for w in 0..self.warps.len() {
            let runnable = self.warps[w].runnable();
            if runnable != 0 {
                let lane = runnable.trailing_zeros() as usize;
                let pc = self.warps[w].pcs[lane];
                self.report(engine, FindingKind::Deadlock, (w, lane, pc), None, || {
                    "this loop never ends: nothing it waits for can change any more".into()
                });
                break;
            }
        }
        self.report_deadlock(engine);
    }
}
