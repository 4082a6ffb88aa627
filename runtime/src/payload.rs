//! The program inside an executable: an ELF section of the prebuilt runner.
//!
//! A section, unlike bytes appended to the file, survives `strip`. Writing needs no linker: the
//! payload, a longer table of section names and a longer section table go behind the file's last
//! byte, and the header's section fields point there. Equal inputs give equal bytes.
//!
//! The section holds [`MAGIC`], the format's number, the SHA-256 of the rest, and the program in
//! postcard's encoding.

use std::io::Write;
use std::path::Path;

use gigac_ir::program::Program;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::whole;

/// First bytes of a payload.
pub const MAGIC: &[u8; 8] = b"gigac\0\0\0";
/// Format of the payload; raised whenever a type in it changes.
const FORMAT: u32 = 2;
/// Name of the section.
const SECTION: &str = ".gigac";
/// Alignment of what is appended.
const ALIGN: usize = 64;

/// Builds the executable: the runner with the program in it.
///
/// # Errors
/// [`Error::Machine`] when the runner is not a plain 64-bit ELF file of this machine.
pub fn build(runner: &[u8], program: &Program) -> Result<Vec<u8>> {
    add_section(runner, &encode(program)?)
}

/// Builds the executable from the runner at one path and writes it to another, executable.
///
/// # Errors
/// [`Error::Io`] names the file; nothing is left half-written under the final name.
pub fn write(runner: &Path, program: &Program, target: &Path) -> Result<()> {
    let runner_bytes = std::fs::read(runner).map_err(Error::io("read", runner))?;
    let bytes = build(&runner_bytes, program)?;
    whole::write(target, |out| {
        out.write_all(&bytes)?;
        out.get_ref().set_permissions(executable())
    })
}

fn executable() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o755)
}

/// The program in the running executable, when it has one.
///
/// # Errors
/// [`Error::Machine`] when the payload is damaged or of another version.
pub fn read_self() -> Result<Option<Program>> {
    let path = Path::new("/proc/self/exe");
    let file = std::fs::File::open(path).map_err(Error::io("read", path))?;
    // SAFETY: an executable that runs cannot be written to, so the mapping does not change.
    let map = unsafe { memmap2::Mmap::map(&file) }.map_err(Error::io("map", path))?;
    section(&map)?.map(decode).transpose()
}

/// The program in an executable's bytes, when it has one.
///
/// # Errors
/// As [`read_self`].
pub fn read(executable: &[u8]) -> Result<Option<Program>> {
    section(executable)?.map(decode).transpose()
}

fn encode(program: &Program) -> Result<Vec<u8>> {
    let body = postcard::to_stdvec(program)
        .map_err(|e| Error::Machine(format!("cannot encode the program: {e}")))?;
    let mut payload = MAGIC.to_vec();
    payload.extend(FORMAT.to_le_bytes());
    payload.extend(Sha256::digest(&body));
    payload.extend(body);
    Ok(payload)
}

fn decode(payload: &[u8]) -> Result<Program> {
    let damaged = |what: &str| Error::Machine(format!("the program in this executable is {what}"));
    let rest = payload.strip_prefix(MAGIC).ok_or_else(|| damaged("damaged"))?;
    let (format, rest) = rest.split_first_chunk::<4>().ok_or_else(|| damaged("cut short"))?;
    if u32::from_le_bytes(*format) != FORMAT {
        return Err(damaged("of another version of gigac: build it again"));
    }
    let (digest, body) = rest.split_first_chunk::<32>().ok_or_else(|| damaged("cut short"))?;
    if Sha256::digest(body).as_slice() != digest {
        return Err(damaged("damaged: its digest differs"));
    }
    postcard::from_bytes(body).map_err(|e| damaged(&format!("damaged: {e}")))
}

/// Bytes of a section header.
const HEADER: usize = 64;
/// Place in the file header: offset of the section table.
const E_SHOFF: usize = 0x28;
/// Place in the file header: number of sections, and right after it the section of names.
const E_SHNUM: usize = 0x3c;
/// Place in a section header: offset in the file.
const SH_OFFSET: usize = 0x18;
/// Place in a section header: length.
const SH_SIZE: usize = 0x20;

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    let field = bytes.get(at..)?.first_chunk::<2>()?;
    Some(u16::from_le_bytes(*field).into())
}

fn u64_at(bytes: &[u8], at: usize) -> Option<usize> {
    let field = bytes.get(at..)?.first_chunk::<8>()?;
    usize::try_from(u64::from_le_bytes(*field)).ok()
}

/// The section table of a 64-bit little-endian ELF file.
struct Sections<'e> {
    elf: &'e [u8],
    table: &'e [u8],
    names_index: usize,
}

impl<'e> Sections<'e> {
    fn new(elf: &'e [u8]) -> Option<Self> {
        // Magic, 64 bits, little endian.
        elf.strip_prefix(b"\x7fELF\x02\x01")?;
        let (start, count) = (u64_at(elf, E_SHOFF)?, u16_at(elf, E_SHNUM)?);
        let table = elf.get(start..)?.get(..count * HEADER)?;
        let names_index = u16_at(elf, E_SHNUM + 2)?;
        (names_index < count).then_some(Self { elf, table, names_index })
    }

