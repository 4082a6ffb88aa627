"""Programs with one mistake each, which an emulator must reject: good PTX edited, or sources with the mistake in them."""

import dataclasses
import re

import numpy as np

import cuda_control
import cuda_hopper
import cuda_memory
import cuda_tensor
from harness import Programs, from_nvcc, i32, read, rng, update, write
from triton_kernels import matmul, rows

PROGRAMS = Programs()


def pick(makes, folder):
    """The good program with that folder."""
    for program in makes:
        if program.folder == folder:
            return program
    raise SystemExit(f"no good program {folder}")


def edited(good, name, finding, what, pattern, replacement, count=0):
    """`good` with its PTX changed by one substitution, which must change something."""
    ptx, changes = re.subn(pattern, replacement, good.ptx, count=count)
    assert changes, (name, pattern)
    yield dataclasses.replace(good, name=name, ptx=ptx, finding=finding, exercises=what, made_by=f"editing the PTX of `{good.folder}`")


def alone(ptx, entry):
    """The module with no other entry point than that one."""
    head, *functions = re.split(r"^\t// \.globl\t", ptx, flags=re.M)
    kept = [f for f in functions if ".entry" not in f or f.split()[0] == entry]
    return "\t// .globl\t".join([head, *kept])


def mistaken(source, entry, args, finding, what, **launch):
    """A kernel whose source has the mistake."""
    for program in from_nvcc(entry, args, source=f"broken/{source}", entry=entry, exercises=what, edit=lambda ptx: alone(ptx, entry), **launch):
        yield dataclasses.replace(program, finding=finding, made_by=f"compiling `broken/{source}.cu`")


@PROGRAMS
def missing_barrier():
    good = pick(cuda_memory.cp_async(), "cp_async.sm_80")
    transpose = pick(cuda_control.transpose(), "transpose.sm_80")
    yield from edited(transpose, "missing_barrier", "race", "no barrier between filling the tile and reading it", r"\tbar\.sync\s+0;\n", "", 1)
    last = pick(cuda_control.last_block(), "last_block.sm_80")
    yield from edited(last, "reduction_without_barriers", "race", "tree reduction in shared memory without its barriers", r"\tbar\.sync\s+0;\n", "")
    yield from edited(good, "cp_async_without_barrier", "race", "each thread waits for its own copies, none for those of others",
                      r"\tbar\.sync\s+0;\n", "")
    softmax = pick(rows.softmax(), "softmax_online_bf16.sm_80")
    yield from edited(softmax, "softmax_without_barriers", "race", "reduction between warps through shared memory without barriers",
                      r"\tbar\.sync\s+0;\n", "")
    scan = pick(cuda_control.lookback_scan(), "lookback_scan.sm_80")
    yield from edited(scan, "named_barrier_mixed_up", "race", "the second barrier became an arrival that waits for nobody",
                      r"(bar\.sync\s+0;[\s\S]*?)bar\.sync\s+0;", r"\1bar.arrive 0, 128;", 1)


@PROGRAMS
def missing_wait():
    gemm = pick(cuda_tensor.gemm(), "gemm.sm_80")
    yield from edited(gemm, "cp_async_no_wait", "missing-wait", "pipelined product that never waits for its copies",
                      r"\tcp\.async\.wait_group 1;\n", "")
    yield from edited(gemm, "cp_async_weak_wait", "missing-wait", "pipelined product that waits one group too few",
                      r"cp\.async\.wait_group 1;", "cp.async.wait_group 2;")
    triton = pick(matmul.products(), "matmul_i8_bt.sm_80")
    yield from edited(triton, "triton_weak_wait", "missing-wait", "Triton's product, every wait one group too weak",
                      r"cp\.async\.wait_group\s+2;", "cp.async.wait_group 3;")
    uncommitted = pick(cuda_memory.cp_async(), "cp_async.sm_80")
    yield from edited(uncommitted, "cp_async_no_wait_all", "missing-wait", "the last copies are read without wait_all", r"\tcp\.async\.wait_all;\n", "")
    wgmma = pick(cuda_hopper.wgmma_pipeline(), "wgmma_pipeline.sm_90a")
    yield from edited(wgmma, "wgmma_no_wait", "missing-wait", "accumulators are read while wgmma is in flight", r"\twgmma\.wait_group\.sync\.aligned 0;\n", "")
    x = rng("bulk").standard_normal(256).astype(np.float32)
    args = lambda: [read("x", x), write("y", x * np.float32(2))]
    flags = cuda_hopper.HOPPER
    yield from mistaken("hopper", "bulk_without_wait", args(), "missing-wait", "reads what a bulk copy brings before its mbarrier completes", grid=1,
                        block=256, **flags)
    yield from mistaken("hopper", "bulk_too_much_expected", args(), "deadlock", "the mbarrier expects more bytes than come", grid=1, block=256, **flags)


