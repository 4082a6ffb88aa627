//! Bulk copies, stores that complete on an mbarrier, and copies of tensors' boxes.

use super::engine::Engine;
use super::report::Who;
use super::step::Then;
use super::tensormap::TensorMap;
use super::unit::Unit;
use super::warp::lanes_of;
use crate::check::FindingKind;
use crate::program::{Address, AtomOp, Bulk, Order, Proxy, StoreAsync, Tensor, TensorReplace};
use crate::types::{Space, Ty};

/// Where a piece of a copy comes from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    Memory(Space, u64),
    /// Registers as they were when the operation was issued, or what fills places outside a tensor;
    /// and whether the value is defined.
    Value([u8; 16], bool),
}

/// At most sixteen bytes of a copy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub(super) from: Source,
    pub(super) to: (Space, u64),
    bytes: usize,
}

/// A bulk copy on its way.
#[derive(Debug, Clone)]
pub(super) struct Transfer {
    pub(super) lane: usize,
    pub(super) pc: u32,
    group: u32,
    pub(super) pieces: Vec<Piece>,
    /// Block and offset of the mbarriers it completes on, with the bytes each is told of.
    pub(super) mbar: Vec<((usize, u32), i64)>,
    reduce: Option<(AtomOp, Ty)>,
    /// Proxy epoch in which it was issued.
    epoch: u32,
}

impl Unit {
    pub(crate) fn bulk(
        &mut self,
        engine: &Engine,
        w: usize,
        pc: u32,
        active: u32,
        bulk: &Bulk,
    ) -> Then {
        let (to, from) = (self.addresses(w, &bulk.dst), self.addresses(w, &bulk.src));
        let mbar = bulk.mbar.map(|m| self.addresses(w, &m));
        for lane in lanes_of(active) {
            let size = self.warps[w].regs.u32_at(bulk.size, lane) as usize;
            let (dst, src) = (to[lane], from[lane]);
            if !size.is_multiple_of(16) || dst % 16 != 0 || src % 16 != 0 {
                self.report(engine, FindingKind::Misaligned, (w, lane, pc), Some(dst), || {
                    "a bulk copy needs addresses and a size that are multiples of 16".into()
                });
                continue;
            }
            let place = |space: Space, a: u64| {
                if space == Space::Generic { super::access::resolve(a) } else { (space, a) }
            };
            let ranks = self.multicast(w, lane, bulk.multicast);
            let mut pieces = Vec::with_capacity(size / 16 * ranks.len());
            for &rank in &ranks {
                for at in (0..size as u64).step_by(16) {
                    let to = place(bulk.dst.space, self.in_rank(bulk.dst.space, dst, rank) + at);
                    let (space, address) = place(bulk.src.space, src + at);
                    pieces.push(Piece { from: Source::Memory(space, address), to, bytes: 16 });
                }
            }
            let mbar =
                mbar.map(|m| self.completions(engine, (w, lane, pc), m[lane], &ranks, size as i64));
            let group = self.warps[w].copies.bulk_group[lane];
            let t = Transfer {
                lane,
                pc,
                group,
                pieces,
                mbar: mbar.unwrap_or_default(),
                reduce: bulk.reduce,
                epoch: self.proxy_epoch,
            };
            self.start(engine, w, t);
        }
        Then::Next
    }

