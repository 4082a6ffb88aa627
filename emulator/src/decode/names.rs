//! What names stand for, and the slots behind them.

use std::collections::HashMap;

use super::declare::{SHARED_GAP, place};
use super::function::Body;
use crate::lanes::{AluFn, Pred, Slot, map1};
use crate::program::*;
use crate::types::window;

/// Shared memory that the system keeps for itself at the front of each block's, and where in it
/// cooperative groups have their scratch (PTX ISA, `%reserved_smem_offset_*`).
const RESERVED_SHARED: u32 = 1024;
const RESERVED_SCRATCH: u32 = 512;

/// What a name stands for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Entity {
    /// A register and its width in bits (at least 16).
    Reg(Slot, u32),
    Pred(Pred),
    Shared(u32),
    Const(u64),
    Global(u64),
    /// Offset in the kernel's parameter buffer.
    KernelParam(u32),
    /// Offset in the function's frame; `true` for `.param` variables.
    Frame(u32, bool),
    Function(u32),
    Label(u32),
    /// `.branchtargets` and friends, by index.
    Targets(u32),
}

/// `%r<N>`: prefix, count, width (1 for predicates).
#[derive(Debug, Clone)]
pub(super) struct Range {
    pub(super) prefix: String,
    pub(super) count: u32,
    pub(super) bits: u32,
    pub(super) seen: HashMap<u32, Entity>,
}

#[derive(Debug, Default)]
pub(super) struct Scope {
    pub(super) names: HashMap<String, Entity>,
    pub(super) ranges: Vec<Range>,
}

impl Body<'_> {
    // --- slots ----------------------------------------------------------------------------

    pub(super) fn rows(&mut self, bits: u32) -> Slot {
        let slot = self.program.rows;
        self.program.rows += bits.div_ceil(32);
        slot
    }

    /// A register of its own that nobody else names.
    pub(crate) fn scratch(&mut self, bits: u32) -> Slot {
        self.rows(bits)
    }

    pub(crate) fn scratch_pred(&mut self) -> Pred {
        self.program.preds += 1;
        self.program.preds - 1
    }

    /// A predicate that always holds.
    pub(crate) fn true_pred(&self) -> Pred {
        self.true_pred
    }

    /// A register that always holds `value`.
    pub(crate) fn constant(&mut self, value: u64, bits: u32) -> Slot {
        let value = if bits < 64 { value & ((1 << bits) - 1) } else { value };
        let rows = bits.div_ceil(32);
        if let Some(&slot) = self.constants.get(&(value, rows)) {
            return slot;
        }
        let slot = self.rows(bits);
        for i in 0..rows {
            self.program
                .constants
                .push((slot + i, if i < 2 { (value >> (32 * i)) as u32 } else { 0 }));
        }
        self.constants.insert((value, rows), slot);
        slot
    }

    /// The register that holds special register `name`, widened to `bits`.
    pub(crate) fn special(&mut self, name: &str, bits: u32) -> Option<Slot> {
        if let Some(value) = self.system_value(name) {
            return Some(self.constant(value, bits));
        }
        let special = parse_special(name)?;
        let wide = bits == 64;
        if let Some(&slot) = self.specials.get(&(special, u32::from(wide))) {
            return Some(slot);
        }
        let slot = self.rows(if wide { 64 } else { 32 });
        self.program.specials.push((special, slot, wide));
        self.specials.insert((special, u32::from(wide)), slot);
        Some(slot)
    }

    /// What the system leaves in registers for the libraries of the toolkit: where the reserved shared
    /// memory is, and the address of a zeroed workspace with which a grid synchronises.
    pub(super) fn system_value(&mut self, name: &str) -> Option<u64> {
        Some(match name {
            "%reserved_smem_offset_begin" | "%reserved_smem_offset_0" => 0,
            "%reserved_smem_offset_1" => u64::from(RESERVED_SCRATCH),
            "%reserved_smem_offset_end" | "%reserved_smem_offset_cap" => u64::from(RESERVED_SHARED),
            "%envreg1" => self.grid_workspace() >> 32,
            "%envreg2" => self.grid_workspace() & 0xffff_ffff,
            _ => return None,
        })
    }

    pub(super) fn grid_workspace(&mut self) -> u64 {
        let bytes = &mut self.program.global_bytes;
        let at = *self.workspace.get_or_insert_with(|| place(bytes, 16, 64));
        window::MODULE + at
    }

    pub(super) fn reserve_shared(&mut self, text: &str) {
        if text.contains("%reserved_smem_offset_") {
            self.shared_top = RESERVED_SHARED + SHARED_GAP;
            self.program.reserved_shared = RESERVED_SHARED;
            self.program.shared.push(SharedVariable {
                name: "reserved memory".into(),
                offset: 0,
                bytes: Some(RESERVED_SHARED),
            });
        }
    }

    /// The register that holds each lane's frame address.
    pub(crate) fn frame_slot(&self) -> Slot {
        self.program.frame_slot
    }

    // --- names ----------------------------------------------------------------------------

    pub(crate) fn lookup(&mut self, name: &str) -> Option<Entity> {
        for level in (0..self.scopes.len()).rev() {
            if let Some(&entity) = self.scopes[level].names.get(name) {
                return Some(entity);
            }
            if let Some(entity) = self.in_range(level, name) {
                return Some(entity);
            }
        }
        None
    }

    pub(super) fn in_range(&mut self, level: usize, name: &str) -> Option<Entity> {
        if self.scopes[level].ranges.is_empty() {
            return None;
        }
        let prefix = name.trim_end_matches(|c: char| c.is_ascii_digit());
        // A prefix may itself end in digits (`%f16_<4>` does not, `%r1<4>` does): try every split.
        for split in prefix.len()..name.len() {
            let digits = &name[split..];
            if digits.len() > 1 && digits.starts_with('0') {
                continue;
            }
            let Ok(index) = digits.parse::<u32>() else { continue };
            let range = self.scopes[level]
                .ranges
                .iter()
                .position(|r| r.prefix == name[..split] && index < r.count);
            let Some(range) = range else { continue };
            let bits = self.scopes[level].ranges[range].bits;
            if let Some(&entity) = self.scopes[level].ranges[range].seen.get(&index) {
                return Some(entity);
            }
            let entity = self.new_register(bits);
            self.scopes[level].ranges[range].seen.insert(index, entity);
            return Some(entity);
        }
        None
    }

    pub(super) fn new_register(&mut self, bits: u32) -> Entity {
        if bits == 1 {
            Entity::Pred(self.scratch_pred())
        } else {
            Entity::Reg(self.rows(bits), bits)
        }
    }

    /// A register with the address of a variable, function or label in its own space.
    pub(crate) fn address_of(&mut self, entity: &Entity, offset: i64, bits: u32) -> Option<Slot> {
        let value = match *entity {
            Entity::Shared(at) => i64::from(at) + offset,
            Entity::Const(at) => at as i64 + offset,
            Entity::Global(at) => (window::MODULE + at) as i64 + offset,
            Entity::KernelParam(at) => (window::PARAM + u64::from(at)) as i64 + offset,
            Entity::Function(index) => (window::CODE + u64::from(index) * 16) as i64 + offset,
            Entity::Frame(at, param) => {
                let base = if param { window::LOCAL as i64 } else { 0 };
                return Some(self.frame_address(i64::from(at) + offset + base, bits));
            }
            _ => return None,
        };
        Some(self.constant(value as u64, bits))
    }

    /// Emits an addition of the frame address and returns the register of the sum.
    pub(super) fn frame_address(&mut self, offset: i64, bits: u32) -> Slot {
        let d = self.rows(bits);
        let frame = self.program.frame_slot;
        let add: AluFn = if bits == 64 {
            map1::<u64, u64, _>(self.isa, d, frame, move |f| f.wrapping_add(offset as u64))
        } else {
            map1::<u64, u32, _>(self.isa, d, frame, move |f| f.wrapping_add(offset as u64) as u32)
        };
        let line = self.program.code.last().map_or(0, |i| i.line);
        let opcode = self.opcode_index("mov");
        self.program.code.push(Inst {
            op: Op::Alu(add),
            guard: None,
            line,
            opcode,
            is_move: false,
            flow: Flow::default(),
        });
        d
    }
}

