//! What a run tells of itself: lines, events, a progress bar, a plot.
//!
//! The thread that runs steps fills a [`Record`] from a ring and sends it; a thread of its own
//! writes it everywhere.

mod jsonl;
mod plot;
mod progress;
mod record;
mod tensorboard;
mod writer;

pub use jsonl::{FILE as METRICS_FILE, cut};
pub use plot::loss_curve;
pub use progress::Progress;
pub use record::{Record, Validation};
pub use tensorboard::PREFIX as EVENTS_PREFIX;
pub use writer::{Sinks, Writer};
