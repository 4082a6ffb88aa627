//! Undefined bits: where they come from (memory that nobody wrote), and how they travel through
//! registers until something acts on them.

use crate::lanes::{LANES, Regs, Row, Slot};
use crate::program::{Flow, FlowRule, Inst, Op};

/// Propagates undefined values through an instruction on registers that is about to run.
pub(super) fn propagate(regs: &mut Regs, inst: &Inst, active: u32) {
    let flow = &inst.flow;
    let lanes = match &flow.rule {
        FlowRule::Any | FlowRule::Own => any(regs, flow),
        FlowRule::PredicateAnd => any(regs, flow) & !decided(regs, flow, false),
        FlowRule::PredicateOr => any(regs, flow) & !decided(regs, flow, true),
        FlowRule::Union(sources) => return union(regs, &flow.writes, sources, active),
        FlowRule::And(a, b) => return masked(regs, &flow.writes, (*a, *b), false, active),
        FlowRule::Or(a, b) => return masked(regs, &flow.writes, (*a, *b), true, active),
        FlowRule::Select { a, b, p } => {
            let undefined = regs.pred_undef[p.0 as usize];
            let chosen = regs.pred(*p);
            for (row, &d) in (0..).zip(&flow.writes) {
                let (x, y) = (regs.undef[(a + row) as usize].0, regs.undef[(b + row) as usize].0);
                let bits = std::array::from_fn(|i| match () {
                    () if undefined >> i & 1 != 0 => u32::MAX,
                    () if chosen >> i & 1 != 0 => x[i],
                    () => y[i],
                });
                put(regs, d, active, &bits);
            }
            return;
        }
        FlowRule::Moved(data) => match &inst.op {
            Op::Alu(alu) if controls_are_defined(regs, flow, data, active) => {
                return moved(regs, alu, data, &flow.writes, active);
            }
            _ => any(regs, flow),
        },
    };
    for &d in &flow.writes {
        put(
            regs,
            d,
            active,
            &std::array::from_fn(|i| if lanes >> i & 1 != 0 { u32::MAX } else { 0 }),
        );
    }
    for &d in &flow.pred_writes {
        regs.pred_undef[d as usize] = regs.pred_undef[d as usize] & !active | lanes & active;
    }
}

fn put(regs: &mut Regs, slot: Slot, mask: u32, bits: &[u32; LANES]) {
    let row = &mut regs.undef[slot as usize].0;
    for i in 0..LANES {
        row[i] = if mask >> i & 1 != 0 { bits[i] } else { row[i] };
    }
}

/// Lanes in which any operand has an undefined bit.
pub(super) fn any(regs: &Regs, flow: &Flow) -> u32 {
    let rows = flow.reads.iter().fold(0, |m, &s| m | regs.undefined_lanes(s));
    flow.pred_reads.iter().fold(rows, |m, &p| m | regs.pred_undef[p as usize])
}

/// Lanes where a defined predicate decides the result alone: false for and, true for or.
fn decided(regs: &Regs, flow: &Flow, value: bool) -> u32 {
    flow.pred_reads.iter().fold(0, |lanes, &p| {
        let holds = regs.preds[p as usize];
        lanes | !regs.pred_undef[p as usize] & if value { holds } else { !holds }
    })
}

/// Each bit depends on the same bits of the sources.
fn union(regs: &mut Regs, writes: &[Slot], sources: &[Slot], active: u32) {
    for (row, &d) in (0..).zip(writes) {
        let bits = std::array::from_fn(|i| {
            sources.iter().fold(0, |m, s| m | regs.undef[(s + row) as usize].0[i])
        });
        put(regs, d, active, &bits);
    }
}

/// As [`union`], but a defined zero (`ones`: a defined one) decides its bit alone.
fn masked(regs: &mut Regs, writes: &[Slot], (a, b): (Slot, Slot), ones: bool, active: u32) {
    for (row, &d) in (0..).zip(writes) {
        let (sa, sb) = ((a + row) as usize, (b + row) as usize);
        let bits = std::array::from_fn(|i| {
            let flip = if ones { u32::MAX } else { 0 };
            let (va, vb) = (regs.rows[sa].0[i] ^ flip, regs.rows[sb].0[i] ^ flip);
            let (ua, ub) = (regs.undef[sa].0[i], regs.undef[sb].0[i]);
            ua & ub | ua & vb | ub & va
        });
        put(regs, d, active, &bits);
    }
}

/// Whether everything but the moved data is defined, and no register is both.
fn controls_are_defined(regs: &Regs, flow: &Flow, data: &[Slot], active: u32) -> bool {
    let mut data = data.to_vec();
    let mut controls = Vec::new();
    for read in &flow.reads {
        match data.iter().position(|d| d == read) {
            Some(i) => drop(data.swap_remove(i)),
            None => controls.push(*read),
        }
    }
    controls.iter().all(|&c| regs.undefined_lanes(c) & active == 0 && !data.contains(&c))
        && !controls.iter().any(|c| flow.reads.iter().filter(|r| *r == c).count() > 1)
}

/// Instructions that only move bits do the same to the masks of undefined bits: run them on those.
fn moved(regs: &mut Regs, alu: &crate::lanes::AluFn, data: &[Slot], writes: &[Slot], active: u32) {
    let keep = |regs: &Regs, slots: &[Slot]| -> Vec<Row> {
        slots.iter().map(|&s| regs.rows[s as usize]).collect()
    };
    let (sources, results) = (keep(regs, data), keep(regs, writes));
    for &s in data {
        regs.rows[s as usize] = regs.undef[s as usize];
    }
    alu(regs, active);
    let masks = keep(regs, writes);
    for (slots, rows) in [(writes, &results), (data, &sources)] {
        slots.iter().zip(rows).for_each(|(&s, row)| regs.rows[s as usize] = *row);
    }
    for (&d, mask) in writes.iter().zip(&masks) {
        put(regs, d, active, &mask.0);
    }
}
