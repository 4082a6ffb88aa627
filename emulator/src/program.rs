//! The decoded program: flat code with resolved registers, labels and addresses.

use crate::error::Span;
use crate::lanes::{AluFn, Isa, Pred, Slot};
use crate::types::{Space, Ty};

/// One instruction.
pub(crate) struct Inst {
    pub(crate) op: Op,
    /// Runs in lanes where the predicate (negated if `true`) holds.
    pub(crate) guard: Option<(Pred, bool)>,
    /// Line in the PTX text, from 1.
    pub(crate) line: u32,
    /// Index into [`Program::opcodes`].
    pub(crate) opcode: u32,
    /// A plain copy of registers.
    pub(crate) is_move: bool,
    /// How undefined values flow through it.
    pub(crate) flow: Flow,
}

/// Registers read and written, for the propagation of undefined values.
#[derive(Default, Debug)]
pub(crate) struct Flow {
    pub(crate) reads: Vec<Slot>,
    pub(crate) writes: Vec<Slot>,
    pub(crate) pred_reads: Vec<Pred>,
    pub(crate) pred_writes: Vec<Pred>,
    pub(crate) rule: FlowRule,
}

/// When a result is undefined.
#[derive(Default, Debug, Clone, PartialEq, Eq)]
pub(crate) enum FlowRule {
    /// All of it, if any bit of an operand is.
    #[default]
    Any,
    /// Each bit, if the same bit of one of these is (`xor`, `not`, `mov`).
    Union(Vec<Slot>),
    /// Bitwise and: unless the same bit of the other operand is a defined zero.
    And(Slot, Slot),
    /// Bitwise or: unless the same bit of the other operand is a defined one.
    Or(Slot, Slot),
    /// `selp`: if the predicate or the chosen operand is.
    Select { a: Slot, b: Slot, p: (Pred, bool) },
    /// The instruction moves bits of these rows about, as the other operands say.
    Moved(Vec<Slot>),
    /// Of predicates: unless an operand is a defined false.
    PredicateAnd,
    /// Of predicates: unless an operand is a defined true.
    PredicateOr,
    /// The instruction says itself what becomes undefined.
    Own,
}

/// Loads, stores and atomics: where they go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Address {
    pub(crate) space: Space,
    /// Base register and whether it has 64 bits.
    pub(crate) base: Option<(Slot, bool)>,
    pub(crate) offset: i64,
}

/// Memory ordering of an access (PTX ISA, "Memory Consistency Model").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Order {
    /// Anything but `.weak`.
    pub(crate) strong: bool,
    pub(crate) acquire: bool,
    pub(crate) release: bool,
    pub(crate) scope: Scope,
}

/// Which path an access to memory takes (PTX ISA, "Proxies").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proxy {
    Generic,
    /// `wgmma` and bulk copies: they see what ordinary stores wrote only after `fence.proxy.async`.
    Async,
}

/// Which threads an ordering concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Scope {
    Cta,
    Cluster,
    #[default]
    Gpu,
    Sys,
}

/// A load.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) at: Address,
    pub(crate) ty: Ty,
    /// Destination of each element (`None` for `_`) and its register width.
    pub(crate) dst: Vec<Option<(Slot, u32)>>,
    pub(crate) order: Order,
    /// Read for a compare-and-swap of the same place, which looks again: see `decode/guess.rs`.
    pub(crate) is_guess: bool,
}

/// A store.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) at: Address,
    pub(crate) ty: Ty,
    pub(crate) src: Vec<Slot>,
    pub(crate) order: Order,
}

/// The operation of `atom` and `red`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtomOp {
    Add,
    Min,
    Max,
    Inc,
    Dec,
    And,
    Or,
    Xor,
    Exch,
    Cas,
}

/// `atom`, `red` and their vector forms.
#[derive(Debug)]
pub(crate) struct Atomic {
    pub(crate) at: Address,
    pub(crate) op: AtomOp,
    pub(crate) ty: Ty,
    /// Empty for `red`.
    pub(crate) dst: Vec<Slot>,
    pub(crate) src: Vec<Slot>,
    /// The new value of `cas`.
    pub(crate) swap: Option<Slot>,
    pub(crate) order: Order,
}

/// `cp.async.{ca,cg}`.
#[derive(Debug)]
pub(crate) struct CopyAsync {
    pub(crate) dst: Address,
    pub(crate) src: Address,
    pub(crate) bytes: u32,
    /// Bytes really read; the rest is zero.
    pub(crate) src_size: Option<Slot>,
    /// `ignore-src`: the copy writes zeros where this holds.
    pub(crate) ignore: Option<(Pred, bool)>,
}

/// What a barrier instruction does on arrival.
#[derive(Debug, Clone, Copy)]
pub(crate) enum BarrierKind {
    Sync,
    Arrive,
    /// `.popc`
    Count {
        d: Slot,
        p: (Pred, bool),
    },
    /// `.and` (`true`) and `.or`
    Vote {
        d: Pred,
        p: (Pred, bool),
        and: bool,
    },
}

