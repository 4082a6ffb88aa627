//! The thread that writes the figures of steps.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::jsonl::Lines;
use super::tensorboard::Events;
use super::{Progress, Record};
use crate::data::ring::Ring;
use crate::error::{Error, Result};

/// Records that may be under way at one time.
const DEPTH: usize = 8;

/// Where figures go.
pub struct Sinks {
    lines: Option<Lines>,
    events: Option<Events>,
    progress: Progress,
}

impl Sinks {
    /// Files in a run's folder, when there is one, and the progress line.
    ///
    /// # Errors
    /// [`Error::Io`] when a file cannot be made.
    pub fn open(
        run: Option<&Path>,
        names: &[String],
        first_step: u64,
        progress: Progress,
    ) -> Result<Self> {
        let lines = run.map(|run| Lines::open(run, names)).transpose()?;
        let events = run.map(|run| Events::create(run, names, first_step)).transpose()?;
        Ok(Self { lines, events, progress })
    }

    fn write(&mut self, record: &Record) -> Result<()> {
        self.progress.record(record);
        self.lines.as_mut().map_or(Ok(()), |lines| lines.write(record))?;
        self.events.as_mut().map_or(Ok(()), |events| events.record(record))
    }

    fn sync(&self) -> Result<()> {
        self.lines.as_ref().map_or(Ok(()), Lines::sync)
    }
}

/// Sends records to a thread that writes them.
pub struct Writer {
    free: Arc<Ring<Record>>,
    full: Arc<Ring<Record>>,
    sinks: Arc<Mutex<Sinks>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Writer {
    /// Starts the thread; each record has room for `metrics` values of the model's own.
    ///
    /// # Errors
    /// [`Error::Machine`] when the system refuses a thread.
    pub fn start(sinks: Sinks, metrics: usize) -> Result<Self> {
        let slot = || Record { metrics: Vec::with_capacity(metrics), ..Record::default() };
        let free = Arc::new(Ring::of((0..DEPTH).map(|_| slot()).collect()));
        let full = Arc::new(Ring::new(DEPTH));
        let sinks = Arc::new(Mutex::new(sinks));
        let (from, to, shared) = (full.clone(), free.clone(), sinks.clone());
        let write = move || {
            let result = write_all(&from, &to, &shared);
            to.close();
            from.close();
            result
        };
        let thread = std::thread::Builder::new()
            .name("metrics".to_owned())
            .spawn(write)
            .map_err(|e| Error::Machine(format!("cannot start the metrics thread: {e}")))?;
        Ok(Self { free, full, sinks, thread: Some(thread) })
    }

    /// An empty record, and whether it had to be waited for.
    ///
    /// # Errors
    /// What writing failed with.
    pub fn slot(&mut self) -> Result<(Record, bool)> {
        let (slot, waited) = self.free.pop();
        slot.map(|slot| (slot, waited)).map_or_else(|| Err(self.failure()), Ok)
    }

    /// Hands a record to the thread.
    ///
    /// # Errors
    /// What writing failed with.
    pub fn send(&mut self, record: Record) -> Result<()> {
        self.full.push(record).map_err(|_| self.failure())
    }

    /// Leaves the last state of the progress line on the screen.
    pub fn end_progress(&self) {
        self.sinks.lock().unwrap_or_else(PoisonError::into_inner).progress.finish();
    }

    /// Waits until everything sent is written and on disk.
    ///
    /// # Errors
    /// What writing failed with.
    pub fn flush(&mut self) -> Result<()> {
        if !self.free.wait_full() {
            return Err(self.failure());
        }
        self.sinks.lock().unwrap_or_else(PoisonError::into_inner).sync()
    }

    fn failure(&mut self) -> Error {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => error,
            _ => Error::Machine("the metrics thread ended early".to_owned()),
        }
    }
}

fn write_all(from: &Ring<Record>, to: &Ring<Record>, sinks: &Mutex<Sinks>) -> Result<()> {
    while let Some(record) = from.pop().0 {
        sinks.lock().unwrap_or_else(PoisonError::into_inner).write(&record)?;
        // The ring of slots is closed only after this loop.
        let _ = to.push(record);
    }
    Ok(())
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.full.close();
        if let Some(thread) = self.thread.take() {
            // An error here has been seen by `flush`, or the run failed for another reason.
            let _ = thread.join();
        }
        self.end_progress();
    }
}
