//! Instructions in which lanes of a warp exchange values.
//!
//! A lane waits until every live lane of its member mask is at the same instruction (for
//! `bar.warp.sync`: at any), as the manual demands from sm_70 on.

use super::engine::Engine;
use super::step::Then;
use super::unit::Unit;
use super::warp::{Why, lanes_of};
use crate::check::FindingKind;
use crate::lanes::Regs;
use crate::program::{AtomOp, Collective, Shuffle};

impl Unit {
    pub(crate) fn collective(
        &mut self,
        engine: &Engine,
        w: usize,
        pc: u32,
        (active, idle): (u32, u32),
        collective: &Collective,
        members: u32,
    ) -> Then {
        let masks: [u32; 32] = self.warps[w].regs.get(members);
        let first = masks[active.trailing_zeros() as usize];
        if active == self.warps[w].live
            && lanes_of(active).all(|l| masks[l] == first)
            && first & active == active
        {
            // The whole warp with one mask: nothing to wait for.
            self.check_gone(engine, w, pc, active, first);
            self.exchange(engine, w, pc, active, collective);
            return if idle == 0 {
                Then::Next
            } else {
                self.after_gather(w, pc, active, active, idle)
            };
        }
        lanes_of(idle).for_each(|l| self.warps[w].pcs[l] = pc + 1);
        let mut left = active;
        while left != 0 {
            let lane = left.trailing_zeros() as usize;
            let mask = masks[lane];
            let group = lanes_of(left).filter(|&l| masks[l] == mask).fold(0, |m, l| m | 1 << l);
            left &= !group;
            self.arrive_members(engine, w, pc, group, mask, collective);
        }
        Then::Pick
    }

    /// Lanes `group` arrive with member mask `mask`.
    fn arrive_members(
        &mut self,
        engine: &Engine,
        w: usize,
        pc: u32,
        group: u32,
        mask: u32,
        collective: &Collective,
    ) {
        let outside = group & !mask;
        if outside != 0 {
            let who = (w, outside.trailing_zeros() as usize, pc);
            self.report(engine, FindingKind::MemberMask, who, None, || {
                format!("lanes {outside:#010x} execute with member mask {mask:#010x}, which leaves them out")
            });
        }
        let anywhere = matches!(collective, Collective::WarpSync);
        let warp = &mut self.warps[w];
        let here =
            |x: &super::warp::Waiting| x.why == Why::Members(mask) && (anywhere || x.pc == pc);
        let there = warp.waits.iter().filter(|x| here(x)).fold(0, |m, x| m | x.lanes);
        let all = group | there;
        let needed = mask & warp.live;
        if all & needed != needed {
            warp.wait(pc, group, Why::Members(mask));
            return;
        }
        warp.release(there);
        lanes_of(group).for_each(|l| warp.pcs[l] = pc + 1);
        self.check_gone(engine, w, pc, all, mask);
        self.exchange(engine, w, pc, all, collective);
    }

    /// Lanes that left before anybody could need them are no loss, and the hardware skips them; but
    /// a lane that worked and then left without coming here shows a mask that names too many.
    fn check_gone(&mut self, engine: &Engine, w: usize, pc: u32, lanes: u32, mask: u32) {
        let warp = &self.warps[w];
        let gone = mask & warp.born & !warp.live & warp.worked;
        if gone != 0 {
            let who = (w, lanes.trailing_zeros() as usize, pc);
            self.report(engine, FindingKind::MemberMask, who, None, || {
                format!("member mask {mask:#010x} names lanes {gone:#010x}, which left the kernel")
            });
        }
    }

