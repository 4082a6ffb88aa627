//! The plan: a static list of kernel launches with an address for every buffer.
//!
//! All executors read this one format. A plan works in one **arena** of the device's memory: the states (weights,
//! optimizer moments, then copies of weights in bf16) lie first and at the same addresses in every plan of a program; inputs,
//! results and everything transient follow. Repeated layers are loops, over all turns or some of
//! them: layers that are computed differently are **segments** of one loop. An address inside a loop
//! is `base + Σ stride · ((turn + shift) mod modulus)`, so the length of a plan does not depend on
//! the depth of the model. Nothing is allocated and nothing depends on the host while a plan runs.
//!
//! What the device has no room for may be copied to the **host arena** and back; kernels take
//! addresses of the device alone.
//!
//! Items run on **streams**: those of one stream one after another, in the order of the text, those of
//! different streams side by side, unless one waits for an **event** that another records. A record
//! always stands before its waits, so an executor may as well run all items in the order of the text.

mod apart;
mod positions;
mod print;
mod run;

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::graph::{Feed, Init, NamePart, Role, Slot};
use crate::kernel::{Access, Storage};

pub use apart::apart;
pub use positions::{BEGINNING, Moment, What, moments};
pub use run::{Call, Command, Spot};

/// Alignment of every buffer in the arena, in bytes: a cache line, and the widest vector.
pub const ALIGNMENT: u64 = 64;

/// A memory with an arena.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub enum Memory {
    /// That of the device, in which kernels work.
    #[default]
    Device,
    /// That of the machine around it.
    Host,
}

/// One end of a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Which memory.
    pub memory: Memory,
    /// Where in its arena.
    pub address: Address,
}

impl End {
    /// An address of the device.
    pub fn device(address: Address) -> Self {
        Self { memory: Memory::Device, address }
    }

    /// An address of the host.
    pub fn host(address: Address) -> Self {
        Self { memory: Memory::Host, address }
    }
}

/// Where a buffer lies, in bytes from the start of its arena.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Address {
    /// Address in turn 0 of all loops.
    pub base: u64,
    /// Contributions of the loops around the item.
    pub turns: Vec<TurnTerm>,
}

/// `stride · ((turn + shift) mod modulus)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TurnTerm {
    /// Which loop: 0 is the outermost one around the item.
    pub depth: u32,
    /// Bytes per turn.
    pub stride: u64,
    /// Added to the turn before the modulus; the sum is never negative.
    pub shift: i64,
    /// Number of slots used in rotation; 0 for one slot per turn.
    pub modulus: u64,
}

impl Address {
    /// A fixed address.
    pub fn fixed(base: u64) -> Self {
        Self { base, turns: Vec::new() }
    }

    /// The address in the given turns, outermost loop first.
    pub fn at(&self, turns: &[u64]) -> u64 {
        self.turns.iter().fold(self.base, |address, term| {
            let turn = turns[term.depth as usize].wrapping_add_signed(term.shift);
            address + term.stride * if term.modulus == 0 { turn } else { turn % term.modulus }
        })
    }
}

/// When an item runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its stream: an index in [`Plan::streams`].
    pub stream: u32,
    /// What must have happened before.
    pub waits: Vec<Wait>,
    /// Events recorded when it ends, below [`Plan::events`].
    pub records: Vec<u32>,
}

/// Waits until an event was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// The event.
    pub event: u32,
    /// Which record: 0 is the latest before this place of the program, 1 the one before it, and so
    /// on: the distance in turns. A record that never was is not waited for.
    pub behind: u32,
}

/// A kernel with its arguments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Index in [`Plan::kernels`].
    pub kernel: u32,
    /// One address for each argument buffer.
    pub buffers: Vec<Address>,
    /// Int arguments: turns of the loops of these depths.
    pub scalars: Vec<u32>,
}

/// One item of the program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Item {
    /// Runs all grid points of a kernel, or of several kernels that have nothing to do with each other: no part writes
    /// what another one reads or writes. The points are those of the parts in a row, and run in any order.
    Launch {
        /// The kernels; at least one.
        parts: Vec<Part>,
        /// When.
        order: Order,
    },
    /// Copies bytes; the ranges do not overlap.
    Copy {
        /// Source.
        from: End,
        /// Destination.
        to: End,
        /// Length.
        bytes: u64,
        /// When.
        order: Order,
    },
    /// Runs a body for the turns `first … first + count − 1`, or down from the last one.
    Loop {
        /// Name of the axis.
        axis: String,
        /// The lowest turn.
        first: u64,
        /// Number of turns.
        count: u64,
        /// Whether turns run down.
        reversed: bool,
        /// Items of one turn.
        body: Vec<Item>,
    },
}

