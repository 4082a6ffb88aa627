//! From a program to steps: what is swept together, in which order, and into which homes.
//!
//! Statements are taken in order. What sweeps do (keep a value, reduce, store) waits until
//! something needs it or the block ends; then everything that waits for the same tile and could
//! be done is done in the same sweep.

use std::collections::{BTreeMap, BTreeSet};

use gigac_ir::kernel::{Carry, Expr, Kernel, Reduction, Stmt, TileId, VarId};

use super::super::contraction::blocking::{HEADER, RowLayout};
use super::Reason;
use super::home::{Home, HomeId, Lie, bytes};
use super::live::Live;
use super::program::Program;
use super::shape::{Cache, Shape, cache};
use crate::pattern::Store;

/// A kernel as steps over homes.
pub(super) struct Plan<'k> {
    pub(super) program: Program<'k>,
    pub(super) homes: Vec<Home>,
    pub(super) body: Vec<Step<'k>>,
    /// Number of tags, which say what lies in the slots of packed operands.
    pub(super) tags: u64,
    /// Bytes of the header, tags and homes.
    pub(super) bytes: u64,
    /// f32 lanes of a vector.
    pub(super) lanes: u64,
}

/// Something to do.
#[derive(Debug)]
pub(super) enum Step<'k> {
    Sweep(Sweep<'k>),
    Dot(Dot),
    /// Fills a twin.
    Transpose {
        from: HomeId,
        to: HomeId,
    },
    Copy {
        from: HomeId,
        to: HomeId,
    },
    Loop {
        var: VarId,
        /// Turns in which it holds nowhere are left out.
        guard: Option<Guard>,
        body: Vec<Step<'k>>,
    },
    /// Steps that fill a slot, unless it holds what they would make.
    Cached {
        cache: Cache,
        /// The first tag.
        tags: u64,
        body: Vec<Step<'k>>,
    },
}

/// What a loop's turns need to count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guard {
    pub(super) mask: TileId,
    /// Where the blocks of a turn are noted in which it holds.
    pub(super) live: Option<Live>,
}

/// One pass over the elements of a tile.
#[derive(Debug)]
pub(super) struct Sweep<'k> {
    pub(super) lie: Lie,
    /// Values with homes that are read.
    pub(super) reads: Vec<(TileId, HomeId)>,
    pub(super) sinks: Vec<Sink<'k>>,
}

/// What becomes of a value in a sweep.
#[derive(Debug)]
pub(super) enum Sink<'k> {
    Keep { value: TileId, home: HomeId },
    Reduce { op: Reduction, of: TileId, along: VarId, home: HomeId },
    Store(Store<'k>),
}

/// `out = left · right`, or `out += left · right`.
#[derive(Debug)]
pub(super) struct Dot {
    pub(super) left: HomeId,
    pub(super) layout: RowLayout,
    pub(super) right: HomeId,
    pub(super) out: HomeId,
    pub(super) along: VarId,
    pub(super) add: bool,
}

/// Plans a verified kernel for vectors of so many lanes.
///
/// # Errors
/// Why it is no block program.
pub(super) fn plan(kernel: &Kernel, lanes: u64) -> Result<Plan<'_>, Reason> {
    let program = Program::read(kernel)?;
    let shape = Shape::choose(&program)?;
    let twins = shape.twins(&program);
    let mut planner = Planner {
        items: Vec::new(),
        homes: Vec::new(),
        placed: BTreeMap::new(),
        turned: BTreeMap::new(),
        free: Vec::new(),
        waiting: Vec::new(),
        opened: 0,
        stored: 0,
        tags: 0,
        program,
        shape,
        twins,
    };
    let entries = planner.read(&kernel.body);
    let body = planner.block(&entries, 0);
    let Planner { program, mut homes, tags, .. } = planner;
    let mut offset = HEADER + tags * 8;
    for home in &mut homes {
        offset = offset.next_multiple_of(64);
        home.offset = offset;
        let slots = home.slots.iter().map(|v| kernel.var(*v).tiles());
        offset += slots.fold(bytes(kernel, home.lie), u64::saturating_mul);
    }
    let mut plan = Plan { program, homes, body: Vec::new(), tags, bytes: offset, lanes };
    plan.body = plan.with_tables(body);
    Ok(plan)
}

