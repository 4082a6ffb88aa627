//! Runs that watch memory, for tests and for `--poison`.
//!
//! After the last use of a buffer its bytes are poisoned; in a loop, those of a turn's own buffers in
//! every turn. Before every launch and copy, all that it only reads must have been written since. So
//! what is used too late, or before it is there, stops the run at the kernel that reads it, and what is
//! written in front of the arena at the kernel that writes it. (What a
//! kernel both reads and writes it writes first; if not, NaN in the results tell.)

use gigac_ir::kernel::Access;
use gigac_ir::plan::{BEGINNING, Item, Memory, Part, Plan};

use super::arena::Arena;
use super::executor::{Executor, Turns};
use super::pool::Pool;
use crate::error::{Error, Result};

impl Executor<'_> {
    /// Runs the whole plan and watches memory. Everything but states and inputs must have been
    /// poisoned before.
    ///
    /// # Errors
    /// [`Error::Machine`] names the kernel that reads what nothing has written, or that has written in
    /// front of an arena: faults of gigac.
    pub fn run_checked(&mut self, arena: &mut Arena, pool: &mut Pool) -> Result<()> {
        let plan = self.plan;
        let ends = self.ends.take().unwrap_or_else(|| ends(plan));
        self.host.poison(0);
        let mut watch = Watch { plan, ends, position: BEGINNING };
        let result = watch.items(self, &plan.items, Turns::default(), (arena, pool));
        self.ends = Some(watch.ends);
        result
    }
}

/// By position: memory, offset and bytes of what is free after it.
pub(super) type Ends = Vec<Vec<(Memory, u64, u64)>>;

struct Watch<'p> {
    plan: &'p Plan,
    ends: Ends,
    position: u32,
}

/// By position: where the buffers lie that are used there for the last time. What lives to
/// the end is read by the host.
fn ends(plan: &Plan) -> Ends {
    let last = gigac_ir::plan::moments(plan).last().map_or(BEGINNING, |m| m.position);
    let mut ends = vec![Vec::new(); last as usize + 1];
    for buffer in plan.buffers.iter().filter(|b| !b.category.is_state() && b.live.1 < last) {
        let place = (buffer.category.memory(), buffer.offset, buffer.bytes);
        ends[buffer.live.1 as usize].push(place);
    }
    ends
}

