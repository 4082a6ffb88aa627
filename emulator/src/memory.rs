//! Global memory: buffers with exact bounds, in pages that exist only once touched.
//!
//! What a buffer holds ([`Storage`]) may outlive a launch, in a [`Memory`]; who touched it last belongs to
//! one launch, because the end of a kernel orders everything.
//!
//! Words are relaxed atomics, because blocks run on several host threads and a racy kernel must
//! not become a data race of the host. An aligned access never crosses a page.

use std::ops::Deref;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};

use crate::check::shadow::GlobalShadow;
use crate::error::LaunchError;
use crate::program::Program;
use crate::types::window;

/// Bytes per page.
pub(crate) const PAGE: usize = 1 << 16;
/// Every buffer begins at a multiple of this, so the owner of an address is a shift away.
const SLOT_SHIFT: u32 = 36;
/// Most bytes of a buffer: what follows it in its slot belongs to nobody, so that running over the end shows.
const LARGEST: u64 = (1 << SLOT_SHIFT) - (1 << 20);
/// Slot of the heap, behind those of the buffers; the last address has 48 bits, as on the device.
const HEAP_SLOT: usize = 2303;
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

/// The content of one allocation.
pub(crate) struct Storage {
    pub(crate) name: String,
    pub(crate) base: u64,
    pub(crate) len: u64,
    backing: Backing,
    pages: Vec<OnceLock<Page>>,
    /// One bit per byte, only for [`Backing::Fresh`].
    written: Vec<OnceLock<Box<[AtomicU64]>>>,
}

impl Storage {
    fn new(name: String, base: u64, len: u64, backing: Backing) -> Self {
        let n = (len as usize).div_ceil(PAGE);
        let fresh = matches!(backing, Backing::Fresh);
        Storage {
            name,
            base,
            len,
            backing,
            pages: (0..n).map(|_| OnceLock::new()).collect(),
            written: (0..if fresh { n } else { 0 }).map(|_| OnceLock::new()).collect(),
        }
    }

    fn in_slot(slot: usize, name: String, len: u64, backing: Backing) -> Self {
        Storage::new(name, window::BUFFERS + ((slot as u64) << SLOT_SHIFT), len, backing)
    }

    /// What a page holds before anybody writes to it; `bytes` is the part inside the buffer.
    fn fill(&self, start: usize, bytes: &mut [u8]) {
        match &self.backing {
            Backing::Bytes(all) => {
                let part = all.get(start..(start + bytes.len()).min(all.len())).unwrap_or(&[]);
                bytes[..part.len()].copy_from_slice(part);
            }
            Backing::Lazy(fill) => fill(start as u64, bytes),
            Backing::Fresh => {
                let poison = POISON.to_le_bytes();
                bytes.iter_mut().zip(poison.iter().cycle()).for_each(|(b, p)| *b = *p);
            }
        }
    }