    /// `st.async` and `red.async`.
    pub(crate) fn store_async(
        &mut self,
        engine: &Engine,
        w: usize,
        pc: u32,
        active: u32,
        store: &StoreAsync,
    ) -> Then {
        let (to, mbar) = (self.addresses(w, &store.at), self.addresses(w, &store.mbar));
        let element = store.ty.bytes() as usize;
        for lane in lanes_of(active) {
            let who = (w, lane, pc);
            let total = element * store.src.len();
            if to[lane] % total as u64 != 0 {
                self.report(engine, FindingKind::Misaligned, who, Some(to[lane]), || {
                    format!(
                        "a store of {total} bytes needs an address that is a multiple of {total}"
                    )
                });
                continue;
            }
            let regs = &self.warps[w].regs;
            let piece = |(i, &slot): (usize, &u32)| {
                let mut data = [0; 16];
                super::transfer::get_element(regs, slot, lane, &mut data[..element]);
                let defined = regs.undefined_bits(slot, lane) == 0;
                let to = (Space::Shared, to[lane] + (i * element) as u64);
                Piece { from: Source::Value(data, defined), to, bytes: element }
            };
            let pieces = store.src.iter().enumerate().map(piece).collect();
            let mbar = self.completions(engine, who, mbar[lane], &[None], total as i64);
            let reduce = store.reduce.map(|op| (op, store.ty));
            let (group, epoch) = (self.warps[w].copies.bulk_group[lane], self.proxy_epoch);
            self.start(engine, w, Transfer { lane, pc, group, pieces, mbar, reduce, epoch });
        }
        Then::Next
    }

    /// Blocks that a (multicast) copy goes to; `None`: wherever the address points.
    fn multicast(&self, w: usize, lane: usize, mask: Option<u32>) -> Vec<Option<usize>> {
        match mask {
            None => vec![None],
            Some(slot) => {
                let mask = self.warps[w].regs.u32_at(slot, lane);
                (0..self.ctas.len()).filter(|r| mask >> r & 1 != 0).map(Some).collect()
            }
        }
    }

    fn in_rank(&self, space: Space, address: u64, rank: Option<usize>) -> u64 {
        match rank {
            Some(rank) if space == Space::Shared => {
                address & 0xff_ffff | ((rank as u64 + 1) << crate::types::window::RANK_SHIFT)
            }
            _ => address,
        }
    }

    /// The mbarriers that the copy completes on.
    fn completions(
        &mut self,
        engine: &Engine,
        who: Who,
        address: u64,
        ranks: &[Option<usize>],
        bytes: i64,
    ) -> Vec<((usize, u32), i64)> {
        let cta = self.warps[who.0].cta;
        let mut all = Vec::new();
        for &rank in ranks {
            match self.shared_at(engine, cta, self.in_rank(Space::Shared, address, rank), 8) {
                Some((cta, offset)) => all.push(((cta, offset as u32), bytes)),
                None => self.report(engine, FindingKind::OutOfBounds, who, Some(address), || {
                    "an mbarrier outside shared memory".into()
                }),
            }
        }
        all
    }

    fn start(&mut self, engine: &Engine, w: usize, transfer: Transfer) {
        self.warps[w].worked |= 1 << transfer.lane;
        if engine.options.async_at_once {
            self.perform(engine, w, transfer, false);
            return;
        }
        self.mark_pieces(engine, w, &transfer, true);
        self.warps[w].copies.bulk.push(transfer);
    }

    fn mark_pieces(&mut self, engine: &Engine, w: usize, transfer: &Transfer, begin: bool) {
        let cta = self.warps[w].cta;
        for piece in transfer.pieces.iter().filter(|p| p.to.0 == Space::Shared) {
            if let Some((cta, offset)) = self.shared_at(engine, cta, piece.to.1, piece.bytes) {
                self.mark_in_flight(cta, offset, piece.bytes, begin);
            }
        }
    }

