//! Fundamental types and state spaces (PTX ISA, "State Spaces, Types, and Variables").

/// A fundamental, packed or alternate type as written after a dot in an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // Each name is the PTX spelling.
pub enum Ty {
    Pred,
    B8,
    B16,
    B32,
    B64,
    B128,
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    F16,
    F16x2,
    BF16,
    BF16x2,
    TF32,
    F32,
    F64,
    U16x2,
    S16x2,
    E4M3x2,
    E5M2x2,
    E4M3,
    E5M2,
    U4,
    S4,
    U2,
    S2,
    B1,
}

impl Ty {
    /// Parses the spelling without its dot.
    pub fn parse(name: &str) -> Option<Ty> {
        Some(match name {
            "pred" => Ty::Pred,
            "b8" => Ty::B8,
            "b16" => Ty::B16,
            "b32" => Ty::B32,
            "b64" => Ty::B64,
            "b128" => Ty::B128,
            "u8" => Ty::U8,
            "u16" => Ty::U16,
            "u32" => Ty::U32,
            "u64" => Ty::U64,
            "s8" => Ty::S8,
            "s16" => Ty::S16,
            "s32" => Ty::S32,
            "s64" => Ty::S64,
            "f16" => Ty::F16,
            "f16x2" => Ty::F16x2,
            "bf16" => Ty::BF16,
            "bf16x2" => Ty::BF16x2,
            "tf32" => Ty::TF32,
            "f32" => Ty::F32,
            "f64" => Ty::F64,
            "u16x2" => Ty::U16x2,
            "s16x2" => Ty::S16x2,
            "e4m3x2" => Ty::E4M3x2,
            "e5m2x2" => Ty::E5M2x2,
            "e4m3" => Ty::E4M3,
            "e5m2" => Ty::E5M2,
            "u2" => Ty::U2,
            "s2" => Ty::S2,
            "u4" => Ty::U4,
            "s4" => Ty::S4,
            "b1" => Ty::B1,
            _ => return None,
        })
    }

    /// Width in bits; sub-byte types say their own, predicates one.
    pub fn bits(self) -> u32 {
        match self {
            Ty::Pred | Ty::B1 => 1,
            Ty::U2 | Ty::S2 => 2,
            Ty::U4 | Ty::S4 => 4,
            Ty::B8 | Ty::U8 | Ty::S8 | Ty::E4M3 | Ty::E5M2 => 8,
            Ty::B16 | Ty::U16 | Ty::S16 | Ty::F16 | Ty::BF16 | Ty::E4M3x2 | Ty::E5M2x2 => 16,
            Ty::B32 | Ty::U32 | Ty::S32 | Ty::F32 | Ty::TF32 => 32,
            Ty::F16x2 | Ty::BF16x2 | Ty::U16x2 | Ty::S16x2 => 32,
            Ty::B64 | Ty::U64 | Ty::S64 | Ty::F64 => 64,
            Ty::B128 => 128,
        }
    }

    /// Width in bytes in memory.
    pub fn bytes(self) -> u32 {
        self.bits().div_ceil(8)
    }

    /// Whether values are signed integers.
    pub fn is_signed(self) -> bool {
        matches!(self, Ty::S2 | Ty::S4 | Ty::S8 | Ty::S16 | Ty::S32 | Ty::S64 | Ty::S16x2)
    }

    /// Whether values are floating-point numbers.
    pub fn is_float(self) -> bool {
        use Ty::*;
        matches!(
            self,
            F16 | F16x2 | BF16 | BF16x2 | TF32 | F32 | F64 | E4M3 | E5M2 | E4M3x2 | E5M2x2
        )
    }
}

/// Where a variable lives or an access goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // Each name is the PTX spelling.
pub enum Space {
    Generic,
    Reg,
    Const,
    Global,
    Local,
    Param,
    Shared,
}

impl Space {
    /// Parses the spelling without its dot; `shared::cta` and `shared::cluster` share a window.
    pub fn parse(name: &str) -> Option<Space> {
        Some(match name {
            "reg" => Space::Reg,
            "const" => Space::Const,
            "global" => Space::Global,
            "local" => Space::Local,
            "param" | "param::entry" | "param::func" => Space::Param,
            "shared" | "shared::cta" | "shared::cluster" => Space::Shared,
            _ => return None,
        })
    }
}

/// Where each state space begins in the generic address space. The windows are far apart, so no
/// small offset leads from one to another.
pub mod window {
    /// Shared memory of the cluster; the low 24 bits are the offset, the next ones the block.
    pub const SHARED: u64 = 0x0100_0000_0000;
    /// Local memory of the thread.
    pub const LOCAL: u64 = 0x0200_0000_0000;
    /// Constant variables of the module.
    pub const CONST: u64 = 0x0300_0000_0000;
    /// Parameters of the kernel.
    pub const PARAM: u64 = 0x0400_0000_0000;
    /// Code addresses (function pointers).
    pub const CODE: u64 = 0x0500_0000_0000;
    /// Global variables of the module.
    pub const MODULE: u64 = 0x0600_0000_0000;
    /// Buffers of the launch.
    pub const BUFFERS: u64 = 0x7000_0000_0000;
    /// The size of every window but the last.
    pub const SIZE: u64 = 0x0100_0000_0000;
    /// Block number within a 32-bit shared address: `(rank + 1) << RANK_SHIFT`.
    pub const RANK_SHIFT: u32 = 24;
}