    fn page(&self, index: usize) -> &Page {
        self.pages[index].get_or_init(|| {
            let start = index * PAGE;
            let used = PAGE.min(self.len as usize - start);
            // Whole units of the widest access.
            let mut bytes = vec![0u8; used.next_multiple_of(16)];
            self.fill(start, &mut bytes[..used]);
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

    /// The whole content. Pages that nobody touched are not made.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = vec![0; self.len as usize];
        for (i, part) in out.chunks_mut(PAGE).enumerate() {
            self.copy_page(i, part);
        }
        out
    }

    fn copy_page(&self, index: usize, part: &mut [u8]) {
        match self.pages[index].get() {
            None => self.fill(index * PAGE, part),
            Some(page) => {
                for (c, w) in part.chunks_mut(4).zip(&page.words) {
                    c.copy_from_slice(&w.load(Relaxed).to_le_bytes()[..c.len()]);
                }
            }
        }
    }

    /// Any bytes, wherever they begin.
    fn copy_out(&self, offset: u64, out: &mut [u8]) {
        for (i, byte) in out.iter_mut().enumerate() {
            self.read(offset + i as u64, std::slice::from_mut(byte));
        }
    }

    /// Overwrites any bytes, wherever they begin.
    fn copy_in(&self, offset: u64, data: &[u8]) {
        for (i, byte) in data.iter().enumerate() {
            self.write(offset + i as u64, std::slice::from_ref(byte));
            self.mark_written(offset + i as u64, 1);
        }
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

/// An allocation as one launch sees it.
pub(crate) struct Buffer {
    storage: Arc<Storage>,
    pub(crate) shadow: GlobalShadow,
}

impl Buffer {
    fn new(storage: Arc<Storage>) -> Self {
        Buffer { shadow: GlobalShadow::new(storage.len), storage }
    }
}

impl Deref for Buffer {
    type Target = Storage;

    fn deref(&self) -> &Storage {
        &self.storage
    }
}

/// Device memory that outlives launches: buffers keep their addresses and contents from one
/// [`Launch::run_in`](crate::Launch::run_in) to the next, as do the variables of each module.
///
/// ```
/// use gigac_emulator::{Launch, Memory, Module};
///
/// let module = Module::parse(
///     ".version 8.0
///      .target sm_80
///      .address_size 64
///      .visible .entry add_one(.param .u64 data) {
///          .reg .b32 %r<2>; .reg .b64 %rd<2>;
///          ld.param.u64 %rd1, [data];
///          ld.global.u32 %r1, [%rd1];
///          add.u32 %r1, %r1, 1;
///          st.global.u32 [%rd1], %r1;
///          ret;
///      }",
/// )?;
/// let mut memory = Memory::new();
/// let counter = memory.buffer("counter", vec![0; 8]);
/// for _ in 0..3 {
///     let report = Launch::new(&module, "add_one").pointer(counter + 4).run_in(&memory)?;
///     assert!(report.findings.is_empty());
/// }
/// assert_eq!(memory.read(counter, 8), Some(vec![0, 0, 0, 0, 3, 0, 0, 0]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
pub struct Memory {
    buffers: Vec<Arc<Storage>>,
    variables: Mutex<Vec<(Arc<Program>, Arc<Storage>)>>,
}

impl Memory {
    /// No buffer yet.
    pub fn new() -> Memory {
        Memory::default()
    }

    /// A buffer with this content and exactly this size; returns its address.
    pub fn buffer(&mut self, name: &str, bytes: Vec<u8>) -> u64 {
        self.backed(name, bytes.len() as u64, Backing::Bytes(Arc::new(bytes)))
    }

    /// A buffer that nobody has written yet; returns its address.
    pub fn fresh_buffer(&mut self, name: &str, bytes: u64) -> u64 {
        self.backed(name, bytes, Backing::Fresh)
    }

    /// A buffer whose pages are filled by `fill(offset, bytes)` when first touched, so that sampled
    /// blocks of a huge launch need little memory; returns its address.
    pub fn lazy_buffer(&mut self, name: &str, bytes: u64, fill: Filler) -> u64 {
        self.backed(name, bytes, Backing::Lazy(fill))
    }

    fn backed(&mut self, name: &str, len: u64, backing: Backing) -> u64 {
        let storage = Storage::in_slot(self.buffers.len(), name.to_string(), len, backing);
        let address = storage.base;
        self.buffers.push(Arc::new(storage));
        address
    }

    /// `bytes` bytes from this address on; `None` unless one buffer holds them all.
    pub fn read(&self, address: u64, bytes: usize) -> Option<Vec<u8>> {
        let (storage, offset) = self.find(address, bytes)?;
        let mut out = vec![0; bytes];
        storage.copy_out(offset, &mut out);
        Some(out)
    }

    /// Overwrites what lies at this address; false, and nothing happens, unless one buffer holds it all.
    pub fn write(&self, address: u64, data: &[u8]) -> bool {
        let Some((storage, offset)) = self.find(address, data.len()) else { return false };
        storage.copy_in(offset, data);
        true
    }

    fn find(&self, address: u64, bytes: usize) -> Option<(&Storage, u64)> {
        let offset = address.checked_sub(window::BUFFERS)?;
        let storage = self.buffers.get((offset >> SLOT_SHIFT) as usize)?;
        let offset = address - storage.base;
        (offset.checked_add(bytes as u64)? <= storage.len).then_some((storage, offset))
    }

    /// The variables of a module, initialised by its first launch in this memory.
    fn variables(&self, program: &Arc<Program>) -> Arc<Storage> {
        let mut all = self.variables.lock().unwrap_or_else(|p| p.into_inner());
        if let Some((_, storage)) = all.iter().find(|(known, _)| Arc::ptr_eq(known, program)) {
            return storage.clone();
        }
        let bytes = program.global_bytes.clone();
        let len = bytes.len() as u64;
        let backing = Backing::Bytes(Arc::new(bytes));
        let storage =
            Arc::new(Storage::new("module variables".into(), window::MODULE, len, backing));
        all.push((program.clone(), storage.clone()));
        storage
    }
}

/// All global memory of a launch.
pub(crate) struct Globals {
    /// Those of the [`Memory`], then those of the launch.
    pub(crate) buffers: Vec<Buffer>,
    /// Variables of the module, in one allocation at [`window::MODULE`].
    module: Buffer,
    /// Heap of `malloc`, made by the first call.
    heap: OnceLock<Buffer>,
    heap_top: AtomicU64,
    /// Held while 64- and 128-bit words are updated.
    pub(crate) wide: Mutex<()>,
}

/// Bytes that `malloc` can hand out.
const HEAP: u64 = 64 << 20;

impl Globals {
    /// The memory of a launch whose own buffers are `own`, behind those of `memory`.
    ///
    /// # Errors
    /// More buffers than there are slots, or one larger than a slot.
    pub(crate) fn new(
        memory: &Memory,
        own: &[(String, u64, Backing)],
        program: &Arc<Program>,
    ) -> Result<Self, LaunchError> {
        let first = memory.buffers.len();
        if first + own.len() > HEAP_SLOT {
            return Err(LaunchError::Arguments(format!("more than {HEAP_SLOT} buffers")));
        }
        let lengths = memory.buffers.iter().map(|s| (&s.name, s.len));
        for (name, len) in lengths.chain(own.iter().map(|(name, len, _)| (name, *len))) {
            if len > LARGEST {
                return Err(LaunchError::Arguments(format!(
                    "buffer `{name}` has {len} bytes, the most are {LARGEST}"
                )));
            }
        }
        let own = own.iter().enumerate().map(|(i, (name, len, backing))| {
            Arc::new(Storage::in_slot(first + i, name.clone(), *len, backing.clone()))
        });
        Ok(Globals {
            buffers: memory.buffers.iter().cloned().chain(own).map(Buffer::new).collect(),
            module: Buffer::new(memory.variables(program)),
            heap: OnceLock::new(),
            heap_top: AtomicU64::new(0),
            wide: Mutex::new(()),
        })
    }

    /// The buffer that owns the address, and the offset in it.
    #[inline]
    pub(crate) fn find(&self, address: u64, bytes: u64) -> Option<(&Buffer, u64)> {
        let buffer = if address >= window::BUFFERS {
            let index = ((address - window::BUFFERS) >> SLOT_SHIFT) as usize;
            if index == HEAP_SLOT { self.heap.get()? } else { self.buffers.get(index)? }
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
        let heap = self.heap.get_or_init(|| {
            let storage = Storage::in_slot(HEAP_SLOT, "heap".into(), HEAP, Backing::Fresh);
            Buffer::new(Arc::new(storage))
        });
        let Some(size) = bytes.max(1).checked_next_multiple_of(16) else { return 0 };
        let size = size.saturating_add(16);
        let take = |top: u64| top.checked_add(size).filter(|end| *end <= HEAP);
        let at = self.heap_top.fetch_update(Relaxed, Relaxed, take);
        at.map_or(0, |at| heap.base + at)
    }
}