impl Watch<'_> {
    fn items(
        &mut self,
        executor: &mut Executor<'_>,
        items: &[Item],
        turns: Turns,
        (arena, pool): (&mut Arena, &mut Pool),
    ) -> Result<()> {
        for item in items {
            self.position += 1;
            if let Item::Loop { first, count, reversed, body, .. } = item {
                let begin = self.position;
                for turn in 0..*count {
                    self.position = begin;
                    let turn = first + if *reversed { count - 1 - turn } else { turn };
                    self.items(executor, body, turns.enter(turn), (arena, pool))?;
                }
                self.position += 1;
            } else {
                self.read(item, turns, (arena, &executor.host))?;
                executor.items(std::slice::from_ref(item), turns, arena, pool);
                self.front(item, [arena, &executor.host])?;
            }
            for (memory, offset, bytes) in &self.ends[self.position as usize] {
                match memory {
                    Memory::Device => arena.poison_range(*offset, *bytes),
                    Memory::Host => executor.host.poison_range(*offset, *bytes),
                }
            }
        }
        Ok(())
    }

    /// Checks that an item has written nothing in front of an arena, up to the page that stops it.
    fn front(&self, item: &Item, arenas: [&Arena; 2]) -> Result<()> {
        if arenas.into_iter().all(Arena::front_is_whole) {
            return Ok(());
        }
        let who = match item {
            Item::Launch { parts, .. } => {
                let info = |part: &Part| &self.plan.kernels[part.kernel as usize];
                let name = |part| format!("`{}` ({})", info(part).name, info(part).origin);
                parts.iter().map(name).collect::<Vec<_>>().join(" or ")
            }
            Item::Copy { .. } | Item::Loop { .. } => "a copy".to_owned(),
        };
        let message = format!("plan `{}`: {who} writes in front of an arena", self.plan.name);
        Err(Error::Machine(message))
    }

    /// Checks that all that an item reads has been written.
    fn read(&self, item: &Item, turns: Turns, (arena, host): (&Arena, &Arena)) -> Result<()> {
        let (plan, turns) = (self.plan, turns.inside());
        let unwritten = |who: String, byte: u64, bytes: u64| {
            Err(Error::Machine(format!(
                "plan `{}`: {who} reads memory that nothing has written: byte {byte} of {bytes}",
                plan.name
            )))
        };
        match item {
            Item::Launch { parts, .. } => {
                let of = |part: &'_ Part| &plan.kernels[part.kernel as usize];
                let read = |part| {
                    let arguments = of(part).arguments.iter().zip(&part.buffers);
                    arguments
                        .filter(|(argument, _)| argument.access == Access::Read)
                        .map(move |a| (part, a))
                };
                for (part, (argument, address)) in parts.iter().flat_map(read) {
                    if let Some(byte) = arena.unwritten(address.at(turns), argument.bytes) {
                        let (info, name) = (of(part), &argument.name);
                        let who = format!("`{}` ({}), argument `{name}`,", info.name, info.origin);
                        return unwritten(who, byte, argument.bytes);
                    }
                }
                Ok(())
            }
            Item::Copy { from, bytes, .. } => {
                let from = from.at(turns);
                let arena = if from.memory == Memory::Host { host } else { arena };
                match arena.unwritten(from.offset, *bytes) {
                    Some(byte) => unwritten("a copy".to_owned(), byte, *bytes),
                    None => Ok(()),
                }
            }
            Item::Loop { .. } => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::code::{Kernel, Kernels};
    use gigac_ir::image::KernelFn;
    use gigac_ir::plan::{Address, Argument, COMPUTE, Category, KernelInfo, PlanBuffer};

    /// Copies 16 ints.
    unsafe extern "C" fn copy(b: *const *mut u8, _: *const i64, _: u64, _: u64, _: *mut u8) {
        // SAFETY: the plans below pass two buffers of 64 bytes.
        unsafe { std::ptr::copy(*b, *b.add(1), 64) };
    }

    /// Copies 16 ints, and writes one in front of where they go.
    unsafe extern "C" fn stray(b: *const *mut u8, _: *const i64, _: u64, _: u64, _: *mut u8) {
        // SAFETY: the plans below pass two buffers of 64 bytes; what lies in front of the arena, up to the
        // beginning of its page, belongs to its mapping.
        unsafe {
            std::ptr::copy(*b, *b.add(1), 64);
            (*b.add(1)).sub(4).write(1);
        }
    }

    fn launch(from: u64, to: u64) -> Item {
        let buffers = vec![Address::fixed(from), Address::fixed(to)];
        Item::launch(0, buffers, vec![])
    }

    fn buffer(name: &str, offset: u64, live: (u32, u32)) -> PlanBuffer {
        let category = Category::Transient;
        PlanBuffer { name: name.into(), category, offset, bytes: 64, live }
    }

    /// Runs items over `x`, which the host writes, `a` and `b`, with lifetimes of `a` and `b`.
    fn run(items: Vec<Item>, a: (u32, u32), b: (u32, u32)) -> Result<()> {
        run_with(copy, items, a, b)
    }

    fn run_with(entry: KernelFn, items: Vec<Item>, a: (u32, u32), b: (u32, u32)) -> Result<()> {
        let argument = |name: &str, access| Argument { name: name.into(), access, bytes: 64 };
        let kernel = KernelInfo {
            name: "copy".into(),
            origin: "y".into(),
            grid_points: 1,
            arguments: vec![argument("from", Access::Read), argument("to", Access::Write)],
            flops: 0,
        };
        let plan = Plan {
            name: "test".into(),
            arena_bytes: 256,
            live_bytes: 256,
            host_bytes: 0,
            params: vec![],
            states: vec![],
            inputs: vec![],
            results: vec![],
            buffers: vec![buffer("x", 0, (0, 99)), buffer("a", 64, a), buffer("b", 128, b)],
            kernels: vec![kernel],
            streams: vec![COMPUTE.into()],
            events: 0,
            items,
        };
        let kernel = Kernel { entry, scratch_bytes: 0 };
        let kernels = Kernels::linked([("copy".to_owned(), kernel)]);
        let (mut arena, mut pool) = (Arena::new(256).unwrap(), Pool::new(1, 0).unwrap());
        arena.poison(0);
        arena.slice_mut::<i32>(0, 16).fill(7);
        Executor::new(&plan, &kernels, 256).unwrap().run_checked(&mut arena, &mut pool)
    }

    #[test]
    fn what_was_written_may_be_read() {
        run(vec![launch(0, 64), launch(64, 128)], (2, 3), (3, 3)).unwrap();
    }

    #[test]
    fn reading_before_writing_is_an_error() {
        let error = run(vec![launch(64, 128), launch(0, 64)], (2, 3), (2, 3)).unwrap_err();
        let wanted = "plan `test`: `copy` (y), argument `from`, reads memory that nothing has \
                      written: byte 0 of 64";
        assert_eq!(error.to_string(), wanted);
    }

    /// Inside the arena a neighbour's last bytes are hit, which only its readers can notice; in front of it the
    /// kernel is named.
    #[test]
    fn writing_in_front_of_the_arena_is_an_error() {
        let from_a = || vec![launch(0, 64), launch(64, 0)];
        run_with(copy, from_a(), (2, 3), (3, 3)).unwrap();
        let error = run_with(stray, from_a(), (2, 3), (3, 3)).unwrap_err();
        assert_eq!(error.to_string(), "plan `test`: `copy` (y) writes in front of an arena");
    }

    #[test]
    fn reading_after_the_last_use_is_an_error() {
        let late = || vec![launch(0, 64), launch(0, 128), launch(64, 128)];
        run(late(), (2, 4), (3, 4)).unwrap();
        assert!(run(late(), (2, 3), (3, 4)).is_err(), "`a` was free");
    }

    #[test]
    fn a_turn_does_not_find_what_the_last_one_made() {
        let body = vec![launch(64, 128), launch(0, 64)];
        let looped = || {
            let body = body.clone();
            vec![
                launch(0, 64),
                Item::Loop { axis: "L".into(), first: 0, count: 2, reversed: false, body },
            ]
        };
        // Positions: 2 the launch, 3 the loop, 4 and 5 its body, 6 its end.
        run(looped(), (2, 6), (4, 4)).unwrap();
        assert!(run(looped(), (2, 5), (4, 4)).is_err(), "`a` was made for one turn");
    }
}