impl Item {
    /// A launch of one kernel on the first stream.
    pub fn launch(kernel: u32, buffers: Vec<Address>, scalars: Vec<u32>) -> Self {
        Self::Launch { parts: vec![Part { kernel, buffers, scalars }], order: Order::default() }
    }
}

/// An argument of a kernel, as the verifier needs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Argument {
    /// Name in the kernel.
    pub name: String,
    /// Direction.
    pub access: Access,
    /// Bytes from the address passed.
    pub bytes: u64,
}

/// What launches run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launched {
    /// A name that no other one has: that of the kernel where it is one alone.
    pub name: String,
    /// The kernels of the parts: indices in [`Plan::kernels`].
    pub kernels: Vec<u32>,
}

/// A kernel as the plan sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelInfo {
    /// Name: the entry in the image.
    pub name: String,
    /// What it computes, for people.
    pub origin: String,
    /// Number of grid points.
    pub grid_points: u64,
    /// Argument buffers.
    pub arguments: Vec<Argument>,
    /// Floating-point operations of one launch; multiply-add is 2.
    pub flops: u64,
}

/// What a buffer is for: the rows of the memory table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Category {
    /// Weights.
    Weights,
    /// Moments of the optimizer.
    Optimizer,
    /// Weights in bf16.
    Copies,
    /// Inputs of the step.
    Inputs,
    /// Results that the host reads.
    Results,
    /// Gradients of parameters.
    Gradients,
    /// Activations kept from the forward loops for the backward loops.
    Saved,
    /// Such activations in the host's memory.
    Offloaded,
    /// Everything that lives within one turn or one segment.
    Transient,
}

impl Category {
    /// The memory that buffers of this kind lie in.
    pub fn memory(self) -> Memory {
        match self {
            Self::Offloaded => Memory::Host,
            _ => Memory::Device,
        }
    }

    /// What a state is for.
    pub fn of(slot: Slot) -> Self {
        match slot {
            Slot::Weight => Self::Weights,
            Slot::Moment1 | Slot::Moment2 => Self::Optimizer,
            Slot::Rounded => Self::Copies,
        }
    }

    /// Whether such buffers are states.
    pub fn is_state(self) -> bool {
        matches!(self, Self::Weights | Self::Optimizer | Self::Copies)
    }
}

/// A buffer of an arena. Two buffers whose lifetimes do not overlap may share bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanBuffer {
    /// Name for people.
    pub name: String,
    /// What it is for.
    pub category: Category,
    /// First byte.
    pub offset: u64,
    /// Length, all slots together.
    pub bytes: u64,
    /// First and last position of the flat program order in which it is live.
    pub live: (u32, u32),
}

/// A state tensor: persists from step to step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Index in [`Plan::params`].
    pub param: u32,
    /// Which state of the parameter.
    pub slot: Slot,
    /// First byte in the arena. Elements lie in the parameter's storage order.
    pub offset: u64,
}

/// A parameter, as checkpoints, import, export and initialisation need it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanParam {
    /// Unique name.
    pub name: String,
    /// Axes in storage order: name and size; row-major.
    pub axes: Vec<(String, u64)>,
    /// Dimensions of the declared storage shape: how many consecutive axes each one merges.
    pub dims: Vec<u32>,
    /// Initial values.
    pub init: Init,
    /// Whether the optimizer changes it.
    pub frozen: bool,
    /// Name template; axis ids index `axes`.
    pub name_template: Vec<NamePart>,
    /// Positions in `axes` of those spread over several stored tensors.
    pub spread: Vec<u32>,
    /// First index in each stored dimension.
    pub from: Vec<u64>,
}

impl PlanParam {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.axes.iter().map(|(_, size)| size).product()
    }
}

/// An input buffer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanInput {
    /// Column of the data.
    pub name: String,
    /// Where it comes from.
    pub feed: Feed,
    /// Element type.
    pub storage: Storage,
    /// For ints: the range `[lo, hi)` that data must lie in.
    pub range: Option<(i64, i64)>,
    /// Axes: name and size, row-major; the last one is time, those before it count rows.
    pub axes: Vec<(String, u64)>,
    /// First byte in the arena.
    pub offset: u64,
}

