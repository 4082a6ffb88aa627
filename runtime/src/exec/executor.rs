//! Runs a plan on the CPU: walks its items in the order of the text, one launch after the other,
//! whatever their streams.
//!
//! All memory is set aside when the executor is made; running allocates nothing. The host arena of a
//! plan is a mapping of the executor's own, guarded like the arena: nothing in it outlives a run.

use std::time::Instant;

use gigac_ir::plan::{Address, Item, Memory, Part, Plan, Spot};

use crate::error::{Error, Result};
use crate::exec::arena::Arena;
use crate::exec::checked::Ends;
use crate::exec::code::{Kernel, Kernels};
use crate::exec::pool::Pool;
use crate::exec::profile::Profile;

/// Deepest nesting of loops that a plan may have.
const MAX_DEPTH: usize = 16;
/// Copies below this length run on the calling thread alone.
const COPY_CHUNK: u64 = 256 << 10;

/// A plan bound to its kernels.
pub struct Executor<'p> {
    pub(super) plan: &'p Plan,
    kernels: Vec<Kernel>,
    frame: Frame,
    /// The host arena.
    pub(super) host: Arena,
    profile: Option<Profile>,
    /// What a checked run needs to know, once there was one.
    pub(super) ends: Option<Ends>,
}

/// The launch in hand: arguments of all parts, one part after the other.
#[derive(Default)]
struct Frame {
    buffers: Vec<*mut u8>,
    scalars: Vec<i64>,
    calls: Vec<Call>,
    /// Where the points of each part end in the row of all.
    ends: Vec<u64>,
}

/// A part of a launch: its code, and where its arguments begin.
struct Call {
    kernel: Kernel,
    buffers: usize,
    scalars: usize,
}

impl Frame {
    /// With room for the largest launch.
    fn of(items: &[Item]) -> Self {
        let Widest { parts, buffers, scalars } = widest(items);
        Self {
            buffers: Vec::with_capacity(buffers),
            scalars: Vec::with_capacity(scalars),
            calls: Vec::with_capacity(parts),
            ends: Vec::with_capacity(parts),
        }
    }

    fn clear(&mut self) {
        self.buffers.clear();
        self.scalars.clear();
        self.calls.clear();
        self.ends.clear();
    }

    fn add(&mut self, part: &Part, kernel: Kernel, points: u64, arena: &Arena, turns: &[u64]) {
        let (buffers, scalars) = (self.buffers.len(), self.scalars.len());
        self.calls.push(Call { kernel, buffers, scalars });
        self.buffers.extend(part.buffers.iter().map(|a| pointer(arena, a, turns)));
        self.scalars.extend(part.scalars.iter().map(|depth| turns[*depth as usize] as i64));
        self.ends.push(self.ends.last().copied().unwrap_or(0) + points);
    }

    /// Runs points of a part.
    fn run(&self, part: usize, first: u64, last: u64, scratch: *mut u8) {
        let Call { kernel, buffers, scalars } = &self.calls[part];
        let (buffers, scalars) =
            (self.buffers[*buffers..].as_ptr(), self.scalars[*scalars..].as_ptr());
        // SAFETY: the plan verifier checked number and extent of the arguments against the kernel,
        // grid points are independent, parts too, and the pool's scratch is as large as any kernel asks.
        unsafe { (kernel.entry)(buffers, scalars, first, last, scratch) }
    }
}

// SAFETY: the pointers in a frame are written before each launch and never read otherwise.
unsafe impl Send for Frame {}
// SAFETY: as above; workers only read a frame during a launch.
unsafe impl Sync for Frame {}

/// The turns of the loops around an item, outermost first.
#[derive(Clone, Copy, Default)]
pub(super) struct Turns {
    turns: [u64; MAX_DEPTH],
    depth: usize,
}

impl Turns {
    pub(super) fn inside(&self) -> &[u64] {
        &self.turns[..self.depth]
    }

    pub(super) fn enter(mut self, turn: u64) -> Self {
        self.turns[self.depth] = turn;
        self.depth += 1;
        self
    }
}

