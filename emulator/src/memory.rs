//! Global memory: buffers with exact bounds, in pages that exist only once touched.
//!
//! Words are relaxed atomics, because blocks run on several host threads and a racy kernel must
//! not become a data race of the host. An aligned access never crosses a page.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};

use crate::check::shadow::GlobalShadow;
use crate::types::window;

/// Bytes per page.
pub(crate) const PAGE: usize = 1 << 16;
/// Every buffer begins at a multiple of this, so the owner of an address is a shift away.
const SLOT_SHIFT: u32 = 36;
/// What unwritten memory holds: NaN in every float format, and no plausible integer.
pub(crate) const POISON: u32 = 0xfffb_fffb;

/// Fills `bytes` with the content of a lazily backed buffer from `offset` on.
pub type Filler = Arc<dyn Fn(u64, &mut [u8]) + Send + Sync>;

/// Where the first content of a buffer comes from.
#[derive(Clone)]
pub(crate) enum Backing {
    Bytes(Arc<Vec<u8>>),
    Lazy(Filler),
    /// Poisoned and marked uninitialised.
    Fresh,
}

struct Page {
    words: Box<[AtomicU32]>,
}

/// One allocation.
pub(crate) struct Buffer {
    pub(crate) name: String,
    pub(crate) base: u64,
    pub(crate) len: u64,
    backing: Backing,
    pages: Vec<OnceLock<Page>>,
    /// One bit per byte, only for [`Backing::Fresh`].
    written: Vec<OnceLock<Box<[AtomicU64]>>>,
    pub(crate) shadow: GlobalShadow,
}

impl Buffer {
    fn new(name: String, base: u64, len: u64, backing: Backing) -> Self {
        let n = (len as usize).div_ceil(PAGE);
        let fresh = matches!(backing, Backing::Fresh);
        Buffer {
            name,
            base,
            len,
            backing,
            pages: (0..n).map(|_| OnceLock::new()).collect(),
            written: (0..if fresh { n } else { 0 }).map(|_| OnceLock::new()).collect(),
            shadow: GlobalShadow::new(len),
        }
    }

    fn page(&self, index: usize) -> &Page {
        self.pages[index].get_or_init(|| {
            let start = index * PAGE;
            let mut bytes = vec![0u8; PAGE];
            let used = PAGE.min(self.len as usize - start);
            match &self.backing {
                Backing::Bytes(all) => {
                    let part = all.get(start..(start + used).min(all.len())).unwrap_or(&[]);
                    bytes[..part.len()].copy_from_slice(part);
                }
                Backing::Lazy(fill) => fill(start as u64, &mut bytes[..used]),
                Backing::Fresh => {
                    bytes
                        .chunks_exact_mut(4)
                        .for_each(|c| c.copy_from_slice(&POISON.to_le_bytes()));
                }
            }
            let word = |c: &[u8]| AtomicU32::new(u32::from_le_bytes([c[0], c[1], c[2], c[3]]));
            Page { words: bytes.chunks_exact(4).map(word).collect() }
        })
    }

    fn word(&self, offset: u64) -> &AtomicU32 {
        let offset = offset as usize;
        &self.page(offset / PAGE).words[offset % PAGE / 4]
    }

    /// Reads `out.len()` bytes (1, 2, 4, 8 or 16, aligned).
    #[inline]
    pub(crate) fn read(&self, offset: u64, out: &mut [u8]) {
        if out.len() >= 4 {
            let words = &self.page(offset as usize / PAGE).words[offset as usize % PAGE / 4..];
            for (c, w) in out.chunks_exact_mut(4).zip(words) {
                c.copy_from_slice(&w.load(Relaxed).to_le_bytes());
            }
            return;
        }
        let bytes = self.word(offset).load(Relaxed).to_le_bytes();
        let at = (offset % 4) as usize;
        out.copy_from_slice(&bytes[at..at + out.len()]);
    }

    /// Writes aligned bytes; says whether any byte changed.
    #[inline]
    pub(crate) fn write(&self, offset: u64, data: &[u8]) -> bool {
        let mut changed = false;
        if data.len() >= 4 {
            let words = &self.page(offset as usize / PAGE).words[offset as usize % PAGE / 4..];
            for (c, w) in data.chunks_exact(4).zip(words) {
                let new = u32::from_le_bytes([c[0], c[1], c[2], c[3]]);
                if w.load(Relaxed) != new {
                    w.store(new, Relaxed);
                    changed = true;
                }
            }
            return changed;
        }
        let at = (offset % 4) as usize;
        let patch = |old: u32| {
            let mut bytes = old.to_le_bytes();
            bytes[at..at + data.len()].copy_from_slice(data);
            u32::from_le_bytes(bytes)
        };
        let word = self.word(offset);
        let mut old = word.load(Relaxed);
        while let Err(now) = word.compare_exchange_weak(old, patch(old), Relaxed, Relaxed) {
            old = now;
        }
        patch(old) != old
    }

