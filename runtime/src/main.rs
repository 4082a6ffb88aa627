//! The prebuilt half of every training executable: `gigac build` adds a program to it.

use gigac_runtime::cli;
use gigac_runtime::exec::allocations::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn main() {
    std::process::exit(cli::main());
}
