//! `gigac emit sass`: what NVIDIA's assembler makes of all kernels of a step.

use crate::support::{Place, model, passed};

/// Whether the tools are where `gigac` looks for them.
fn there(name: &str, variable: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::var_os(variable).is_some()
        || std::env::split_paths(&folders).any(|folder| folder.join(name).is_file())
}

#[test]
fn the_assembler_takes_every_kernel_and_keeps_all_in_registers() {
    if !there("ptxas", "GIGAC_PTXAS") || !there("nvdisasm", "GIGAC_NVDISASM") {
        eprintln!("skipped: no ptxas and nvdisasm on PATH or in GIGAC_PTXAS and GIGAC_NVDISASM");
        return;
    }
    for target in ["sm_80", "sm_90"] {
        let place = Place::new();
        let folder = place.path("kernels");
        let model = model("nano");
        let bf16 = ["--set", "train.precision=bf16"];
        passed(&place.gigac(
            &[&["emit", "sass", &model, "--target", target, "-o", &folder], &bf16[..]].concat(),
        ));
        let files = std::fs::read_dir(&folder).expect("the folder of kernels");
        let files: Vec<_> = files.map(|f| f.expect("a file").path()).collect();
        let read = |suffix: &str| -> Vec<String> {
            let wanted = files.iter().filter(|f| f.extension().is_some_and(|e| e == suffix));
            wanted.map(|f| std::fs::read_to_string(f).expect("text")).collect()
        };
        let (ptx, sass) = (read("ptx"), read("sass"));
        let cubins = files.iter().filter(|f| f.extension().is_some_and(|e| e == "cubin")).count();
        assert!(ptx.len() > 50 && ptx.len() == sass.len() && ptx.len() == cubins);
        for text in &ptx {
            let used = text.lines().find(|line| line.starts_with("// ptxas: used "));
            let used = used.unwrap_or_else(|| panic!("no registers in\n{text}"));
            assert!(
                used.contains(" registers") && used.contains(" 0 bytes spill stores"),
                "{used}"
            );
        }
        assert!(sass.iter().filter(|text| text.contains("HMMA.16816.F32.BF16")).count() > 10);
        assert!(sass.iter().all(|text| !text.contains("STL") && !text.contains("LDL")));
    }
}