    /// Read-modify-write of 2 or 4 bytes; the wider ones go through [`Globals::wide`].
    pub(crate) fn update_word(
        &self,
        offset: u64,
        bytes: usize,
        f: &mut dyn FnMut(u32) -> u32,
    ) -> u32 {
        let shift = (offset % 4 * 8) as u32;
        let keep = if bytes >= 4 { u32::MAX } else { (1 << (8 * bytes)) - 1 };
        let word = self.word(offset);
        let mut old = word.load(Relaxed);
        loop {
            let value = old >> shift & keep;
            let new = f(value) & keep;
            let next = old & !(keep << shift) | new << shift;
            match word.compare_exchange_weak(old, next, Relaxed, Relaxed) {
                Ok(_) => return value,
                Err(now) => old = now,
            }
        }
    }

    fn bits(&self, offset: u64) -> Option<(&AtomicU64, u32)> {
        let page = self.written.get(offset as usize / PAGE)?;
        let words = page.get_or_init(|| (0..PAGE / 64).map(|_| AtomicU64::new(0)).collect());
        let at = offset as usize % PAGE;
        Some((&words[at / 64], (at % 64) as u32))
    }

    /// Whether all these bytes were never written (at most 16, aligned, so within one word).
    pub(crate) fn is_uninitialised(&self, offset: u64, bytes: usize) -> bool {
        let Some((word, at)) = self.bits(offset) else { return false };
        let mask = ((1u64 << bytes) - 1) << at;
        word.load(Relaxed) & mask == 0
    }

    /// Marks bytes as written.
    pub(crate) fn mark_written(&self, offset: u64, bytes: usize) {
        if let Some((word, at)) = self.bits(offset) {
            word.fetch_or(((1u64 << bytes) - 1) << at, Relaxed);
        }
    }

    /// The whole content.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len as usize);
        for i in 0..self.pages.len() {
            out.extend(self.page(i).words.iter().flat_map(|w| w.load(Relaxed).to_le_bytes()));
        }
        out.truncate(self.len as usize);
        out
    }

    /// Pages that were touched, as (offset, bytes).
    pub(crate) fn touched(&self) -> Vec<(u64, Vec<u8>)> {
        let mut out = Vec::new();
        for (i, page) in self.pages.iter().enumerate() {
            if let Some(page) = page.get() {
                let mut bytes: Vec<u8> =
                    page.words.iter().flat_map(|w| w.load(Relaxed).to_le_bytes()).collect();
                bytes.truncate(self.len as usize - i * PAGE);
                out.push(((i * PAGE) as u64, bytes));
            }
        }
        out
    }
}

/// All global memory of a launch.
pub(crate) struct Globals {
    pub(crate) buffers: Vec<Buffer>,
    /// Variables of the module, in one allocation at [`window::MODULE`].
    pub(crate) module: Buffer,
    /// Heap of `malloc`.
    pub(crate) heap: Buffer,
    heap_top: AtomicU64,
    /// Held while 64- and 128-bit words are updated.
    pub(crate) wide: Mutex<()>,
}

/// Bytes that `malloc` can hand out.
const HEAP: u64 = 64 << 20;

impl Globals {
    pub(crate) fn new(buffers: Vec<(String, u64, Backing)>, module: Vec<u8>) -> Self {
        let buffers: Vec<Buffer> = buffers
            .into_iter()
            .enumerate()
            .map(|(i, (name, len, backing))| {
                Buffer::new(name, window::BUFFERS + ((i as u64) << SLOT_SHIFT), len, backing)
            })
            .collect();
        let heap_base = window::BUFFERS + (255 << SLOT_SHIFT);
        let length = module.len() as u64;
        let module = Buffer::new(
            "module variables".into(),
            window::MODULE,
            length,
            Backing::Bytes(Arc::new(module)),
        );
        Globals {
            buffers,
            module,
            heap: Buffer::new("heap".into(), heap_base, HEAP, Backing::Fresh),
            heap_top: AtomicU64::new(0),
            wide: Mutex::new(()),
        }
    }

    /// The buffer that owns the address, and the offset in it.
    #[inline]
    pub(crate) fn find(&self, address: u64, bytes: u64) -> Option<(&Buffer, u64)> {
        let buffer = if address >= window::BUFFERS {
            let index = ((address - window::BUFFERS) >> SLOT_SHIFT) as usize;
            if index == 255 { &self.heap } else { self.buffers.get(index)? }
        } else if (window::MODULE..window::MODULE + window::SIZE).contains(&address) {
            &self.module
        } else {
            return None;
        };
        let offset = address - buffer.base;
        (offset.checked_add(bytes)? <= buffer.len).then_some((buffer, offset))
    }

    /// The allocation nearest below the address, for messages.
    pub(crate) fn nearest(&self, address: u64) -> Option<&Buffer> {
        // A little before a buffer counts as that buffer too.
        let slot = address.wrapping_add(1 << 20).checked_sub(window::BUFFERS)? >> SLOT_SHIFT;
        self.buffers.get(slot as usize)
    }

    pub(crate) fn malloc(&self, bytes: u64) -> u64 {
        let size = bytes.next_multiple_of(16).max(16) + 16;
        let at = self.heap_top.fetch_add(size, Relaxed);
        if at + size > HEAP { 0 } else { self.heap.base + at }
    }
}