    fn header(&self, index: usize) -> &'e [u8] {
        &self.table[index * HEADER..][..HEADER]
    }

    fn data(&self, index: usize) -> Option<&'e [u8]> {
        let header = self.header(index);
        self.elf.get(u64_at(header, SH_OFFSET)?..)?.get(..u64_at(header, SH_SIZE)?)
    }

    fn find(&self, name: &str) -> Option<usize> {
        let names = self.data(self.names_index)?;
        (0..self.table.len() / HEADER).find(|index| {
            let start = self.header(*index).first_chunk::<4>().map(|n| u32::from_le_bytes(*n));
            let rest = start.and_then(|n| names.get(n as usize..)).unwrap_or_default();
            rest.strip_prefix(name.as_bytes()).is_some_and(|tail| tail.first() == Some(&0))
        })
    }
}

fn section(elf: &[u8]) -> Result<Option<&[u8]>> {
    let not_elf = || Error::Machine("the executable is not a 64-bit ELF file".to_owned());
    let sections = Sections::new(elf).ok_or_else(not_elf)?;
    let Some(index) = sections.find(SECTION) else { return Ok(None) };
    sections.data(index).map(Some).ok_or_else(not_elf)
}

fn add_section(elf: &[u8], payload: &[u8]) -> Result<Vec<u8>> {
    let bad = |what: &str| Error::Machine(format!("the runner {what}"));
    let sections = Sections::new(elf).ok_or_else(|| bad("is not a 64-bit ELF file"))?;
    if sections.find(SECTION).is_some() {
        return Err(bad("already holds a program"));
    }
    let old_names = sections.data(sections.names_index).ok_or_else(|| bad("is damaged"))?;
    let mut out = elf.to_vec();
    let payload_at = append(&mut out, payload);
    let names = [old_names, SECTION.as_bytes(), b"\0"].concat();
    let names_at = append(&mut out, &names);

    let mut table = sections.table.to_vec();
    let names_header = &mut table[sections.names_index * HEADER..][..HEADER];
    names_header[SH_OFFSET..][..8].copy_from_slice(&(names_at as u64).to_le_bytes());
    names_header[SH_SIZE..][..8].copy_from_slice(&(names.len() as u64).to_le_bytes());
    table.extend(section_header(old_names.len(), payload_at, payload.len()));
    let count = u16::try_from(table.len() / HEADER).map_err(|_| bad("has too many sections"))?;
    let table_at = append(&mut out, &table);
    out[E_SHOFF..][..8].copy_from_slice(&(table_at as u64).to_le_bytes());
    out[E_SHNUM..][..2].copy_from_slice(&count.to_le_bytes());
    Ok(out)
}

/// Appends aligned bytes and returns where they begin.
fn append(out: &mut Vec<u8>, bytes: &[u8]) -> usize {
    out.resize(out.len().next_multiple_of(ALIGN), 0);
    let at = out.len();
    out.extend(bytes);
    at
}

/// The header of the payload's section: program bits that no segment loads.
fn section_header(name: usize, offset: usize, size: usize) -> [u8; HEADER] {
    const PROGBITS: u32 = 1;
    let mut header = [0; HEADER];
    header[0..4].copy_from_slice(&(name as u32).to_le_bytes());
    header[4..8].copy_from_slice(&PROGBITS.to_le_bytes());
    header[SH_OFFSET..][..8].copy_from_slice(&(offset as u64).to_le_bytes());
    header[SH_SIZE..][..8].copy_from_slice(&(size as u64).to_le_bytes());
    header[0x30..0x38].copy_from_slice(&(ALIGN as u64).to_le_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use proptest::prelude::*;

    fn own_bytes() -> Vec<u8> {
        std::fs::read("/proc/self/exe").unwrap()
    }

    #[test]
    fn round_trip_and_same_bytes() {
        let program = testing::program();
        let built = build(&own_bytes(), &program).unwrap();
        assert_eq!(read(&built).unwrap(), Some(program.clone()));
        assert_eq!(built, build(&own_bytes(), &program).unwrap());
        assert_eq!(read(&own_bytes()).unwrap(), None);
        assert!(build(&built, &program).unwrap_err().to_string().contains("already"));
    }

    #[test]
    fn runs_and_survives_strip() {
        let folder = tempfile::tempdir().unwrap();
        let (plain, out) = (folder.path().join("true"), folder.path().join("out"));
        std::fs::copy("/bin/true", &plain).unwrap();
        write(&plain, &testing::program(), &out).unwrap();
        assert!(std::process::Command::new(&out).status().unwrap().success());
        let Ok(status) = std::process::Command::new("strip").arg(&out).status() else { return };
        assert!(status.success());
        assert_eq!(read(&std::fs::read(&out).unwrap()).unwrap(), Some(testing::program()));
        assert!(std::process::Command::new(&out).status().unwrap().success());
    }

    #[test]
    fn damage_is_noticed() {
        let mut built = build(&own_bytes(), &testing::program()).unwrap();
        let at = section(&built).unwrap().unwrap().as_ptr() as usize - built.as_ptr() as usize;
        built[at + 60] ^= 1;
        assert_eq!(read(&built).unwrap_err().exit_code(), 3);
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = read(&bytes);
            let head = b"\x7fELF\x02\x01";
            let n = head.len().min(bytes.len());
            bytes[..n].copy_from_slice(&head[..n]);
            let _ = read(&bytes);
            let _ = decode(&bytes);
            bytes.splice(0..0, MAGIC.iter().copied().chain(FORMAT.to_le_bytes()));
            let _ = decode(&bytes);
        }
    }
}