    /// Moves the bytes and completes.
    pub(super) fn perform(&mut self, engine: &Engine, w: usize, t: Transfer, marked: bool) {
        if marked {
            self.mark_pieces(engine, w, &t, false);
        }
        let who = (w, t.lane, t.pc);
        for piece in &t.pieces {
            let mut data = [0; 16];
            let data = &mut data[..piece.bytes];
            let bad = match piece.from {
                Source::Value(bytes, defined) => {
                    data.copy_from_slice(&bytes[..piece.bytes]);
                    u32::from(!defined)
                }
                Source::Memory(Space::Shared, address) => {
                    self.read_async(engine, who, address, data, t.epoch)
                }
                Source::Memory(space, address) => {
                    let place = (space, address);
                    self.read(engine, who, place, data, piece.bytes, Order::default())
                }
            };
            let undefined = u32::from(bad != 0);
            if let Some((op, ty)) = t.reduce {
                self.reduce_piece(engine, who, piece.to, data, op, ty);
                continue;
            }
            match piece.to.0 {
                Space::Shared => {
                    self.write_shared(
                        engine,
                        who,
                        piece.to.1,
                        data,
                        (data.len(), undefined),
                        Order::default(),
                        Proxy::Async,
                    );
                }
                _ => self.write(
                    engine,
                    who,
                    piece.to,
                    data,
                    (data.len(), undefined),
                    Order::default(),
                ),
            }
        }
        for (key, bytes) in t.mbar {
            self.complete_tx(key, bytes, w);
        }
    }

    fn reduce_piece(
        &mut self,
        engine: &Engine,
        who: Who,
        to: (Space, u64),
        data: &[u8],
        op: AtomOp,
        ty: Ty,
    ) {
        let element = ty.bytes() as usize;
        let order = Order { strong: true, ..Order::default() };
        for (i, bytes) in data.chunks_exact(element).enumerate() {
            let mut word = [0; 16];
            word[..element].copy_from_slice(bytes);
            let value = u128::from_le_bytes(word);
            let update = |old: u128| super::atomic::combine(op, ty, old, value, 0);
            self.update(engine, who, (to.0, to.1 + (i * element) as u64), element, order, &update);
        }
    }

    pub(crate) fn wait_bulk(
        &mut self,
        engine: &Engine,
        w: usize,
        active: u32,
        pending: u32,
    ) -> Then {
        let group = self.warps[w].copies.bulk_group;
        let bulk = std::mem::take(&mut self.warps[w].copies.bulk);
        let ready = |t: &Transfer| {
            t.mbar.is_empty() && active >> t.lane & 1 != 0 && t.group + pending < group[t.lane]
        };
        let (now, later): (Vec<_>, Vec<_>) = bulk.into_iter().partition(|t| ready(t));
        self.warps[w].copies.bulk = later;
        for transfer in now {
            self.perform(engine, w, transfer, true);
        }
        Then::Next
    }

    // --- tensors ------------------------------------------------------------------------------

    pub(crate) fn bulk_tensor(
        &mut self,
        engine: &Engine,
        w: usize,
        pc: u32,
        active: u32,
        tensor: &Tensor,
    ) -> Then {
        let maps = self.addresses(w, &tensor.map);
        let shared = self.addresses(w, &tensor.shared);
        let mbar = tensor.mbar.map(|m| self.addresses(w, &m));
        for lane in lanes_of(active) {
            let who = (w, lane, pc);
            let Some(map) = self.tensor_map(engine, who, tensor.map.space, maps[lane]) else {
                continue;
            };
            if map.rank() != tensor.coords.len() {
                self.report(engine, FindingKind::BadOperand, who, Some(maps[lane]), || {
                    format!(
                        "a map of {} dimensions and {} coordinates",
                        map.rank(),
                        tensor.coords.len()
                    )
                });
                continue;
            }
            // PTX ISA, `cp.async.bulk.tensor`: a tile of shared memory begins at a multiple of 128 bytes.
            if !shared[lane].is_multiple_of(128) {
                self.report(engine, FindingKind::Misaligned, who, Some(shared[lane]), || {
                    "a bulk tensor copy needs an address in shared memory that is a multiple of 128"
                        .into()
                });
                continue;
            }
            let at: Vec<i64> = tensor
                .coords
                .iter()
                .map(|c| i64::from(self.warps[w].regs.u32_at(*c, lane) as i32))
                .collect();
            let ranks = self.multicast(w, lane, tensor.multicast);
            let mut pieces = Vec::new();
            for &rank in &ranks {
                let base = self.in_rank(Space::Shared, shared[lane], rank);
                map.pieces(&at, base, |global, shared, bytes| {
                    if tensor.load {
                        let fill = Source::Value(map.fill(), true);
                        let from = global.map_or(fill, |g| Source::Memory(Space::Global, g));
                        pieces.push(Piece { from, to: (Space::Shared, shared), bytes });
                    } else if let Some(global) = global {
                        let from = Source::Memory(Space::Shared, shared);
                        pieces.push(Piece { from, to: (Space::Global, global), bytes });
                    }
                });
            }
            let bytes = map.box_bytes() as i64;
            let mbar = mbar
                .map(|m| self.completions(engine, who, m[lane], &ranks, bytes))
                .unwrap_or_default();
            let group = self.warps[w].copies.bulk_group[lane];
            let reduce = tensor.reduce.map(|op| (op, map.element()));
            let epoch = self.proxy_epoch;
            self.start(engine, w, Transfer { lane, pc, group, pieces, mbar, reduce, epoch });
        }
        Then::Next
    }