impl<'p> Executor<'p> {
    /// Binds a plan, which must have passed the plan verifier, to the kernels it names and to an
    /// arena of so many bytes.
    ///
    /// # Errors
    /// [`Error::Machine`] when the arena is too small for the plan or the host arena cannot be mapped,
    /// and, for a damaged executable, when a kernel is missing or loops nest too deeply.
    pub fn new(plan: &'p Plan, kernels: &Kernels, arena_bytes: u64) -> Result<Self> {
        if arena_bytes < plan.arena_bytes {
            return Err(Error::Machine(format!(
                "plan `{}` needs an arena of {} bytes, and there are {arena_bytes}",
                plan.name, plan.arena_bytes
            )));
        }
        let missing = |name: &str| {
            Error::Machine(format!("plan `{}`: the executable has no kernel `{name}`", plan.name))
        };
        let bound: Result<Vec<Kernel>> = plan
            .kernels
            .iter()
            .map(|k| kernels.get(&k.name).ok_or_else(|| missing(&k.name)))
            .collect();
        if depth(&plan.items) > MAX_DEPTH {
            return Err(Error::Machine(format!(
                "plan `{}` nests over {MAX_DEPTH} loops",
                plan.name
            )));
        }
        let frame = Frame::of(&plan.items);
        let host = Arena::new(plan.host_bytes)?;
        Ok(Self { plan, kernels: bound?, frame, host, profile: None, ends: None })
    }

    /// The plan.
    pub fn plan(&self) -> &'p Plan {
        self.plan
    }

    /// Times every launch and copy from now on.
    pub fn start_profile(&mut self) {
        self.profile = Some(Profile::new(self.plan));
    }

    /// What has been timed since [`Executor::start_profile`].
    pub fn profile(&self) -> Option<&Profile> {
        self.profile.as_ref()
    }

    /// Runs the whole plan.
    pub fn run(&mut self, arena: &mut Arena, pool: &mut Pool) {
        assert!(self.plan.arena_bytes <= arena.bytes(), "the arena is too small for the plan");
        let plan = self.plan;
        self.profile.iter_mut().for_each(Profile::run);
        self.items(&plan.items, Turns::default(), arena, pool);
    }

    pub(super) fn items(
        &mut self,
        items: &[Item],
        turns: Turns,
        arena: &mut Arena,
        pool: &mut Pool,
    ) {
        for item in items {
            let started = self.profile.as_ref().map(|_| Instant::now());
            match item {
                Item::Launch { parts, .. } => {
                    self.launch(parts, turns.inside(), arena, pool);
                    if let (Some(profile), Some(started)) = (&mut self.profile, started) {
                        profile.launch(self.plan, parts, started);
                    }
                }
                Item::Copy { from, to, bytes, .. } => {
                    let [from, to] = [from, to].map(|end| end.at(turns.inside()));
                    copy((arena, &mut self.host), from, to, *bytes, pool);
                    if let (Some(profile), Some(started)) = (&mut self.profile, started) {
                        profile.copy(*bytes, started);
                    }
                }
                Item::Loop { first, count, reversed, body, .. } => {
                    for turn in 0..*count {
                        let turn = first + if *reversed { count - 1 - turn } else { turn };
                        self.items(body, turns.enter(turn), arena, pool);
                    }
                }
            }
        }
    }
}

impl Executor<'_> {
    fn launch(&mut self, parts: &[Part], turns: &[u64], arena: &Arena, pool: &mut Pool) {
        self.frame.clear();
        for part in parts {
            let points = self.plan.kernels[part.kernel as usize].grid_points;
            self.frame.add(part, self.kernels[part.kernel as usize], points, arena, turns);
        }
        let frame = &self.frame;
        match self.profile.as_ref().filter(|_| parts.len() > 1) {
            None => pool.run(&frame.ends, &|part, first, last, scratch| {
                frame.run(part, first, last, scratch);
            }),
            Some(profile) => pool.run(&frame.ends, &|part, first, last, scratch| {
                profile.of_part(part, || frame.run(part, first, last, scratch));
            }),
        }
    }
}