/// `bar` and `barrier`.
#[derive(Debug)]
pub(crate) struct Barrier {
    pub(crate) kind: BarrierKind,
    pub(crate) id: Slot,
    pub(crate) count: Option<Slot>,
    pub(crate) aligned: bool,
}

/// The four `shfl` modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shuffle {
    Up,
    Down,
    Bfly,
    Idx,
}

/// `vote`, `match`, `redux`, `elect`, `activemask`.
#[derive(Debug)]
pub(crate) enum Collective {
    Shuffle { mode: Shuffle, d: Slot, p: Option<Pred>, a: Slot, b: Slot, c: Slot },
    Ballot { d: Slot, p: (Pred, bool) },
    VoteAll { d: Pred, p: (Pred, bool) },
    VoteAny { d: Pred, p: (Pred, bool) },
    VoteUni { d: Pred, p: (Pred, bool) },
    MatchAny { d: Slot, a: Slot, wide: bool },
    MatchAll { d: Option<Slot>, p: Option<Pred>, a: Slot, wide: bool },
    Redux { op: AtomOp, signed: bool, d: Slot, a: Slot },
    Elect { d: Option<Slot>, p: Pred },
    WarpSync,
}

/// A call and where its arguments go.
#[derive(Debug)]
pub(crate) struct Call {
    /// Function, or the register that holds its address.
    pub(crate) target: CallTarget,
    pub(crate) args: Vec<Passed>,
    pub(crate) returns: Vec<Passed>,
}

/// The callee.
#[derive(Debug, Clone, Copy)]
pub(crate) enum CallTarget {
    Function(u32),
    Register(Slot),
    /// A system routine that the emulator provides.
    Builtin(Builtin),
}

/// Routines that every CUDA program may call without defining.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Builtin {
    Assert,
    Printf,
    Malloc,
    Free,
}

/// The caller's side of one argument or return value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Passed {
    /// A `.param` variable at this offset in the caller's frame.
    Frame { offset: u32 },
    /// A register of so many rows.
    Register { slot: Slot, rows: u32 },
}

/// The callee's side of one argument or return value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Formal {
    Frame { offset: u32, bytes: u32 },
    Register { slot: Slot, rows: u32 },
}

/// The operations of `mbarrier` (PTX ISA, "Parallel Synchronization: mbarrier").
#[derive(Debug)]
pub(crate) enum Mbar {
    Init {
        count: Slot,
    },
    Inval,
    Arrive {
        state: Option<Slot>,
        count: Option<Slot>,
        expect: Option<Slot>,
        drop: bool,
    },
    ExpectTx {
        tx: Slot,
    },
    CompleteTx {
        tx: Slot,
    },
    /// `test_wait` and `try_wait`, by state or by parity.
    Wait {
        p: Pred,
        state: Option<Slot>,
        parity: Option<Slot>,
        order: Order,
    },
    PendingCount {
        d: Slot,
        state: Slot,
    },
    /// `cp.async.mbarrier.arrive`
    CopyArrive {
        noinc: bool,
    },
}

/// Bulk copies (`cp.async.bulk`), as bytes between two places.
#[derive(Debug)]
pub(crate) struct Bulk {
    pub(crate) dst: Address,
    pub(crate) src: Address,
    pub(crate) size: Slot,
    /// Completion by mbarrier, else by bulk group.
    pub(crate) mbar: Option<Address>,
    /// `cp.reduce.async.bulk`
    pub(crate) reduce: Option<(AtomOp, Ty)>,
    /// `.multicast::cluster` mask.
    pub(crate) multicast: Option<Slot>,
}

/// `st.async` and `red.async`: values that travel to another block and complete on an mbarrier there.
#[derive(Debug)]
pub(crate) struct StoreAsync {
    pub(crate) at: Address,
    pub(crate) ty: Ty,
    pub(crate) src: Vec<Slot>,
    pub(crate) mbar: Address,
    pub(crate) reduce: Option<AtomOp>,
}

/// Tensor-map copies (`cp.async.bulk.tensor`, tile mode).
#[derive(Debug)]
pub(crate) struct Tensor {
    pub(crate) load: bool,
    pub(crate) map: Address,
    pub(crate) coords: Vec<Slot>,
    pub(crate) shared: Address,
    pub(crate) mbar: Option<Address>,
    pub(crate) multicast: Option<Slot>,
    pub(crate) reduce: Option<AtomOp>,
}

/// `tensormap.replace`
#[derive(Debug)]
pub(crate) struct TensorReplace {
    pub(crate) at: Address,
    pub(crate) field: crate::exec::tensormap::Field,
    pub(crate) ordinal: u32,
    pub(crate) value: Slot,
    pub(crate) wide: bool,
}