    fn tensor_map(
        &mut self,
        engine: &Engine,
        who: Who,
        space: Space,
        address: u64,
    ) -> Option<TensorMap> {
        let place = if space == Space::Generic {
            super::access::resolve(address)
        } else {
            (space, address)
        };
        let mut bytes = [0; TensorMap::BYTES];
        for (i, chunk) in bytes.chunks_exact_mut(16).enumerate() {
            self.read(engine, who, (place.0, place.1 + i as u64 * 16), chunk, 16, Order::default());
        }
        let map = TensorMap::parse(&bytes);
        if map.is_none() {
            self.report(engine, FindingKind::BadOperand, who, Some(address), || {
                "this is not a tensor map".into()
            });
        }
        map
    }

    pub(crate) fn tensor_replace(
        &mut self,
        engine: &Engine,
        w: usize,
        pc: u32,
        active: u32,
        r: &TensorReplace,
    ) -> Then {
        let addresses = self.addresses(w, &r.at);
        for lane in lanes_of(active) {
            let regs = &self.warps[w].regs;
            let value = if r.wide {
                regs.u64_at(r.value, lane)
            } else {
                u64::from(regs.u32_at(r.value, lane))
            };
            let Some((offset, bytes)) = TensorMap::field(r.field, r.ordinal) else { continue };
            let place = if r.at.space == Space::Generic {
                super::access::resolve(addresses[lane])
            } else {
                (r.at.space, addresses[lane])
            };
            let data = &value.to_le_bytes()[..bytes];
            self.write(
                engine,
                (w, lane, pc),
                (place.0, place.1 + offset as u64),
                data,
                (bytes, 0),
                Order::default(),
            );
        }
        Then::Next
    }

    /// `tensormap.cp_fenceproxy`: the warp copies one map, and later readers see it.
    pub(crate) fn map_copy(
        &mut self,
        engine: &Engine,
        w: usize,
        pc: u32,
        active: u32,
        to: &Address,
        from: &Address,
    ) -> Then {
        let (dst, src) = (self.addresses(w, to), self.addresses(w, from));
        // The lanes share the work, so what one of them put into the map needs `bar.warp.sync` first.
        let lanes: Vec<usize> = lanes_of(active).collect();
        for (at, &lane) in (0..TensorMap::BYTES as u64).step_by(16).zip(lanes.iter().cycle()) {
            let (who, mut data) = ((w, lane, pc), [0; 16]);
            self.read(engine, who, (from.space, src[lane] + at), &mut data, 16, Order::default());
            self.write(engine, who, (to.space, dst[lane] + at), &data, (16, 0), Order::default());
        }
        let warp = &mut self.warps[w];
        warp.clock.sync_lanes(active, warp.live);
        warp.clock.fence(true);
        Then::Next
    }
}
