//! What accesses to synchronising variables let warps know of each other.

use std::sync::Arc;

use super::engine::Engine;
use super::report::Who;
use super::unit::Unit;
use crate::check::knowledge::Knowledge;
use crate::program::{Order, Scope};
use crate::types::Space;

impl Unit {
    /// A strong write releases what the warp knows, or knew at its last fence.
    pub(crate) fn publish(
        &mut self,
        engine: &Engine,
        who: Who,
        space: Space,
        key: u64,
        order: Order,
    ) {
        if !engine.options.checks.races {
            return;
        }
        let known = self.known(who, space, order);
        if space == Space::Shared {
            self.variables.release(key, known, false);
        } else {
            engine.variables.lock().unwrap_or_else(|p| p.into_inner()).release(key, known, false);
        }
    }

    pub(super) fn known(&mut self, who: Who, space: Space, order: Order) -> Option<Arc<Knowledge>> {
        let clock = &mut self.warps[who.0].clock;
        let wide = space != Space::Shared;
        if order.release && (order.scope >= Scope::Gpu || !wide) {
            clock.settle();
            Some(clock.publish())
        } else {
            clock.fenced(wide)
        }
    }

    /// A strong read acquires, or remembers what it saw for the next fence.
    pub(crate) fn acquire(
        &mut self,
        engine: &Engine,
        who: Who,
        space: Space,
        key: u64,
        order: Order,
    ) {
        if !engine.options.checks.races {
            return;
        }
        let known = if space == Space::Shared {
            self.variables.get(key).cloned()
        } else {
            engine.variables.lock().unwrap_or_else(|p| p.into_inner()).get(key).cloned()
        };
        if order.acquire {
            self.learn(who, known);
        } else if let Some(known) = known {
            self.warps[who.0].clock.observe(&known);
        }
    }

    /// Read-modify-writes acquire even when relaxed: locks are commonly taken so, and the hardware
    /// orders what depends on them.
    pub(super) fn learn(&mut self, who: Who, known: Option<Arc<Knowledge>>) {
        if let Some(known) = known {
            self.warps[who.0].clock.learn(&known, Some(who.1));
        }
    }

    /// The key under which a synchronising variable is kept.
    pub(crate) fn variable_key(&self, space: Space, address: u64) -> (Space, u64) {
        if space == Space::Shared { (space, address & 0xff_ffff) } else { (Space::Global, address) }
    }
}