impl<'k> Plan<'k> {
    /// Gives guarded loops room for the tables of their masks.
    fn with_tables(&mut self, steps: Vec<Step<'k>>) -> Vec<Step<'k>> {
        let step = |step| match step {
            Step::Loop { var, guard, body } => {
                let guard = guard.map(|guard| {
                    let live = Live::new(self, guard.mask, self.bytes);
                    self.bytes += live.map_or(0, |live| live.bytes(self));
                    Guard { live, ..guard }
                });
                Step::Loop { var, guard, body: self.with_tables(body) }
            }
            other => other,
        };
        steps.into_iter().map(step).collect()
    }
}

/// Index of an item.
type ItemId = usize;

/// Something that reads values with homes.
struct Item<'k> {
    what: What<'k>,
    domain: Vec<VarId>,
    reads: BTreeSet<TileId>,
    done: bool,
}

#[derive(Clone)]
enum What<'k> {
    Keep(TileId),
    Reduce {
        value: TileId,
        op: Reduction,
        of: TileId,
        along: VarId,
    },
    Store(Store<'k>),
    /// With the carry that it is added to, and the value that stands there before.
    Dot {
        value: TileId,
        a: TileId,
        b: TileId,
        along: VarId,
        into: Option<(&'k Carry, TileId)>,
    },
    Init(&'k Carry),
    Next(&'k Carry),
}

/// A block's contents in order.
enum Entry<'k> {
    Item(ItemId),
    Loop {
        var: VarId,
        guard: Option<TileId>,
        carried: &'k [Carry],
        inits: Vec<ItemId>,
        nexts: Vec<ItemId>,
        block: usize,
        body: Vec<Entry<'k>>,
    },
}

struct Planner<'k> {
    program: Program<'k>,
    shape: Shape,
    twins: BTreeSet<TileId>,
    items: Vec<Item<'k>>,
    homes: Vec<Home>,
    /// The homes of values that lie there now.
    placed: BTreeMap<TileId, HomeId>,
    /// The homes of their twins.
    turned: BTreeMap<TileId, HomeId>,
    /// Homes whose contents nobody reads any more.
    free: Vec<HomeId>,
    /// Items for sweeps, in order.
    waiting: Vec<ItemId>,
    /// Blocks and stores met so far.
    opened: usize,
    stored: usize,
    tags: u64,
}

impl<'k> Planner<'k> {
    /// The items of a block.
    fn read(&mut self, body: &'k [Stmt]) -> Vec<Entry<'k>> {
        let mut entries = Vec::new();
        for stmt in body {
            match stmt {
                Stmt::Let(value, expr) => {
                    entries.extend(self.binding(*value, expr).map(Entry::Item));
                }
                Stmt::Store { .. } => {
                    let store = self.program.stores[self.stored];
                    self.stored += 1;
                    let domain = self.program.store_domain(&store);
                    let read = store.offset.tiles().into_iter().chain(store.mask);
                    let read: Vec<TileId> = read.chain([store.value]).collect();
                    entries.push(Entry::Item(self.item(What::Store(store), domain, &read)));
                }
                Stmt::When(_) => {}
                Stmt::Loop { var, carried, body } => {
                    self.opened += 1;
                    let inner = self.opened;
                    let guard = body.iter().find_map(|s| match s {
                        Stmt::When(mask) => Some(*mask),
                        _ => None,
                    });
                    let inits = carried.iter().map(|c| self.carried(What::Init(c), c, c.init));
                    let inits = inits.collect();
                    let body = self.read(body);
                    let swept =
                        |c: &&Carry| c.next != c.arg && self.program.accumulated(c).is_none();
                    let swept: Vec<&Carry> = carried.iter().filter(swept).collect();
                    let nexts = swept.into_iter().map(|c| self.carried(What::Next(c), c, c.next));
                    let (var, block, nexts) = (*var, inner, nexts.collect());
                    entries.push(Entry::Loop { var, guard, carried, inits, nexts, block, body });
                }
            }
        }
        entries
    }

    /// The item of a definition. A product that is added to a carried value stands where it is
    /// added: there the value is at hand.
    fn binding(&mut self, value: TileId, expr: &'k Expr) -> Option<ItemId> {
        let into = self.accumulation(value);
        if let Some((carry, base, dot)) = into
            && value == carry.next
        {
            return Some(self.product(dot, Some((carry, base))));
        }
        let domain = self.program.domain(value);
        match *expr {
            Expr::Dot(..) if into.is_some() => None,
            Expr::Dot(..) => Some(self.product(value, None)),
            Expr::Reduce(op, of, along) => {
                let domain = self.program.domain(of);
                Some(self.item(What::Reduce { value, op, of, along }, domain, &[of]))
            }
            _ if self.program.kept.contains(&value) => {
                let reads = self.program.leaves(value);
                self.items.push(Item { what: What::Keep(value), domain, reads, done: false });
                Some(self.items.len() - 1)
            }
            _ => None,
        }
    }

    /// The carry in whose addition a value takes part, as the product or the sum; with what the
    /// product is added to, and the product.
    fn accumulation(&self, value: TileId) -> Option<(&'k Carry, TileId, TileId)> {
        self.program.carries.values().find_map(|carry| {
            let (base, dot) = self.program.accumulated(carry)?;
            (value == dot || value == carry.next).then_some((*carry, base, dot))
        })
    }

    fn product(&mut self, value: TileId, into: Option<(&'k Carry, TileId)>) -> ItemId {
        let Expr::Dot(a, b, along) = *self.program.exprs[&value] else {
            unreachable!("called for products")
        };
        let domain = self.program.domain(value);
        let read: Vec<TileId> = [a, b].into_iter().chain(into.map(|(_, base)| base)).collect();
        self.item(What::Dot { value, a, b, along, into }, domain, &read)
    }

    fn carried(&mut self, what: What<'k>, carry: &Carry, value: TileId) -> ItemId {
        let domain = self.program.domain(carry.arg);
        self.item(what, domain, &[value])
    }

    fn item(&mut self, what: What<'k>, domain: Vec<VarId>, values: &[TileId]) -> ItemId {
        let mut reads = BTreeSet::new();
        for value in values {
            if self.program.has_home(*value) {
                reads.insert(*value);
            } else {
                reads.extend(self.program.leaves(*value));
            }
        }
        self.items.push(Item { what, domain, reads, done: false });
        self.items.len() - 1
    }

    /// The steps of a block.
    fn block(&mut self, entries: &[Entry<'k>], block: usize) -> Vec<Step<'k>> {
        let mut steps = Vec::new();
        for entry in entries {
            match entry {
                Entry::Item(id) => match self.items[*id].what {
                    What::Dot { .. } => self.dot(*id, block, &mut steps),
                    What::Store(store) => {
                        let same = |i: &ItemId| match self.items[*i].what {
                            What::Store(other) => other.buffer == store.buffer,
                            _ => false,
                        };
                        if self.waiting.iter().any(same) {
                            self.finish(block, &mut steps);
                        }
                        self.waiting.push(*id);
                    }
                    _ => self.waiting.push(*id),
                },
                Entry::Loop { var, guard, carried, inits, nexts, block: inner, body } => {
                    self.finish(block, &mut steps);
                    self.carry(carried, inits, &mut steps);
                    let mut turn = self.block(body, *inner);
                    self.next(nexts, *inner, &mut turn);
                    let guard = guard.map(|mask| Guard { mask, live: None });
                    steps.push(Step::Loop { var: *var, guard, body: turn });
                    for carry in *carried {
                        let home = self.placed.remove(&carry.arg).expect("placed by `carry`");
                        self.placed.insert(carry.result, home);
                    }
                    self.release(block);
                }
            }
        }
        self.finish(block, &mut steps);
        steps
    }

    /// Gives carried values their homes, and fills these.
    fn carry(&mut self, carried: &'k [Carry], inits: &[ItemId], steps: &mut Vec<Step<'k>>) {
        for carry in carried {
            let lie = self.shape.lie(&self.program.domain(carry.arg));
            let home = self.new_home(lie);
            self.placed.insert(carry.arg, home);
        }
        self.sweeps(inits, &BTreeMap::new(), steps);
    }

    /// Sweeps that fill the homes of carried values, or others in their place.
    fn sweeps(
        &mut self,
        items: &[ItemId],
        instead: &BTreeMap<ItemId, HomeId>,
        steps: &mut Vec<Step<'k>>,
    ) {
        let domains: BTreeSet<Vec<VarId>> =
            items.iter().map(|i| self.items[*i].domain.clone()).collect();
        for domain in domains {
            let same = items.iter().copied().filter(|i| self.items[*i].domain == domain);
            let group: Vec<ItemId> = same.collect();
            let sinks = group.iter().map(|i| {
                let (carry, value) = match self.items[*i].what {
                    What::Init(carry) => (carry, carry.init),
                    What::Next(carry) => (carry, carry.next),
                    _ => panic!("only carried values are swept here"),
                };
                let home = instead.get(i).copied().unwrap_or(self.placed[&carry.arg]);
                Sink::Keep { value, home }
            });
            let sinks: Vec<Sink<'k>> = sinks.collect();
            let reads = self.homes_of(&group);
            let lie = self.shape.lie(&domain);
            steps.push(Step::Sweep(Sweep { lie, reads, sinks }));
            group.iter().for_each(|i| self.items[*i].done = true);
        }
    }

    /// The end of a turn: carried values take their next contents.
    fn next(&mut self, nexts: &[ItemId], block: usize, steps: &mut Vec<Step<'k>>) {
        let mut copies = Vec::new();
        let (ready, made): (Vec<ItemId>, Vec<ItemId>) = nexts.iter().partition(|i| {
            let What::Next(carry) = self.items[**i].what else { unreachable!("nexts are nexts") };
            self.program.has_home(carry.next)
        });
        for id in ready {
            let What::Next(carry) = self.items[id].what else { unreachable!("nexts are nexts") };
            let (from, to) = (self.placed[&carry.next], self.placed[&carry.arg]);
            copies.push(Step::Copy { from, to });
            self.items[id].done = true;
        }
        // In place, where all others that read the old contents are in the same sweep.
        let mut instead = BTreeMap::new();
        for id in &made {
            let What::Next(carry) = self.items[*id].what else { unreachable!("nexts are nexts") };
            let others = made.iter().filter(|i| self.items[**i].domain != self.items[*id].domain);
            let copied = copies.iter().any(|c| match c {
                Step::Copy { from, .. } => *from == self.placed[&carry.arg],
                _ => false,
            });
            if copied || others.into_iter().any(|i| self.items[*i].reads.contains(&carry.arg)) {
                let home = self.new_home(self.shape.lie(&self.items[*id].domain));
                copies.push(Step::Copy { from: home, to: self.placed[&carry.arg] });
                instead.insert(*id, home);
            }
        }
        self.sweeps(&made, &instead, steps);
        steps.extend(copies);
        self.release(block);
    }

    /// Does everything that waits.
    fn finish(&mut self, block: usize, steps: &mut Vec<Step<'k>>) {
        while let Some(first) = self.waiting.first().copied() {
            self.sweep(first, block, steps);
        }
    }

    /// Sees to it that a value lies in its home.
    fn need(&mut self, value: TileId, block: usize, steps: &mut Vec<Step<'k>>) {
        if !self.placed.contains_key(&value) {
            let maker = self.maker(value);
            self.sweep(maker, block, steps);
        }
    }

    /// The waiting item that makes a value.
    fn maker(&self, value: TileId) -> ItemId {
        let makes = |i: &ItemId| match self.items[*i].what {
            What::Keep(v) | What::Reduce { value: v, .. } => v == value,
            _ => false,
        };
        let found = self.waiting.iter().copied().find(makes);
        found.unwrap_or_else(|| panic!("{value} is neither placed nor waiting"))
    }

    /// Prepares what an item reads, as far as its own sweep does not make it.
    fn prepare(&mut self, id: ItemId, block: usize, steps: &mut Vec<Step<'k>>) {
        for value in self.items[id].reads.clone() {
            if self.placed.contains_key(&value) {
                continue;
            }
            let maker = self.maker(value);
            let keeps = matches!(self.items[maker].what, What::Keep(_));
            let alike = self.items[maker].domain == self.items[id].domain;
            if keeps && alike && self.cached(maker).is_none() {
                self.prepare(maker, block, steps);
            } else {
                self.sweep(maker, block, steps);
            }
        }
    }

    /// Where the value that an item keeps stays packed.
    fn cached(&self, id: ItemId) -> Option<Cache> {
        match self.items[id].what {
            What::Keep(value) => cache(&self.program, value),
            _ => None,
        }
    }

    /// Does a waiting item, and with it all others that can be done in the same sweep.
    fn sweep(&mut self, id: ItemId, block: usize, steps: &mut Vec<Step<'k>>) {
        self.prepare(id, block, steps);
        if let (Some(cache), What::Keep(value)) = (self.cached(id), self.items[id].what.clone()) {
            return self.pack(id, value, cache, steps);
        }
        let domain = self.items[id].domain.clone();
        let (mut group, mut made) = (Vec::new(), BTreeSet::new());
        for other in &self.waiting {
            let item = &self.items[*other];
            let ready = |v: &TileId| self.placed.contains_key(v) || made.contains(v);
            let fits = item.domain == domain && self.cached(*other).is_none();
            if !fits || !item.reads.iter().all(ready) {
                continue;
            }
            group.push(*other);
            if let What::Keep(value) = item.what {
                made.insert(value);
            }
        }
        self.waiting.retain(|i| !group.contains(i));
        let reads = self.homes_of(&group);
        group.iter().for_each(|i| self.items[*i].done = true);
        self.release(block);
        let sinks: Vec<Sink<'k>> = group.iter().map(|i| self.sink(*i)).collect();
        steps.push(Step::Sweep(Sweep { lie: self.shape.lie(&domain), reads, sinks }));
        let made: Vec<TileId> = made.into_iter().collect();
        made.into_iter().for_each(|v| self.turn(v, None, steps));
        self.release(block);
    }

    /// The homes that items read, without those that their own sweep fills.
    fn homes_of(&self, group: &[ItemId]) -> Vec<(TileId, HomeId)> {
        let reads: BTreeSet<TileId> =
            group.iter().flat_map(|i| self.items[*i].reads.iter().copied()).collect();
        reads.into_iter().filter_map(|v| Some((v, *self.placed.get(&v)?))).collect()
    }

    fn sink(&mut self, id: ItemId) -> Sink<'k> {
        match self.items[id].what.clone() {
            What::Keep(value) => {
                let home = match self.base_of(value) {
                    Some(carry) => self.placed[&carry.arg],
                    None => self.home(self.shape.lie(&self.program.domain(value))),
                };
                self.placed.insert(value, home);
                Sink::Keep { value, home }
            }
            What::Reduce { value, op, of, along } => {
                let home = self.new_home(self.shape.lie(&self.program.domain(value)));
                self.placed.insert(value, home);
                Sink::Reduce { op, of, along, home }
            }
            What::Store(store) => Sink::Store(store),
            _ => panic!("products and carries do not wait"),
        }
    }

    /// The carry whose product is added to this value, in place.
    fn base_of(&self, value: TileId) -> Option<&'k Carry> {
        let mut carries = self.program.carries.values();
        let based = |c: &&&Carry| self.program.accumulated(c).is_some_and(|(b, _)| b == value);
        carries.find(based).copied()
    }

    /// A packed operand: filled when its slot holds something else.
    fn pack(&mut self, id: ItemId, value: TileId, cache: Cache, steps: &mut Vec<Step<'k>>) {
        self.waiting.retain(|i| *i != id);
        self.items[id].done = true;
        let lie = self.shape.lie(&self.program.domain(value));
        let straight = self.is_read_straight(value);
        let home = match straight {
            true => self.pack_home(lie, &cache),
            false => self.home(lie),
        };
        self.placed.insert(value, home);
        let sinks = vec![Sink::Keep { value, home }];
        let mut body = vec![Step::Sweep(Sweep { lie, reads: Vec::new(), sinks })];
        self.turn(value, Some(&cache), &mut body);
        if !straight {
            self.free.push(home);
        }
        let tags = self.tags;
        let kernel = self.program.kernel;
        self.tags += cache.slots.iter().map(|v| kernel.var(*v).tiles()).product::<u64>();
        steps.push(Step::Cached { cache, tags, body });
    }

    /// A home that is filled for other grid points and turns too.
    fn pack_home(&mut self, lie: Lie, cache: &Cache) -> HomeId {
        let home = self.new_home(lie);
        (self.homes[home.0].slots, self.homes[home.0].packed) = (cache.slots.clone(), true);
        home
    }

    /// Whether somebody reads a value as it lies, and not its twin alone.
    fn is_read_straight(&self, value: TileId) -> bool {
        self.items.iter().filter(|i| i.reads.contains(&value)).any(|item| match item.what {
            What::Dot { value: product, a, b, along, .. } => {
                let (left, _, lie) = self.shape.sides(&self.program, product, (a, b, along));
                left == value || self.shape.lie(&self.program.domain(value)) == lie
            }
            _ => true,
        })
    }

    /// Makes the twin of a value that needs one.
    fn turn(&mut self, value: TileId, cache: Option<&Cache>, steps: &mut Vec<Step<'k>>) {
        if !self.twins.contains(&value) {
            return;
        }
        let from = self.placed[&value];
        let lie = self.homes[from.0].lie.turned();
        let to = match cache {
            Some(cache) => self.pack_home(lie, cache),
            None => self.home(lie),
        };
        self.turned.insert(value, to);
        steps.push(Step::Transpose { from, to });
    }

    fn dot(&mut self, id: ItemId, block: usize, steps: &mut Vec<Step<'k>>) {
        let What::Dot { value, a, b, along, into } = self.items[id].what.clone() else {
            unreachable!("called for products")
        };
        for operand in self.items[id].reads.clone() {
            self.need(operand, block, steps);
        }
        let out = match into {
            Some((carry, _)) => self.placed[&carry.arg],
            None => self.home(self.shape.lie(&self.program.domain(value))),
        };
        let (left, right, lie) = self.shape.sides(&self.program, value, (a, b, along));
        let left = self.placed[&left];
        let by_row = self.homes[left.0].lie.lanes == along;
        let layout = if by_row { RowLayout::ByRow } else { RowLayout::ByStep };
        let straight = self.placed[&right];
        let right = if self.homes[straight.0].lie == lie { straight } else { self.turned[&right] };
        steps.push(Step::Dot(Dot { left, layout, right, out, along, add: into.is_some() }));
        self.placed.insert(value, out);
        if into.is_none() {
            self.turn(value, None, steps);
        }
        self.items[id].done = true;
        self.release(block);
    }

    /// Whether nobody reads a value of a block any more.
    fn is_dead(&self, value: TileId, block: usize) -> bool {
        let local = self.program.block[&value] == block;
        let carried = self.program.carries.contains_key(&value);
        let read = |item: &Item<'_>| !item.done && item.reads.contains(&value);
        local && !carried && !self.items.iter().any(read)
    }

    /// Frees the homes of dead values.
    fn release(&mut self, block: usize) {
        let dead: Vec<TileId> =
            self.placed.keys().copied().filter(|v| self.is_dead(*v, block)).collect();
        for value in dead {
            let homes = [self.placed.remove(&value), self.turned.remove(&value)];
            for home in homes.into_iter().flatten() {
                let shared = self.placed.values().any(|h| *h == home);
                if !self.homes[home.0].packed && !shared && !self.free.contains(&home) {
                    self.free.push(home);
                }
            }
        }
    }

    /// A home for a new value: one that is free, else a new one.
    fn home(&mut self, lie: Lie) -> HomeId {
        match self.free.iter().rposition(|h| self.homes[h.0].lie == lie) {
            Some(at) => self.free.remove(at),
            None => self.new_home(lie),
        }
    }

    fn new_home(&mut self, lie: Lie) -> HomeId {
        self.homes.push(Home { lie, slots: Vec::new(), packed: false, offset: 0 });
        HomeId(self.homes.len() - 1)
    }
}
