//! Speed of the emulator: Triton's bf16 matmul (`mma.sync`, `cp.async`, `ldmatrix`) at 1024³, with and
//! without checks, with every set of vector instructions that the host has; and what a launch costs whose kernel does nearly nothing. `cargo bench -p gigac-emulator`; results with dates are in `benches/emulator.md`.

use std::time::Instant;

use gigac_emulator::{Checks, Isa, Launch, Memory, Module};

const SIZE: usize = 1024;

fn main() {
    let text = include_str!("../tests/samples/matmul_bf16.sm_80/kernel.ptx");
    for isa in Isa::ALL.into_iter().filter(|isa| *isa <= Isa::detect()) {
        match Module::parse_for(text, isa) {
            Ok(module) => matmul(&module, isa),
            Err(error) => panic!("{error}"),
        }
    }
    launches();
}

fn matmul(module: &Module, isa: Isa) {
    let matrix = |seed: usize| -> Vec<u8> {
        let value = |i: usize| half::bf16::from_f32(((i * 7 + seed) % 13) as f32 / 8.0 - 0.75);
        (0..SIZE * SIZE).flat_map(|i| value(i).to_le_bytes()).collect()
    };
    let (a, b) = (matrix(1), matrix(5));
    for (name, checks) in [("checks off", Checks::NONE), ("all checks", Checks::ALL)] {
        let tiles = SIZE as u32 / 64;
        let launch = Launch::new(module, "matmul")
            .grid([tiles, tiles, 1])
            .block([128, 1, 1])
            .dynamic_shared(16384)
            .buffer("a", a.clone())
            .buffer("b", b.clone())
            .buffer("c", vec![0; SIZE * SIZE * 4])
            .u32(SIZE as u32)
            .u32(SIZE as u32)
            .u32(SIZE as u32)
            .null()
            .null()
            .profile(false)
            .checks(checks);
        let start = Instant::now();
        let report = match launch.run() {
            Ok(report) => report,
            Err(error) => panic!("{error}"),
        };
        let seconds = start.elapsed().as_secs_f64();
        assert!(report.findings.is_empty(), "{:?}", report.findings);
        let rate = report.profile.warp_instructions as f64 / seconds / 1e6;
        println!(
            "matmul bf16 {SIZE}^3, {isa:?}, {name}: {seconds:.2} s, {rate:.2} million warp instructions/s, {:.0} % matrix",
            100.0 * report.profile.tensor_share
        );
    }
}

/// One block of 32 threads that each add one number, launched again and again.
fn launches() {
    const TIMES: u32 = 2000;
    let text = include_str!("../tests/samples/vec_add.sm_80/kernel.ptx");
    let module = match Module::parse(text) {
        Ok(module) => module,
        Err(error) => panic!("{error}"),
    };
    let entry = module.entries().next().unwrap_or_default().to_string();
    for (name, checks) in [("checks off", Checks::NONE), ("all checks", Checks::ALL)] {
        let mut memory = Memory::new();
        let [x, y, z] = ["x", "y", "z"].map(|name| memory.buffer(name, vec![0; 4096]));
        let start = Instant::now();
        for _ in 0..TIMES {
            let launch = Launch::new(&module, &entry).block([128, 1, 1]);
            let launch = launch.pointer(x).pointer(y).pointer(z).u32(32).null().null();
            match launch.checks(checks).profile(false).run_in(&memory) {
                Ok(report) => assert!(report.findings.is_empty(), "{:?}", report.findings),
                Err(error) => panic!("{error}"),
            }
        }
        let each = start.elapsed().as_secs_f64() / f64::from(TIMES);
        println!("launch of one small block, {name}: {:.1} us", each * 1e6);
    }
}
