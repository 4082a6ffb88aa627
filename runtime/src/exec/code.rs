//! Kernels as callable code: the image of an executable, mapped read-only and executable.

use std::collections::HashMap;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use gigac_ir::image::{Entry, Image, KernelFn, missing_features};

use crate::error::{Error, Result};
use crate::exec::peak::Vectors;

/// A kernel ready to run.
#[derive(Clone, Copy)]
pub struct Kernel {
    /// Its code.
    pub entry: KernelFn,
    /// Scratch memory that one thread needs.
    pub scratch_bytes: u64,
}

/// Kernels by name, and the mapping that holds their code.
pub struct Kernels {
    by_name: HashMap<String, Kernel>,
    vectors: Vectors,
    _code: Option<Arc<Mapping>>,
}

impl Kernels {
    /// Kernels that are linked into this program.
    pub fn linked(kernels: impl IntoIterator<Item = (String, Kernel)>) -> Self {
        let by_name = kernels.into_iter().collect();
        Self { by_name, vectors: Vectors::host(), _code: None }
    }

    /// Maps the code of an image.
    ///
    /// # Errors
    /// [`Error::Machine`] when this CPU lacks a feature that the code uses, when the system
    /// refuses executable memory, or when an entry lies outside the code.
    pub fn map(image: &Image) -> Result<Self> {
        let missing = missing_features(&image.features);
        if !missing.is_empty() {
            return Err(Error::Machine(format!(
                "this executable was built for a CPU with {}, which this one lacks: build it again \
                 here",
                missing.join(", ")
            )));
        }
        let code = Mapping::executable(&image.bytes)?;
        let entry = |e: &Entry| {
            if e.offset >= image.bytes.len() as u64 {
                return Err(Error::Machine(format!("kernel `{}` lies outside its image", e.name)));
            }
            // SAFETY: the offset is inside the mapping, and the compiler put a function of this
            // very type there.
            let entry = unsafe {
                std::mem::transmute::<*mut u8, KernelFn>(code.start.as_ptr().add(e.offset as usize))
            };
            Ok((e.name.clone(), Kernel { entry, scratch_bytes: e.scratch }))
        };
        let by_name = image.entries.iter().map(entry).collect::<Result<_>>()?;
        let vectors = Vectors::of(&image.features);
        Ok(Self { by_name, vectors, _code: Some(Arc::new(code)) })
    }

    /// The kernel of a name.
    pub fn get(&self, name: &str) -> Option<Kernel> {
        self.by_name.get(name).copied()
    }

    /// The vectors that the code computes with.
    pub fn vectors(&self) -> Vectors {
        self.vectors
    }

    /// Scratch memory that is enough for any kernel.
    pub fn scratch_bytes(&self) -> u64 {
        self.by_name.values().map(|k| k.scratch_bytes).max().unwrap_or(0)
    }
}

/// Memory with code in it.
struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: code is never written after it has been mapped.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn executable(code: &[u8]) -> Result<Self> {
        let refused = |what: &str| {
            let cause = std::io::Error::last_os_error();
            Error::Machine(format!("cannot {what} {} bytes of code: {cause}", code.len()))
        };
        let bytes = code.len().max(1);
        let (access, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a fresh anonymous mapping touches no existing memory.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, access, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(refused("map"));
        }
        let start = NonNull::new(start.cast::<u8>()).expect("a mapping is never at address 0");
        let mapping = Self { start, bytes };
        // SAFETY: source and target are both `code.len()` bytes long and distinct.
        unsafe { ptr::copy_nonoverlapping(code.as_ptr(), start.as_ptr(), code.len()) };
        let access = libc::PROT_READ | libc::PROT_EXEC;
        // SAFETY: changes the access of our own mapping.
        if unsafe { libc::mprotect(start.as_ptr().cast(), bytes, access) } != 0 {
            return Err(refused("make executable"));
        }
        Ok(mapping)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: unmaps exactly what `executable` mapped.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(features: &[&str], offset: u64) -> Image {
        // A lone `ret` is a kernel that does nothing.
        let entry = Entry {
            name: "nothing".into(),
            offset,
            grid_points: 1,
            scratch: 128,
            args: vec![],
            scalars: 0,
        };
        let features = features.iter().map(|f| (*f).to_owned()).collect();
        Image { bytes: vec![0xc3], features, entries: vec![entry] }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn code_runs_where_it_was_mapped() {
        let kernels = Kernels::map(&image(&[], 0)).unwrap();
        let kernel = kernels.get("nothing").unwrap();
        // SAFETY: the code is a single return instruction.
        unsafe { (kernel.entry)(ptr::null(), ptr::null(), 0, 1, ptr::null_mut()) };
        assert_eq!(kernels.scratch_bytes(), 128);
        assert!(kernels.get("other").is_none());
    }

    #[test]
    fn a_lesser_cpu_is_refused() {
        let error = Kernels::map(&image(&["quantum"], 0)).map(drop).unwrap_err();
        assert_eq!(error.exit_code(), 3);
        assert!(error.to_string().contains("quantum"), "{error}");
    }

    #[test]
    fn an_entry_outside_the_code_is_refused() {
        assert!(Kernels::map(&image(&[], 1)).is_err());
    }
}
