//! SIGINT and SIGTERM end a run after the step in hand; a second one ends it at once.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

static ASKED: AtomicBool = AtomicBool::new(false);

extern "C" fn remember(_: libc::c_int) {
    ASKED.store(true, Ordering::Relaxed);
}

/// Catches the first signal of each kind.
pub fn catch() {
    // SAFETY: the handler only stores to an atomic; the structure is plain data, zero is a value
    // of all its fields.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = remember as extern "C" fn(libc::c_int) as libc::sighandler_t;
        action.sa_flags = libc::SA_RESETHAND | libc::SA_RESTART;
        for signal in [libc::SIGINT, libc::SIGTERM] {
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }
}

/// Turns the signal of a file that outgrows a limit into an error of the write, which names the file.
pub fn files_fail_when_too_large() {
    // SAFETY: no handler runs for a signal that is ignored.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Ends what follows the last step of a run when a signal asks for it.
///
/// # Errors
/// [`Error::Interrupted`].
pub(super) fn check(steps: u64, saved: bool) -> Result<()> {
    if asked_to_stop() { Err(Error::Interrupted { steps, saved }) } else { Ok(()) }
}

/// Whether a signal asked the run to end.
pub fn asked_to_stop() -> bool {
    ASKED.load(Ordering::Relaxed)
}
