//! The one block of memory that plans work in.
//!
//! It is mapped once, in huge pages where the system has them, and ends exactly at an
//! inaccessible page; the page in front of the one that it begins in is inaccessible too. So a kernel
//! that leaves the arena stops the program instead of corrupting it. What lies between the front
//! guard and the arena, less than a page, holds [`POISON`]: [`Arena::front_is_whole`] tells whether
//! somebody wrote there.

use std::ptr::{self, NonNull};

use crate::error::{Error, Result};

/// Bytes of a guard, on each side.
const GUARD: usize = 4096;
/// Unit of huge pages: the arena starts within one unit after the guard.
const HUGE: usize = 2 << 20;

/// A quiet NaN that no computation produces: memory that nothing has written.
pub const POISON: u32 = 0x7fda_dead;

/// Zeroed memory between two guards.
pub struct Arena {
    map: NonNull<u8>,
    map_bytes: usize,
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the arena owns its mapping; shared access is read-only.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

impl Arena {
    /// Maps an arena of `bytes`, a multiple of the plan's alignment.
    ///
    /// # Errors
    /// [`Error::Machine`] when the system has not that much memory.
    pub fn new(bytes: u64) -> Result<Self> {
        let too_large = |e: &dyn std::fmt::Display| {
            Error::Machine(format!("cannot map an arena of {bytes} bytes: {e}"))
        };
        let bytes = usize::try_from(bytes).map_err(|e| too_large(&e))?;
        let span = bytes.checked_next_multiple_of(HUGE).and_then(|b| b.checked_add(2 * GUARD));
        let map_bytes = span.ok_or_else(|| too_large(&"absurd size"))?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a fresh anonymous mapping touches no existing memory.
        let map = unsafe { libc::mmap(ptr::null_mut(), map_bytes, libc::PROT_NONE, flags, -1, 0) };
        if map == libc::MAP_FAILED {
            return Err(too_large(&std::io::Error::last_os_error()));
        }
        let map = NonNull::new(map.cast::<u8>()).expect("a mapping is never at address 0");
        // SAFETY: both offsets are inside the mapping; the base is `bytes` before the last guard.
        let (inner, base) = unsafe { (map.add(GUARD), map.add(map_bytes - GUARD - bytes)) };
        let arena = Self { map, map_bytes, base, bytes };
        let inner_bytes = map_bytes - 2 * GUARD;
        // Whole pages in front of the arena stay without access.
        let unused = (base.as_ptr() as usize - inner.as_ptr() as usize) / GUARD * GUARD;
        // SAFETY: the unused pages end at the arena's first page or before.
        let (inner, inner_bytes) = (unsafe { inner.add(unused) }, inner_bytes - unused);
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the range between the guards belongs to this mapping.
        let failed = unsafe { libc::mprotect(inner.as_ptr().cast(), inner_bytes, access) } != 0;
        if failed {
            return Err(too_large(&std::io::Error::last_os_error()));
        }
        // SAFETY: advice on our own mapping; a refusal only costs speed.
        unsafe { libc::madvise(inner.as_ptr().cast(), inner_bytes, libc::MADV_HUGEPAGE) };
        let front = (base.as_ptr() as usize - inner.as_ptr() as usize) / size_of::<u32>();
        // SAFETY: the words between the guard and the arena belong to this mapping.
        unsafe { std::slice::from_raw_parts_mut(inner.as_ptr().cast::<u32>(), front).fill(POISON) };
        Ok(arena)
    }

    /// Whether nothing was written between the front guard and the arena.
    pub fn front_is_whole(&self) -> bool {
        let front = self.base.as_ptr() as usize % GUARD / size_of::<u32>();
        // SAFETY: the mapping begins at a page, so the words from the arena's page on are its own.
        let words = unsafe {
            let start = self.base.as_ptr().sub(front * size_of::<u32>());
            std::slice::from_raw_parts(start.cast::<u32>(), front)
        };
        words.iter().all(|word| *word == POISON)
    }

    /// Length in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// Address of the first byte.
    pub fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    fn check<T>(&self, offset: u64, count: usize) -> *mut T {
        let bytes = (count as u64).checked_mul(size_of::<T>() as u64);
        let end = bytes.and_then(|b| b.checked_add(offset));
        assert!(end.is_some_and(|end| end <= self.bytes()), "access past the arena");
        // SAFETY: the offset is inside the arena, as just asserted.
        let start = unsafe { self.base.as_ptr().add(offset as usize) }.cast::<T>();
        assert!(start.is_aligned(), "misaligned access at arena offset {offset}");
        start
    }

