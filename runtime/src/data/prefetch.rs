//! Batches made ahead of time, on a thread of their own, in buffers that go round.

use std::ops::Range;
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::data::batch::{Batch, Layout};
use crate::data::ring::Ring;
use crate::data::source::Source;
use crate::error::{Error, Result};

/// Batches that may be ready at one time.
pub const DEPTH: usize = 4;

/// Hands out the batches of a range of steps in order.
pub struct Prefetch {
    ready: Arc<Ring<Batch>>,
    free: Arc<Ring<Batch>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Prefetch {
    /// Starts filling batches for `steps`.
    ///
    /// # Errors
    /// [`Error::Machine`] when the system refuses a thread.
    pub fn start(mut source: Box<dyn Source>, layout: &Layout, steps: Range<u64>) -> Result<Self> {
        let free = Arc::new(Ring::of((0..DEPTH).map(|_| Batch::new(layout)).collect()));
        let ready = Arc::new(Ring::new(DEPTH));
        let (to, from) = (ready.clone(), free.clone());
        let fill = move || {
            let result = steps.clone().try_for_each(|step| fill(&mut *source, step, &from, &to));
            to.close();
            result
        };
        let thread = std::thread::Builder::new()
            .name("data".to_owned())
            .spawn(fill)
            .map_err(|e| Error::Machine(format!("cannot start the data thread: {e}")))?;
        Ok(Self { ready, free, thread: Some(thread) })
    }

    /// The next batch, and whether it had to be waited for.
    ///
    /// # Errors
    /// What the source failed with.
    pub fn take(&mut self) -> Result<(Batch, bool)> {
        let (batch, waited) = self.ready.pop();
        match batch {
            Some(batch) => Ok((batch, waited)),
            None => Err(self.failure()),
        }
    }

    /// Gives a batch's buffers back.
    pub fn recycle(&self, batch: Batch) {
        // A closed ring means that the data thread has ended: nobody needs the buffers.
        let _ = self.free.push(batch);
    }

    fn failure(&mut self) -> Error {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => error,
            _ => Error::Machine("the data thread ended early".to_owned()),
        }
    }
}

fn fill(source: &mut dyn Source, step: u64, from: &Ring<Batch>, to: &Ring<Batch>) -> Result<()> {
    // A closed ring means that the run is over; the rest of the range is not wanted.
    let Some(mut batch) = from.pop().0 else { return Ok(()) };
    source.fill(step, &mut batch)?;
    let _ = to.push(batch);
    Ok(())
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        self.free.close();
        self.ready.close();
        if let Some(thread) = self.thread.take() {
            // Its error, if any, was for a step that nobody asked for.
            let _ = thread.join();
        }
    }
}