    /// All lanes are there.
    fn exchange(
        &mut self,
        engine: &Engine,
        w: usize,
        pc: u32,
        lanes: u32,
        collective: &Collective,
    ) {
        let warp = &mut self.warps[w];
        if warp.regs.tainted {
            spread_undefined(
                &mut warp.regs,
                &engine.program.code[pc as usize].flow,
                lanes,
                collective,
            );
        }
        // Whoever `match` elects goes on to act for the lanes that agree with it, and the toolkit's libraries
        // take what those did for done. (`shfl` and `vote` promise nothing of the kind.)
        if matches!(collective, Collective::MatchAny { .. } | Collective::MatchAll { .. }) {
            let live = warp.live;
            warp.clock.sync_lanes(lanes, live);
        }
        let regs = &mut warp.regs;
        match *collective {
            Collective::WarpSync => {
                let live = warp.live;
                warp.clock.sync_lanes(lanes, live);
            }
            Collective::Shuffle { mode, d, p, a, b, c } => {
                shuffle(regs, lanes, mode, (d, p), (a, b, c))
            }
            Collective::Ballot { d, p } => {
                let votes = regs.pred(p) & lanes;
                regs.put(d, lanes, &[votes; 32]);
            }
            Collective::VoteAll { d, p } => {
                let all = regs.pred(p) & lanes == lanes;
                regs.put_pred(d, lanes, if all { u32::MAX } else { 0 });
            }
            Collective::VoteAny { d, p } => {
                let any = regs.pred(p) & lanes != 0;
                regs.put_pred(d, lanes, if any { u32::MAX } else { 0 });
            }
            Collective::VoteUni { d, p } => {
                let votes = regs.pred(p) & lanes;
                regs.put_pred(d, lanes, if votes == 0 || votes == lanes { u32::MAX } else { 0 });
            }
            Collective::MatchAny { d, a, wide } => {
                let values = words(regs, a, wide);
                let same = |i: usize| {
                    lanes_of(lanes).filter(|&j| values[i] == values[j]).fold(0, |m, j| m | 1 << j)
                };
                let out = std::array::from_fn(same);
                regs.put::<u32>(d, lanes, &out);
            }
            Collective::MatchAll { d, p, a, wide } => {
                let values = words(regs, a, wide);
                let first = values[lanes.trailing_zeros() as usize];
                let all = lanes_of(lanes).all(|i| values[i] == first);
                if let Some(d) = d {
                    regs.put(d, lanes, &[if all { lanes } else { 0 }; 32]);
                }
                if let Some(p) = p {
                    regs.put_pred(p, lanes, if all { u32::MAX } else { 0 });
                }
            }
            Collective::Redux { op, signed, d, a } => {
                let values: [u32; 32] = regs.get(a);
                let result = lanes_of(lanes)
                    .map(|l| values[l])
                    .reduce(|x, y| reduce(op, signed, x, y))
                    .unwrap_or(0);
                regs.put(d, lanes, &[result; 32]);
            }
            Collective::Elect { d, p } => {
                let leader = lanes.trailing_zeros();
                if let Some(d) = d {
                    regs.put(d, lanes, &[leader; 32]);
                }
                regs.put_pred(p, lanes, 1 << leader);
            }
        }
    }
}

fn words(regs: &Regs, slot: u32, wide: bool) -> [u64; 32] {
    if wide {
        regs.get(slot)
    } else {
        let values: [u32; 32] = regs.get(slot);
        values.map(u64::from)
    }
}

fn reduce(op: AtomOp, signed: bool, x: u32, y: u32) -> u32 {
    match op {
        AtomOp::Add => x.wrapping_add(y),
        AtomOp::And => x & y,
        AtomOp::Or => x | y,
        AtomOp::Xor => x ^ y,
        AtomOp::Min if signed => (x as i32).min(y as i32) as u32,
        AtomOp::Max if signed => (x as i32).max(y as i32) as u32,
        AtomOp::Min => x.min(y),
        _ => x.max(y),
    }
}

/// Where lane `lane` reads from, and whether that is inside its segment (PTX ISA, `shfl.sync`).
fn source(mode: Shuffle, lane: usize, b: u32, c: u32) -> (usize, bool) {
    let lane = lane as i32;
    let segment = (c >> 8 & 0x1f) as i32;
    let clamp = (c & 0x1f) as i32;
    let max_lane = (lane & segment) | (clamp & !segment);
    let min_lane = lane & segment;
    let b = (b & 0x1f) as i32;
    let (j, inside) = match mode {
        Shuffle::Up => (lane - b, lane - b >= max_lane),
        Shuffle::Down => (lane + b, lane + b <= max_lane),
        Shuffle::Bfly => (lane ^ b, lane ^ b <= max_lane),
        Shuffle::Idx => {
            let j = min_lane | (b & !segment);
            (j, j <= max_lane)
        }
    };
    if inside { ((j & 31) as usize, true) } else { (lane as usize, false) }
}

fn shuffle(
    regs: &mut Regs,
    lanes: u32,
    mode: Shuffle,
    (d, p): (u32, Option<u32>),
    (a, b, c): (u32, u32, u32),
) {
    let (va, vb, vc): ([u32; 32], [u32; 32], [u32; 32]) = (regs.get(a), regs.get(b), regs.get(c));
    let undefined: [u32; 32] = std::array::from_fn(|lane| regs.undefined_bits(a, lane));
    let (mut inside, mut undef) = (0, [0; 32]);
    let mut out = [0; 32];
    for lane in 0..32 {
        let (from, ok) = source(mode, lane, vb[lane], vc[lane]);
        out[lane] = va[from];
        inside |= u32::from(ok) << lane;
        undef[lane] = undefined[from];
    }
    regs.put(d, lanes, &out);
    for lane in lanes_of(lanes) {
        regs.set_undefined(d, 1 << lane, undef[lane]);
    }
    if let Some(p) = p {
        regs.put_pred(p, lanes, inside);
    }
}

/// Every other collective mixes all lanes: one undefined input makes every result undefined.
fn spread_undefined(
    regs: &mut Regs,
    flow: &crate::program::Flow,
    lanes: u32,
    collective: &Collective,
) {
    if matches!(
        collective,
        Collective::Shuffle { .. } | Collective::WarpSync | Collective::Elect { .. }
    ) {
        return;
    }
    let any = super::undefined::any(regs, flow) & lanes != 0;
    let bits = if any { lanes } else { 0 };
    for &d in &flow.writes {
        regs.set_undefined(d, lanes, if any { u32::MAX } else { 0 });
    }
    for &d in &flow.pred_writes {
        regs.pred_undef[d as usize] = regs.pred_undef[d as usize] & !lanes | bits;
    }
}