    /// Elements that lie at an offset.
    pub fn slice<T: Plain>(&self, offset: u64, count: usize) -> &[T] {
        let start = self.check::<T>(offset, count);
        // SAFETY: in bounds and aligned; every bit pattern is a `T`; kernels run only under `&mut`.
        unsafe { std::slice::from_raw_parts(start, count) }
    }

    /// Elements that lie at an offset, to be changed.
    pub fn slice_mut<T: Plain>(&mut self, offset: u64, count: usize) -> &mut [T] {
        let start = self.check::<T>(offset, count);
        // SAFETY: as for `slice`; `&mut self` makes the access unique.
        unsafe { std::slice::from_raw_parts_mut(start, count) }
    }

    /// Fills the bytes from `first` to the end with [`POISON`].
    pub fn poison(&mut self, first: u64) {
        let first = first.next_multiple_of(4);
        let words = self.bytes().saturating_sub(first) / 4;
        self.slice_mut::<u32>(first, words as usize).fill(POISON);
    }

    /// Fills whole words of a range with [`POISON`].
    pub fn poison_range(&mut self, offset: u64, bytes: u64) {
        self.slice_mut::<u32>(offset, (bytes / 4) as usize).fill(POISON);
    }

    /// The first word of a range that nothing has written since it was poisoned: its byte.
    pub fn unwritten(&self, offset: u64, bytes: u64) -> Option<u64> {
        let start = offset.next_multiple_of(4);
        let words = (offset + bytes).saturating_sub(start) / 4;
        let found = self.slice::<u32>(start, words as usize).iter().position(|w| *w == POISON);
        found.map(|word| start + 4 * word as u64 - offset)
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: unmaps exactly what `new` mapped.
        unsafe { libc::munmap(self.map.as_ptr().cast(), self.map_bytes) };
    }
}

/// Types of which every bit pattern is a value.
pub trait Plain: Copy + sealed::Sealed {}

mod sealed {
    /// Keeps [`super::Plain`] to the types below.
    pub trait Sealed {}
}

macro_rules! plain {
    ($($ty:ty),*) => { $(impl Plain for $ty {} impl sealed::Sealed for $ty {})* };
}
plain!(u8, u16, u32, i32, f32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_zero_and_ends_at_its_size() {
        let mut arena = Arena::new(4096 + 64).unwrap();
        assert!(arena.slice::<u8>(0, 4160).iter().all(|b| *b == 0));
        arena.slice_mut::<f32>(4156, 1)[0] = 1.0;
        assert_eq!(arena.base() as usize % 64, 0);
    }

    #[test]
    #[should_panic(expected = "past the arena")]
    fn refuses_what_is_outside() {
        Arena::new(64).unwrap().slice::<u8>(0, 65);
    }

    #[test]
    fn an_absurd_size_is_an_error() {
        assert_eq!(Arena::new(u64::MAX).map(drop).unwrap_err().exit_code(), 3);
    }

    #[test]
    fn a_write_in_front_shows() {
        let arena = Arena::new(64).unwrap();
        assert!(arena.front_is_whole());
        // SAFETY: the bytes in front of this arena belong to its mapping, up to the page's beginning.
        unsafe { arena.base().sub(4).write(0) };
        assert!(!arena.front_is_whole());
    }

    #[test]
    fn what_was_not_written_is_found() {
        let mut arena = Arena::new(256).unwrap();
        arena.poison_range(64, 128);
        assert_eq!(arena.unwritten(0, 64), None);
        arena.slice_mut::<f32>(64, 3).fill(1.0);
        assert_eq!(arena.unwritten(62, 100), Some(14));
        arena.slice_mut::<f32>(64, 32).fill(1.0);
        assert_eq!(arena.unwritten(64, 128), None);
    }

    /// A write just past either end kills the process: tried in a child.
    #[test]
    fn guards_stop_the_process() {
        for outside in [-1, 64] {
            let arena = Arena::new(64).unwrap();
            // SAFETY: the child only touches memory and exits, both safe after a fork.
            let status = unsafe {
                let child = libc::fork();
                if child == 0 {
                    // The arena is at the end of its page; the guard ends where the page begins.
                    let at = if outside < 0 {
                        arena.base().sub(GUARD - 64 + 1)
                    } else {
                        arena.base().add(64)
                    };
                    libc::signal(libc::SIGSEGV, libc::SIG_DFL);
                    at.write_volatile(1);
                    libc::_exit(0);
                }
                let mut status = 0;
                libc::waitpid(child, &mut status, 0);
                status
            };
            assert!(libc::WIFSIGNALED(status), "the write went through");
        }
    }
}