/// Special registers whose value does not change while a warp runs.
fn parse_special(name: &str) -> Option<Special> {
    let axis = |prefix: &str| -> Option<u8> {
        match name.strip_prefix(prefix)? {
            ".x" => Some(0),
            ".y" => Some(1),
            ".z" => Some(2),
            ".w" => Some(3),
            _ => None,
        }
    };
    if let Some(a) = axis("%tid") {
        return Some(if a < 3 { Special::Tid(a) } else { Special::Zero });
    }
    if let Some(a) = axis("%ctaid") {
        return Some(if a < 3 { Special::Ctaid(a) } else { Special::Zero });
    }
    type Axis = fn(u8) -> Special;
    let counted: [(&str, Axis); 6] = [
        ("%ntid", Special::Ntid),
        ("%nctaid", Special::Nctaid),
        ("%clusterid", Special::ClusterId),
        ("%nclusterid", Special::NClusterId),
        ("%cluster_ctaid", Special::ClusterCtaid),
        ("%cluster_nctaid", Special::ClusterNctaid),
    ];
    for (prefix, make) in counted {
        if let Some(a) = axis(prefix).filter(|&a| a < 3) {
            return Some(make(a));
        }
    }
    Some(match name {
        "%laneid" => Special::LaneId,
        "%warpid" => Special::WarpId,
        "%nwarpid" => Special::NWarpId,
        "%smid" => Special::SmId,
        "%nsmid" => Special::NSmId,
        "%gridid" => Special::GridId,
        "%lanemask_eq" => Special::LaneMaskEq,
        "%lanemask_le" => Special::LaneMaskLe,
        "%lanemask_lt" => Special::LaneMaskLt,
        "%lanemask_ge" => Special::LaneMaskGe,
        "%lanemask_gt" => Special::LaneMaskGt,
        "%dynamic_smem_size" => Special::DynamicShared,
        "%total_smem_size" => Special::TotalShared,
        "%aggr_smem_size" => Special::AggrShared,
        "%is_explicit_cluster" => Special::IsExplicitCluster,
        "%cluster_ctarank" => Special::ClusterCtarank,
        "%cluster_nctarank" => Special::ClusterNctarank,
        "WARP_SZ" => return None,
        name if name.starts_with("%envreg") => Special::Zero,
        _ => return None,
    })
}