fn pointer(arena: &Arena, address: &Address, turns: &[u64]) -> *mut u8 {
    // SAFETY: the plan verifier proved that every address of the plan is inside the arena.
    unsafe { arena.base().add(address.at(turns) as usize) }
}

/// Copies between or within the arenas of device and host.
fn copy(
    (device, host): (&mut Arena, &mut Arena),
    from: Spot,
    to: Spot,
    bytes: u64,
    pool: &mut Pool,
) {
    let (device, host): (&Arena, &Arena) = (device, host);
    let arena = |spot: Spot| match spot.memory {
        Memory::Device => device,
        Memory::Host => host,
    };
    pool.run(&[bytes.div_ceil(COPY_CHUNK)], &|_, first, last, _| {
        let start = first * COPY_CHUNK;
        let length = (last * COPY_CHUNK).min(bytes) - start;
        // SAFETY: verified to be inside the arenas and disjoint; chunks are disjoint too.
        unsafe {
            let source = arena(from).base().add((from.offset + start) as usize);
            let target = arena(to).base().add((to.offset + start) as usize);
            std::ptr::copy_nonoverlapping(source, target, length as usize);
        }
    });
}

fn depth(items: &[Item]) -> usize {
    let nested = |item: &Item| match item {
        Item::Loop { body, .. } => 1 + depth(body),
        _ => 0,
    };
    items.iter().map(nested).max().unwrap_or(0)
}

/// The largest numbers of parts, of buffers and of scalars of a launch.
#[derive(Default)]
pub(super) struct Widest {
    pub(super) parts: usize,
    buffers: usize,
    scalars: usize,
}

