//! Object file → image: lays code and constants out in one run of bytes and resolves every
//! reference between them.
//!
//! Sections keep the order of the object, code first, each at its own alignment. Only
//! PC-relative references are allowed, so the result runs at any address. A reference to a symbol
//! that the object does not define is an error: kernels call nothing.

use std::collections::HashMap;

use gigac_ir::image::ALIGNMENT;
use object::read::elf::ElfFile64;
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionIndex, SectionKind};

use crate::CodegenError;

type Elf<'d> = ElfFile64<'d>;

/// Where each section that is kept begins in the image.
type Places = Vec<(SectionIndex, u64)>;

/// Linked bytes and where each function begins.
pub(super) struct Linked {
    pub(super) bytes: Vec<u8>,
    pub(super) functions: HashMap<String, u64>,
}

/// Links one object.
pub(super) fn link(object: &[u8]) -> Result<Linked, CodegenError> {
    let elf = Elf::parse(object).map_err(malformed)?;
    let (mut bytes, places) = lay_out(&elf)?;
    let functions = functions(&elf, &places);
    for (section, place) in &places {
        let section = elf.section_by_index(*section).map_err(malformed)?;
        relocate(&elf, &section, *place, &places, &functions, &mut bytes)?;
    }
    Ok(Linked { bytes, functions })
}

fn malformed(error: object::Error) -> CodegenError {
    CodegenError::Llvm(format!("malformed object: {error}"))
}

/// Copies the sections that are needed at run time; says where each one went.
fn lay_out(elf: &Elf<'_>) -> Result<(Vec<u8>, Places), CodegenError> {
    let mut bytes = Vec::new();
    let mut places = Vec::new();
    let kept = [SectionKind::Text, SectionKind::ReadOnlyData, SectionKind::ReadOnlyString];
    for kind in kept {
        for section in elf.sections().filter(|s| s.kind() == kind && s.size() > 0) {
            let align = section.align().clamp(1, ALIGNMENT) as usize;
            bytes.resize(bytes.len().next_multiple_of(align), 0);
            places.push((section.index(), bytes.len() as u64));
            bytes.extend_from_slice(section.data().map_err(malformed)?);
        }
    }
    let written = |s: &object::read::elf::ElfSection64<'_, '_>| {
        matches!(s.kind(), SectionKind::Data | SectionKind::UninitializedData) && s.size() > 0
    };
    match elf.sections().find(written) {
        Some(section) => {
            let name = section.name().unwrap_or("?");
            Err(CodegenError::Llvm(format!("kernels have no writable data, but here is {name}")))
        }
        None => Ok((bytes, places)),
    }
}

fn place(places: &[(SectionIndex, u64)], section: Option<SectionIndex>) -> Option<u64> {
    let section = section?;
    places.iter().find(|(index, _)| *index == section).map(|(_, place)| *place)
}

fn functions(elf: &Elf<'_>, places: &[(SectionIndex, u64)]) -> HashMap<String, u64> {
    let defined = elf.symbols().filter(|s| s.is_definition() && s.is_global());
    defined
        .filter_map(|symbol| {
            let start = place(places, symbol.section_index())?;
            Some((symbol.name().ok()?.to_owned(), start + symbol.address()))
        })
        .collect()
}

fn relocate(
    elf: &Elf<'_>,
    section: &object::read::elf::ElfSection64<'_, '_>,
    start: u64,
    places: &[(SectionIndex, u64)],
    functions: &HashMap<String, u64>,
    bytes: &mut [u8],
) -> Result<(), CodegenError> {
    for (offset, relocation) in section.relocations() {
        let at = start + offset;
        let kernel = || nearest(functions, at);
        let RelocationTarget::Symbol(index) = relocation.target() else {
            return Err(CodegenError::Llvm(format!("a reference to no symbol in `{}`", kernel())));
        };
        let symbol = elf.symbol_by_index(index).map_err(malformed)?;
        let Some(target) = place(places, symbol.section_index()) else {
            let symbol = symbol.name().unwrap_or("?").to_owned();
            return Err(CodegenError::Symbol { kernel: kernel(), symbol });
        };
        check_kind(&relocation, &kernel())?;
        let distance = (target + symbol.address()) as i64 + relocation.addend() - at as i64;
        let field = i32::try_from(distance).map_err(|_| too_large())?;
        bytes[at as usize..at as usize + 4].copy_from_slice(&field.to_le_bytes());
    }
    Ok(())
}

/// Only 32-bit distances from the field itself.
fn check_kind(relocation: &object::Relocation, kernel: &str) -> Result<(), CodegenError> {
    use object::elf::{R_X86_64_PC32, R_X86_64_PLT32};
    match relocation.flags() {
        object::RelocationFlags::Elf { r_type: R_X86_64_PC32 | R_X86_64_PLT32 } => Ok(()),
        other => Err(CodegenError::Llvm(format!("relocation {other:?} in `{kernel}`"))),
    }
}

fn too_large() -> CodegenError {
    CodegenError::Llvm("the image exceeds 2 GiB".to_owned())
}

/// The function whose code or constants an address most likely belongs to.
fn nearest(functions: &HashMap<String, u64>, at: u64) -> String {
    let before = functions.iter().filter(|(_, start)| **start <= at);
    before.max_by_key(|(_, start)| **start).map_or_else(|| "?".to_owned(), |(name, _)| name.clone())
}

#[cfg(test)]
mod tests {
    use inkwell::context::Context;
    use inkwell::targets::FileType;

    use super::super::{CpuTarget, emit::Emitter};
    use super::*;

    #[test]
    fn a_call_outside_is_an_error_that_names_the_kernel() {
        let (context, target) = (Context::create(), CpuTarget::x86_64_v3());
        let emit = Emitter::new(&context, &target);
        let ty = context.void_type().fn_type(&[], false);
        let outside = emit.module.add_function("outside", ty, None);
        for name in ["quiet", "caller"] {
            let function = emit.module.add_function(name, ty, None);
            emit.enter(context.append_basic_block(function, "entry"));
            if name == "caller" {
                emit.builder.build_call(outside, &[], "").expect("the types agree");
            }
            emit.ret();
        }
        let machine = target.machine().expect("LLVM knows x86-64");
        let object = machine.write_to_memory_buffer(&emit.module, FileType::Object);
        let error = link(object.expect("an object").as_slice()).err();
        let (kernel, symbol) = ("caller".to_owned(), "outside".to_owned());
        assert_eq!(error, Some(CodegenError::Symbol { kernel, symbol }));
    }

    #[test]
    fn bytes_that_are_no_object_are_refused() {
        assert!(matches!(link(b"no object"), Err(CodegenError::Llvm(_))));
    }
}