/// A result that the host may read after the plan has run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanResult {
    /// What it is.
    pub role: Role,
    /// Element type.
    pub storage: Storage,
    /// Axes: name and size, row-major.
    pub axes: Vec<(String, u64)>,
    /// First byte in the arena.
    pub offset: u64,
}

/// Name of the stream of launches.
pub const COMPUTE: &str = "compute";
/// Name of the stream of copies between memories.
pub const COPIES: &str = "copies";

/// A static program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Name: `step`, `evaluate` or `outputs`.
    pub name: String,
    /// Bytes of the arena.
    pub arena_bytes: u64,
    /// Largest number of bytes live at one time: the lower bound for `arena_bytes`.
    pub live_bytes: u64,
    /// Bytes of the host arena.
    pub host_bytes: u64,
    /// Parameters.
    pub params: Vec<PlanParam>,
    /// States, by offset.
    pub states: Vec<State>,
    /// Inputs.
    pub inputs: Vec<PlanInput>,
    /// Results.
    pub results: Vec<PlanResult>,
    /// All buffers with their lifetimes.
    pub buffers: Vec<PlanBuffer>,
    /// Kernels.
    pub kernels: Vec<KernelInfo>,
    /// Names of the streams.
    pub streams: Vec<String>,
    /// Number of events.
    pub events: u32,
    /// The program.
    pub items: Vec<Item>,
}

impl Plan {
    /// Elements of a state.
    pub fn elements(&self, state: &State) -> u64 {
        self.params[state.param as usize].elements()
    }

    /// The bytes of a state in the arena.
    pub fn extent(&self, state: &State) -> Range<u64> {
        let bytes = self.elements(state) * state.slot.dtype().storage().bytes();
        state.offset..state.offset + bytes
    }

    /// The result with a role.
    pub fn result(&self, role: &Role) -> Option<&PlanResult> {
        self.results.iter().find(|r| r.role == *role)
    }

    /// A byte of either arena as a number: those of the host follow those of the device.
    pub fn flat(&self, memory: Memory, byte: u64) -> u64 {
        match memory {
            Memory::Device => byte,
            Memory::Host => self.arena_bytes + byte,
        }
    }

    /// An end of a copy in the same numbers.
    pub fn flat_end(&self, end: &End) -> Address {
        let Address { base, turns } = &end.address;
        Address { base: self.flat(end.memory, *base), turns: turns.clone() }
    }

    /// What a part touches: the address of each argument, its bytes, and whether it is written.
    pub fn accesses<'p>(
        &'p self,
        part: &'p Part,
    ) -> impl Iterator<Item = (&'p Address, u64, bool)> {
        let arguments = &self.kernels[part.kernel as usize].arguments;
        part.buffers.iter().zip(arguments).map(|(a, b)| (a, b.bytes, b.access != Access::Read))
    }

    /// The different launches, in the order of the text.
    pub fn launched(&self) -> Vec<Launched> {
        let mut found = Vec::new();
        launched(&self.items, &mut found);
        let mut several = 0;
        let name = |kernels: Vec<u32>| {
            let first = &self.kernels[kernels[0] as usize].name;
            let name = match kernels.len() {
                1 => first.clone(),
                _ => {
                    several += 1;
                    let stem = first.rsplit_once('_').map_or(&first[..], |(stem, _)| stem);
                    format!("{stem}_together_{}", several - 1)
                }
            };
            Launched { name, kernels }
        };
        found.into_iter().map(name).collect()
    }

    /// What a launch of some kernels does, for people.
    pub fn describe(&self, kernels: &[u32]) -> String {
        let each: Vec<String> = kernels
            .iter()
            .map(|kernel| &self.kernels[*kernel as usize])
            .map(|kernel| format!("{} ({})", kernel.name, kernel.origin))
            .collect();
        match &each[..] {
            [one] => one.clone(),
            several => format!("{} together: {}", several.len(), several.join(", ")),
        }
    }

    /// The input of a name.
    pub fn input(&self, name: &str) -> Option<&PlanInput> {
        self.inputs.iter().find(|i| i.name == name)
    }
}

fn launched(items: &[Item], found: &mut Vec<Vec<u32>>) {
    for item in items {
        match item {
            Item::Launch { parts, .. } => {
                let kernels = parts.iter().map(|part| part.kernel).collect();
                if !found.contains(&kernels) {
                    found.push(kernels);
                }
            }
            Item::Copy { .. } => {}
            Item::Loop { body, .. } => launched(body, found),
        }
    }
}