pub(super) fn widest(items: &[Item]) -> Widest {
    items.iter().fold(Widest::default(), |most, item| {
        let Widest { parts, buffers, scalars } = match item {
            Item::Launch { parts, .. } => Widest {
                parts: parts.len(),
                buffers: parts.iter().map(|part| part.buffers.len()).sum(),
                scalars: parts.iter().map(|part| part.scalars.len()).sum(),
            },
            Item::Copy { .. } => Widest::default(),
            Item::Loop { body, .. } => widest(body),
        };
        Widest {
            parts: most.parts.max(parts),
            buffers: most.buffers.max(buffers),
            scalars: most.scalars.max(scalars),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use gigac_ir::kernel::Access;
    use gigac_ir::plan::{
        Argument, COMPUTE, Category, End, KernelInfo, Order, PlanBuffer, TurnTerm,
    };

    /// Appends `10·outer + inner` to a list whose length stands in front.
    unsafe extern "C" fn append(b: *const *mut u8, s: *const i64, _: u64, _: u64, _: *mut u8) {
        // SAFETY: the plan below passes a list of 16 ints and two scalars.
        unsafe {
            let list = std::slice::from_raw_parts_mut((*b).cast::<i32>(), 16);
            list[0] += 1;
            list[list[0] as usize] = (10 * *s + *s.add(1)) as i32;
        }
    }

    fn term(depth: u32, stride: u64, modulus: u64) -> TurnTerm {
        TurnTerm { depth, stride, shift: 0, modulus }
    }

    fn plan(items: Vec<Item>, arguments: Vec<Argument>) -> Plan {
        let kernel = KernelInfo {
            name: "append".into(),
            origin: String::new(),
            grid_points: 1,
            arguments,
            flops: 0,
        };
        Plan {
            name: "test".into(),
            arena_bytes: 256,
            live_bytes: 256,
            host_bytes: 0,
            params: vec![],
            states: vec![],
            inputs: vec![],
            results: vec![],
            buffers: vec![PlanBuffer {
                name: "all".into(),
                category: Category::Inputs,
                offset: 0,
                bytes: 256,
                live: (0, 99),
            }],
            kernels: vec![kernel],
            streams: vec![COMPUTE.into()],
            events: 0,
            items,
        }
    }

    fn run(plan: &Plan) -> Arena {
        gigac_ir::plan_verify::verify(plan).unwrap();
        let kernels =
            Kernels::linked([("append".to_owned(), Kernel { entry: append, scratch_bytes: 0 })]);
        let mut arena = Arena::new(plan.arena_bytes).unwrap();
        let mut pool = Pool::new(2, 0).unwrap();
        Executor::new(plan, &kernels, plan.arena_bytes).unwrap().run(&mut arena, &mut pool);
        arena
    }

    fn repeat(count: u64, reversed: bool, body: Vec<Item>) -> Item {
        Item::Loop { axis: "L".into(), first: 0, count, reversed, body }
    }

    #[test]
    fn loops_run_up_and_down() {
        let list = Argument { name: "list".into(), access: Access::ReadWrite, bytes: 64 };
        let launch = Item::launch(0, vec![Address::fixed(0)], vec![0, 1]);
        let plan = plan(vec![repeat(3, true, vec![repeat(2, false, vec![launch])])], vec![list]);
        assert_eq!(run(&plan).slice::<i32>(0, 7), [6, 20, 21, 10, 11, 0, 1]);
    }

    #[test]
    fn addresses_follow_turns() {
        let list = Argument { name: "list".into(), access: Access::ReadWrite, bytes: 64 };
        let slot = Address { base: 0, turns: vec![term(0, 64, 2)] };
        let launch = Item::launch(0, vec![slot.clone()], vec![0, 0]);
        let to = Address { base: 128, turns: vec![term(0, 4, 0)] };
        let (from, to) = (End::device(slot), End::device(to));
        let copy = Item::Copy { from, to, bytes: 4, order: Order::default() };
        let plan = plan(vec![repeat(5, false, vec![launch, copy])], vec![list]);
        let arena = run(&plan);
        assert_eq!(arena.slice::<i32>(0, 4), [3, 0, 22, 44]);
        assert_eq!(arena.slice::<i32>(64, 3), [2, 11, 33]);
        // Lengths of the two lists as they were after each turn.
        assert_eq!(arena.slice::<i32>(128, 5), [1, 1, 2, 2, 3]);
    }

    #[test]
    fn segments_begin_where_they_say() {
        let list = Argument { name: "list".into(), access: Access::ReadWrite, bytes: 64 };
        let launch = |shift| {
            let turns = vec![TurnTerm { depth: 0, stride: 64, shift, modulus: 0 }];
            Item::launch(0, vec![Address { base: 0, turns }], vec![0, 0])
        };
        let segment = |first, reversed| Item::Loop {
            axis: "L".into(),
            first,
            count: 2,
            reversed,
            body: vec![launch(-(first as i64))],
        };
        let arena = run(&plan(vec![segment(3, false), segment(1, true)], vec![list]));
        assert_eq!(arena.slice::<i32>(0, 3), [2, 33, 11]);
        assert_eq!(arena.slice::<i32>(64, 3), [2, 44, 22]);
    }

    #[test]
    fn a_profile_counts_calls_of_a_run() {
        let list = Argument { name: "list".into(), access: Access::ReadWrite, bytes: 64 };
        let launch = Item::launch(0, vec![Address::fixed(0)], vec![0, 0]);
        let copy = Item::Copy {
            from: End::device(Address::fixed(0)),
            to: End::device(Address::fixed(64)),
            bytes: 64,
            order: Order::default(),
        };
        let plan = plan(vec![repeat(5, false, vec![launch]), copy], vec![list]);
        let kernels =
            Kernels::linked([("append".to_owned(), Kernel { entry: append, scratch_bytes: 0 })]);
        let mut arena = Arena::new(plan.arena_bytes).unwrap();
        let mut pool = Pool::new(1, 0).unwrap();
        let mut executor = Executor::new(&plan, &kernels, plan.arena_bytes).unwrap();
        executor.start_profile();
        for _ in 0..3 {
            arena.slice_mut::<i32>(0, 1)[0] = 0;
            executor.run(&mut arena, &mut pool);
        }
        let rows = executor.profile().unwrap().to_json(&plan);
        let calls = |name: &str| {
            let row = rows.as_array().unwrap().iter().find(|row| row["kernel"] == name).unwrap();
            row["calls"].as_u64().unwrap()
        };
        assert_eq!((calls("append"), calls("copy")), (5, 1));
    }

    /// Lists in two slices take the turn at once; each part has its own arguments, and a row of the profile.
    #[test]
    fn parts_of_a_launch_run_with_their_own_arguments() {
        let list = Argument { name: "list".into(), access: Access::ReadWrite, bytes: 64 };
        let part = |base, scalars| Part { kernel: 0, buffers: vec![Address::fixed(base)], scalars };
        let parts = vec![part(0, vec![0, 1]), part(128, vec![1, 0]), part(64, vec![1, 1])];
        let launch = Item::Launch { parts, order: Order::default() };
        let plan = plan(vec![repeat(2, false, vec![repeat(2, true, vec![launch])])], vec![list]);
        let arena = run(&plan);
        assert_eq!(arena.slice::<i32>(0, 5), [4, 1, 0, 11, 10]);
        assert_eq!(arena.slice::<i32>(128, 5), [4, 10, 0, 11, 1]);
        assert_eq!(arena.slice::<i32>(64, 5), [4, 11, 0, 11, 0]);
        let kernels =
            Kernels::linked([("append".to_owned(), Kernel { entry: append, scratch_bytes: 0 })]);
        let (mut arena, mut pool) = (Arena::new(256).unwrap(), Pool::new(2, 0).unwrap());
        let mut executor = Executor::new(&plan, &kernels, plan.arena_bytes).unwrap();
        executor.start_profile();
        executor.run(&mut arena, &mut pool);
        let rows = executor.profile().unwrap().to_json(&plan);
        assert_eq!(
            (rows[0]["kernel"].as_str(), rows[0]["calls"].as_u64()),
            (Some("append"), Some(12))
        );
    }

    /// A list goes to the host and comes back behind itself.
    #[test]
    fn copies_reach_the_host_and_return() {
        let list = Argument { name: "list".into(), access: Access::ReadWrite, bytes: 64 };
        let launch = Item::launch(0, vec![Address::fixed(0)], vec![0, 0]);
        let copy = |from, to| Item::Copy { from, to, bytes: 64, order: Order::default() };
        let slice = Address { base: 0, turns: vec![term(0, 64, 0)] };
        let back = Address { base: 64, turns: vec![term(0, 64, 0)] };
        let out = copy(End::device(Address::fixed(0)), End::host(slice.clone()));
        let items = vec![
            repeat(3, false, vec![launch, out]),
            repeat(3, true, vec![copy(End::host(slice), End::device(back))]),
        ];
        let mut plan = plan(items, vec![list]);
        plan.host_bytes = 192;
        let live = PlanBuffer {
            name: "host".into(),
            category: Category::Offloaded,
            offset: 0,
            bytes: 192,
            live: (0, 99),
        };
        plan.buffers.push(live);
        let arena = run(&plan);
        for turn in 0..3 {
            let list = arena.slice::<i32>(64 + 64 * turn as u64, 4);
            assert_eq!(list[0], turn + 1, "the list as it was after turn {turn}");
            assert_eq!(list[turn as usize + 1], 11 * turn);
        }
    }

    #[test]
    fn a_missing_kernel_is_named() {
        let error =
            Executor::new(&plan(vec![], vec![]), &Kernels::linked([]), 256).map(drop).unwrap_err();
        assert!(error.to_string().contains("`append`"), "{error}");
    }

    #[test]
    fn an_arena_one_unit_smaller_is_refused() {
        let (plan, kernels) = (plan(vec![], vec![]), Kernels::linked([]));
        let error = Executor::new(&plan, &kernels, 256 - gigac_ir::plan::ALIGNMENT).map(drop);
        let error = error.unwrap_err();
        assert_eq!(error.exit_code(), 3);
        assert_eq!(error.to_string(), "plan `test` needs an arena of 256 bytes, and there are 192");
    }
}
