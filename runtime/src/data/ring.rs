//! A queue of fixed length between two threads. It allocates nothing after it was made.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A closed ring takes nothing more; what is in it can still be taken out.
pub struct Ring<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    capacity: usize,
}

struct State<T> {
    items: VecDeque<T>,
    closed: bool,
}

impl<T> Ring<T> {
    /// An empty ring.
    pub fn new(capacity: usize) -> Self {
        let items = VecDeque::with_capacity(capacity);
        let state = Mutex::new(State { items, closed: false });
        Self { state, changed: Condvar::new(), capacity }
    }

    /// A ring full of slots.
    pub fn of(slots: Vec<T>) -> Self {
        let ring = Self::new(slots.len());
        ring.lock().items.extend(slots);
        ring
    }

    /// Adds an item, waiting for room; gives it back when the ring is closed.
    pub fn push(&self, item: T) -> Result<(), T> {
        let mut state = self.lock();
        while state.items.len() == self.capacity && !state.closed {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return Err(item);
        }
        state.items.push_back(item);
        self.changed.notify_all();
        Ok(())
    }

    /// Takes the oldest item, waiting for one; nothing when the ring is closed and empty.
    /// The second value says whether it had to wait.
    pub fn pop(&self) -> (Option<T>, bool) {
        let (mut state, mut waited) = (self.lock(), false);
        while state.items.is_empty() && !state.closed {
            waited = true;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let item = state.items.pop_front();
        self.changed.notify_all();
        (item, waited)
    }

    /// Waits until the ring is full; false when it is closed instead.
    pub fn wait_full(&self) -> bool {
        let mut state = self.lock();
        while state.items.len() < self.capacity && !state.closed {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        !state.closed
    }

    /// Lets both sides go.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // A panic between lock and unlock cannot leave the queue half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_items_in_order_and_counts_waits() {
        let ring = Ring::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                (0..100).for_each(|i| ring.push(i).unwrap());
                ring.close();
            });
            let got: Vec<i32> = std::iter::from_fn(|| ring.pop().0).collect();
            assert_eq!(got, (0..100).collect::<Vec<_>>());
        });
        assert_eq!(ring.push(1), Err(1));
        assert_eq!(ring.pop(), (None, false));
        assert_eq!(Ring::of(vec![7]).pop(), (Some(7), false));
    }
}