/// What an instruction does.
pub(crate) enum Op {
    /// Anything that touches only registers of its own lane.
    Alu(AluFn),
    Bra(u32),
    BrxIdx {
        index: Slot,
        targets: Vec<u32>,
    },
    Call(Box<Call>),
    Ret,
    Exit,
    Trap,
    Nop,
    Clock {
        d: Slot,
        wide: bool,
    },
    Sleep,
    Load(Box<Load>),
    Store(Box<Store>),
    Atomic(Box<Atomic>),
    CopyAsync(Box<CopyAsync>),
    CommitGroup,
    /// Wait until at most so many groups are pending.
    WaitGroup(u32),
    Barrier(Box<Barrier>),
    ClusterArrive,
    ClusterWait,
    Fence {
        scope: Scope,
    },
    ProxyFence,
    Collective(Box<Collective>, Slot),
    ActiveMask(Slot),
    Matrix(Box<crate::exec::matrix::Matrix>),
    Mbar(Box<Mbar>, Address),
    StoreAsync(Box<StoreAsync>),
    Bulk(Box<Bulk>),
    BulkTensor(Box<Tensor>),
    BulkCommit,
    BulkWait(u32),
    TensorReplace(Box<TensorReplace>),
    MapCopy(Box<(Address, Address)>),
    IsSpace {
        p: Pred,
        a: Slot,
        space: Space,
    },
    Alloca {
        d: Slot,
        size: Slot,
        align: u64,
    },
    StackSave(Slot),
    StackRestore(Slot),
}

impl Op {
    /// `wgmma.mma_async`, the only one that may name registers which are on their way.
    pub(crate) fn is_wgmma(&self) -> bool {
        use crate::exec::matrix::Matrix;
        matches!(self, Op::Matrix(m) if matches!(**m, Matrix::Wgmma(_)))
    }
}

/// A variable in shared memory, for messages and red zones.
#[derive(Debug, Clone)]
pub(crate) struct SharedVariable {
    pub(crate) name: String,
    pub(crate) offset: u32,
    /// `None`: dynamic, sized by the launch.
    pub(crate) bytes: Option<u32>,
}

/// A special register and where its value is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub(crate) enum Special {
    Tid(u8),
    Ntid(u8),
    Ctaid(u8),
    Nctaid(u8),
    LaneId,
    WarpId,
    NWarpId,
    SmId,
    NSmId,
    GridId,
    LaneMaskEq,
    LaneMaskLe,
    LaneMaskLt,
    LaneMaskGe,
    LaneMaskGt,
    DynamicShared,
    TotalShared,
    AggrShared,
    IsExplicitCluster,
    ClusterId(u8),
    NClusterId(u8),
    ClusterCtaid(u8),
    ClusterNctaid(u8),
    ClusterCtarank,
    ClusterNctarank,
    Zero,
}

/// A function after decoding.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) is_entry: bool,
    /// First instruction; `None` for a declaration without body.
    pub(crate) entry: Option<u32>,
    pub(crate) params: Vec<Formal>,
    pub(crate) returns: Vec<Formal>,
    /// Kernel parameters: name, offset in the parameter buffer, bytes.
    pub(crate) kernel_params: Vec<(String, u32, u32)>,
    /// Bytes of local and parameter variables.
    pub(crate) frame: u32,
    /// Its registers: rows and predicates, saved around calls if it is recursive.
    pub(crate) rows: (u32, u32),
    pub(crate) preds: (u32, u32),
    pub(crate) recursive: bool,
    pub(crate) threads: Option<(Vec<u32>, bool)>,
    pub(crate) cluster: Option<Vec<u32>>,
    pub(crate) callees: Vec<u32>,
    pub(crate) calls_indirectly: bool,
    /// Shared variables it or the module declares.
    pub(crate) span: Span,
}

/// A loaded module.
#[derive(Default)]
pub(crate) struct Program {
    pub(crate) text: String,
    /// Vector instructions of the host that the closures in `code` use.
    pub(crate) isa: Isa,
    pub(crate) target: String,
    pub(crate) code: Vec<Inst>,
    pub(crate) functions: Vec<Function>,
    pub(crate) opcodes: Vec<String>,
    pub(crate) rows: u32,
    pub(crate) preds: u32,
    /// Rows to fill with a constant when a warp is made.
    pub(crate) constants: Vec<(Slot, u32)>,
    /// Rows to fill from the launch; `true` for a 64-bit register.
    pub(crate) specials: Vec<(Special, Slot, bool)>,
    /// 64-bit register that holds the frame address of each lane.
    pub(crate) frame_slot: Slot,
    pub(crate) shared: Vec<SharedVariable>,
    /// Bytes at the front of shared memory that belong to the system, zeroed for each block.
    pub(crate) reserved_shared: u32,
    /// Bytes of static shared memory; dynamic memory begins here.
    pub(crate) static_shared: u32,
    pub(crate) const_bytes: Vec<u8>,
    pub(crate) global_bytes: Vec<u8>,
    /// Global bytes that an initialiser gave.
    pub(crate) global_variables: Vec<(String, u64, u64)>,
    /// It has `wgmma`, whose registers are ordered by fences.
    pub(crate) has_wgmma: bool,
    /// It has operations that read shared memory through the asynchronous proxy.
    pub(crate) has_async_reads: bool,
}

impl Program {
    /// The text of a line, for messages.
    pub(crate) fn line_text(&self, line: u32) -> &str {
        self.text.lines().nth(line.saturating_sub(1) as usize).unwrap_or("").trim()
    }
}
