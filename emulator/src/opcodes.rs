//! The list of opcodes for the documentation, from the table that the decoder uses.

use crate::decode::{FAMILIES, UNSUPPORTED};

/// `docs/ptx-opcodes.md`.
pub fn markdown() -> String {
    let mut out = String::from(
        "# PTX opcodes\n\nGenerated from the decoder's table; `BLESS=1 cargo test -p gigac-emulator --test opcodes` \
         rewrites it.\nA modifier or type that an opcode does not support is an error that names the line.\n\n\
         ## Supported\n\n",
    );
    for (name, _) in FAMILIES {
        out.push_str(&format!("- `{name}`\n"));
    }
    out.push_str("\n## Not supported\n\n");
    for (name, why) in UNSUPPORTED {
        out.push_str(&format!("- `{name}` ({why})\n"));
    }
    out
}
