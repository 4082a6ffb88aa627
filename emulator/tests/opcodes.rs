//! The list of opcodes in `docs/` is the decoder's.

use std::path::Path;

#[test]
fn the_list_of_opcodes_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ptx-opcodes.md");
    let want = gigac_emulator::forms::markdown();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &want).expect("docs/ can be written");
    }
    let have = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(have == want, "run BLESS=1 cargo test -p gigac-emulator --test opcodes");
}