@PROGRAMS
def wrong_result():
    gemm = pick(cuda_tensor.gemm(), "gemm.sm_80")
    yield from edited(gemm, "mma_operands_swapped", "mismatch", "second and third register of the first operand exchanged",
                      r"(mma\.sync\S+ \{[^}]*\}, \{[^,}]*), ([^,}]*), ([^,}]*),", r"\1, \3, \2,")
    yield from edited(gemm, "ldmatrix_not_transposed", "mismatch", "the second operand loaded without .trans", r"\.x4\.trans\.shared", ".x4.shared")
    yield from edited(gemm, "ldmatrix_transposed", "mismatch", "the first operand loaded with .trans", r"\.x4\.shared", ".x4.trans.shared")
    shuffle = pick(cuda_control.last_block(), "last_block.sm_80")
    yield from edited(shuffle, "shuffle_too_short", "mismatch", "the last reduction leaves a lane out: its first exchange is over 8 lanes, not 16",
                      r"(shfl\.sync\.bfly\.b32\s+[^,]*, [^,]*), %r\d+", r"\1, 8", 1)
    x = rng("rounding").standard_normal(100).astype(np.float32)
    wgmma = pick(cuda_hopper.wgmma_layouts(), "wgmma_layouts.sm_90a")
    yield from edited(wgmma, "wgmma_wrong_signs", "mismatch", "the negated product is not negated", r", p, -1, 1, 0, 0;", ", p, 1, 1, 0, 0;")


def doubled(n, threads, name):
    """x, and y = 2 x; both as long as the launch where the kernel checks no bounds."""
    x = rng(name).standard_normal(n).astype(np.float32)
    return [read("x", x), write("y", x * np.float32(2)), i32("n", n)]


@PROGRAMS
def memory():
    simple = lambda entry, finding, what, n, threads: mistaken("simple", entry, doubled(n, threads, entry), finding, what, grid=1, block=threads)
    yield from simple("no_bounds_check", "out-of-bounds", "128 threads on buffers of 100 elements and 16 guards", 100, 128)
    yield from simple("one_too_far", "mismatch", "writes one element past the end, into the guard", 100, 128)
    yield from simple("shared_too_small", "out-of-bounds", "96 threads write an array of 64 in shared memory", 96, 96)
    yield from simple("local_too_small", "out-of-bounds", "reads element 8 of a local array of 8", 64, 64)
    yield from simple("odd_vector", "misaligned", "16-byte load 4 bytes off", 128, 32)
    yield from simple("odd_double", "misaligned", "8-byte load from shared memory 4 bytes off", 128, 128)
    yield from simple("unwritten_shared", "uninitialised-read", "one element of shared memory is never written", 128, 128)
    yield from simple("unwritten_local", "uninitialised-read", "elements of a local array are read before they are written", 64, 64)
    good = pick(cuda_tensor.ldmatrix(), "ldmatrix.sm_80")
    yield from edited(good, "ldmatrix_misaligned", "misaligned", "row addresses 4 bytes off",
                      r"(ldmatrix\.sync\.aligned\.m8n8\.x2\.shared\.b16 \{[^}]*\}, \[%r\d+)\]", r"\1+4]", 1)


@PROGRAMS
def synchronisation():
    simple = lambda entry, finding, what, n, threads: mistaken("simple", entry, doubled(n, threads, entry), finding, what, grid=1, block=threads)
    yield from simple("divergent_barrier", "barrier-divergence", "20 lanes of each warp reach the barrier", 128, 128)
    yield from simple("counted_too_high", "deadlock", "a barrier for 128 threads that 64 reach", 128, 128)
    yield from simple("crossed_barriers", "deadlock", "two halves of the block wait for each other on two barriers", 128, 128)
    yield from simple("half_mask", "member-mask", "32 lanes shuffle with a mask of 16", 64, 64)
    yield from simple("ballot_mask", "member-mask", "a lane votes that the mask does not name", 64, 64)
    yield from simple("no_syncwarp", "race", "neighbouring lanes exchange through shared memory without __syncwarp", 128, 128)
    named = pick(cuda_control.named_barriers(), "named_barriers.sm_80")
    yield from edited(named, "arrival_missing", "deadlock", "one arrival of the producers is gone, their consumers wait for ever", r"\tbar\.arrive[^\n]*\n", "", 1)


@PROGRAMS
def races():
    random = rng("races")
    x = random.integers(0, 16, 500).astype(np.uint8)
    yield from mistaken("races", "plain_histogram", [
        read("x", x), write("bins", np.bincount(x, minlength=16).astype(np.uint32)), i32("n", 500)], "race", "counts in shared memory without atomics", grid=1,
        block=128)
    v = random.integers(-50, 50, (3, 64)).astype(np.float32)
    yield from mistaken("races", "plain_sum", [read("x", v), update("sum", np.zeros(64, np.float32), v.sum(0))], "race",
                        "blocks add into the same global elements without atomics", grid=3, block=64)
    y = random.integers(-50, 50, 128).astype(np.int32)
    yield from mistaken("races", "scan_in_place", [update("y", y, y.cumsum().astype(np.int32))], "race", "scan in place with one barrier a step instead of two",
                        grid=1, block=128)
    last = pick(cuda_control.last_block(), "last_block.sm_80")
    yield from edited(last, "last_block_without_fences", "race", "the last block reads what the others left behind, with no fence on either side",
                      r"\tmembar\.gl;\n", "")
