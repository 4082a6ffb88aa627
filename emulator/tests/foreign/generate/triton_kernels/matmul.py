"""Matrix products: every operand type, tile shapes, pipeline depths, transposes, batches, split-K, persistence."""

import numpy as np
import triton
import triton.language as tl

from harness import BF16, Programs, f32, from_triton, i32, read, rng, update, write

PROGRAMS = Programs()


@triton.jit
def matmul(a, b, c, M, N, K, sam, sak, sbk, sbn, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
           ACC: tl.constexpr, PRECISION: tl.constexpr):
    rm = tl.program_id(0) * BM + tl.arange(0, BM)
    rn = tl.program_id(1) * BN + tl.arange(0, BN)
    rk = tl.arange(0, BK)
    pa = a + rm[:, None] * sam + rk[None, :] * sak
    pb = b + rk[:, None] * sbk + rn[None, :] * sbn
    acc = tl.zeros((BM, BN), dtype=ACC)
    for k in range(0, tl.cdiv(K, BK)):
        left = K - k * BK
        x = tl.load(pa, mask=(rm[:, None] < M) & (rk[None, :] < left), other=0.0)
        y = tl.load(pb, mask=(rk[:, None] < left) & (rn[None, :] < N), other=0.0)
        acc = tl.dot(x, y, acc, input_precision=PRECISION, out_dtype=ACC)
        pa += BK * sak
        pb += BK * sbk
    pc = c + rm[:, None] * N + rn[None, :]
    tl.store(pc, acc.to(c.dtype.element_ty), mask=(rm[:, None] < M) & (rn[None, :] < N))


def tf32(x):
    """To the 10 bits of mantissa that the tensor core keeps, so that the product is exact."""
    return (x.astype(np.float32).view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)


def product(name, M, N, K, BM, BN, BK, *, dtype=np.float16, out=np.float32, ta=False, tb=False, warps=4, stages=3,
            targets=(80,), tolerance=1e-4, precision="tf32", exact_tf32=True, note=""):
    random = rng(name)
    if np.dtype(dtype).kind == "i":
        a, b = (random.integers(-128, 128, s).astype(dtype) for s in ((M, K), (K, N)))
        expect, acc = a.astype(np.int64) @ b.astype(np.int64), tl.int32
    else:
        a, b = (random.standard_normal(s).astype(dtype) for s in ((M, K), (K, N)))
        if dtype == np.float32 and exact_tf32:
            a, b = tf32(a), tf32(b)
        expect, acc = a.astype(np.float64) @ b.astype(np.float64), tl.float32
    sa = (1, M) if ta else (K, 1)
    sb = (1, K) if tb else (N, 1)
    args = [read("a", a.T if ta else a), read("b", b.T if tb else b), write("c", expect.astype(out), tolerance),
            i32("M", M), i32("N", N), i32("K", K)]
    constants = dict(BM=BM, BN=BN, BK=BK, ACC=acc, PRECISION=precision)
    # A stride of one is a constant to Triton, which is what lets the loads be wide.
    for key, value in zip(("sam", "sak", "sbk", "sbn"), (*sa, *sb)):
        if value == 1:
            constants[key] = 1
        else:
            args.append(i32(key, value))
    yield from from_triton(name, matmul, args, constants, grid=(-(-M // BM), -(-N // BN)), warps=warps, stages=stages,
                           targets=targets,
                           exercises=f"{M}×{N}×{K} product of {np.dtype(dtype).name}, tile {BM}×{BN}×{BK}, {warps} warps, "
                                     f"{stages} stages" + (", A transposed" if ta else "") +
                                     (", B transposed" if tb else "") + note)


@PROGRAMS
def products():
    both = (80, 90)
    yield from product("matmul_f16_stage1", 64, 64, 64, 32, 32, 32, stages=1, targets=both)
    yield from product("matmul_f16_stage2", 64, 64, 128, 64, 64, 32, stages=2, targets=(90,))
    yield from product("matmul_f16_stage4_w8", 128, 64, 128, 128, 64, 32, stages=4, warps=8, out=np.float16,
                       tolerance=2e-3)
    yield from product("matmul_bf16_ragged", 75, 53, 88, 64, 32, 32, dtype=BF16, note=", ragged edges")
    yield from product("matmul_bf16_at", 64, 96, 64, 64, 32, 32, dtype=BF16, ta=True, targets=(90,))
    yield from product("matmul_bf16_bt", 64, 96, 64, 64, 32, 32, dtype=BF16, tb=True)
    yield from product("matmul_f16_at_bt", 64, 64, 64, 64, 64, 64, ta=True, tb=True, stages=2, targets=both)
    yield from product("matmul_bf16_wide", 64, 128, 128, 64, 128, 64, dtype=BF16, out=BF16, tolerance=8e-3, warps=4,
                       targets=(90,))
    yield from product("matmul_tf32", 64, 64, 64, 64, 64, 32, dtype=np.float32, targets=both)
    yield from product("matmul_tf32_rounding", 64, 32, 64, 32, 32, 32, dtype=np.float32, exact_tf32=False,
                       tolerance=2e-2, note=", operands with all 24 bits")
    yield from product("matmul_tf32x3", 32, 32, 64, 32, 32, 32, dtype=np.float32, exact_tf32=False, precision="tf32x3",
                       tolerance=1e-4, note=", three passes of tf32")
    yield from product("matmul_fma_f32", 64, 32, 48, 32, 32, 16, dtype=np.float32, exact_tf32=False, precision="ieee",
                       tolerance=2e-5, note=", on the FMA units")
    yield from product("matmul_i8", 64, 64, 128, 64, 64, 64, dtype=np.int8, out=np.int32, tolerance=0, targets=both)
    yield from product("matmul_i8_bt", 32, 64, 64, 32, 64, 32, dtype=np.int8, out=np.int32, tolerance=0, tb=True)


@triton.jit
def matmul_batched(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    batch = tl.program_id(2)
    rm = tl.program_id(0) * BM + tl.arange(0, BM)
    rn = tl.program_id(1) * BN + tl.arange(0, BN)
    rk = tl.arange(0, BK)
    pa = a + batch * M * K + rm[:, None] * K + rk[None, :]
    pb = b + batch * K * N + rk[:, None] * N + rn[None, :]
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for k in range(0, K, BK):
        acc = tl.dot(tl.load(pa), tl.load(pb), acc)
        pa += BK
        pb += BK * N
    tl.store(c + batch * M * N + rm[:, None] * N + rn[None, :], acc)


@PROGRAMS
def batched():
    random = rng("batched")
    a, b = random.standard_normal((2, 64, 64)).astype(np.float16), random.standard_normal((2, 64, 32)).astype(np.float16)
    yield from from_triton("matmul_batched", matmul_batched, [
        read("a", a), read("b", b), write("c", (a.astype(np.float64) @ b.astype(np.float64)).astype(np.float32), 1e-4),
        i32("M", 64), i32("N", 32), i32("K", 64)], dict(BM=32, BN=32, BK=32), grid=(2, 1, 2), stages=2,
        exercises="a batch of products on grid axis z")


@triton.jit
def matmul_split_k(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, SPLIT: tl.constexpr):
    rm = tl.program_id(0) * BM + tl.arange(0, BM)
    rn = tl.program_id(1) * BN + tl.arange(0, BN)
    rk = tl.program_id(2) * BK + tl.arange(0, BK)
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for k in range(tl.program_id(2) * BK, K, BK * SPLIT):
        acc = tl.dot(tl.load(a + rm[:, None] * K + rk[None, :]), tl.load(b + rk[:, None] * N + rn[None, :]), acc)
        rk += BK * SPLIT
    tl.atomic_add(c + rm[:, None] * N + rn[None, :], acc, sem="relaxed")


@PROGRAMS
def split_k():
    random = rng("split_k")
    a, b = random.standard_normal((32, 256)).astype(BF16), random.standard_normal((256, 32)).astype(BF16)
    c = random.standard_normal((32, 32)).astype(np.float32)
    expect = c + a.astype(np.float64) @ b.astype(np.float64)
    yield from from_triton("matmul_split_k", matmul_split_k, [
        read("a", a), read("b", b), update("c", c, expect.astype(np.float32), 1e-4), i32("M", 32), i32("N", 32),
        i32("K", 256)], dict(BM=32, BN=32, BK=32, SPLIT=4), grid=(1, 1, 4), stages=2,
        exercises="split-K: four blocks add into one tile with atomics")


@triton.jit
def matmul_persistent(a, b, bias, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    tiles_n = tl.cdiv(N, BN)
    for tile in tl.range(tl.program_id(0), tl.cdiv(M, BM) * tiles_n, tl.num_programs(0), flatten=True):
        rm = tile // tiles_n * BM + tl.arange(0, BM)
        rn = tile % tiles_n * BN + tl.arange(0, BN)
        acc = tl.zeros((BM, BN), dtype=tl.float32)
        for k in range(0, tl.cdiv(K, BK)):
            rk = k * BK + tl.arange(0, BK)
            acc = tl.dot(tl.load(a + rm[:, None] * K + rk[None, :]), tl.load(b + rk[:, None] * N + rn[None, :]), acc)
        acc += tl.load(bias + rn)[None, :]
        acc = acc * tl.sigmoid(acc)
        tl.store(c + rm[:, None] * N + rn[None, :], acc.to(tl.bfloat16))


@PROGRAMS
def persistent():
    random = rng("persistent")
    a, b = random.standard_normal((96, 64)).astype(BF16), random.standard_normal((64, 64)).astype(BF16)
    bias = random.standard_normal(64).astype(np.float32)
    z = a.astype(np.float64) @ b.astype(np.float64) + bias
    yield from from_triton("matmul_persistent", matmul_persistent, [
        read("a", a), read("b", b), read("bias", bias), write("c", (z / (1 + np.exp(-z))).astype(BF16), 8e-3),
        i32("M", 96), i32("N", 64), i32("K", 64)], dict(BM=32, BN=32, BK=32), grid=2, stages=3, targets=(80, 90),
        exercises="persistent blocks over six tiles, flattened loop, bias and SiLU in the epilogue")


@triton.jit
def matmul_dequantize(a, q, scale, c, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    rm = tl.arange(0, BM)
    rn = tl.program_id(0) * BN + tl.arange(0, BN)
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for k in range(0, K, BK):
        rk = k + tl.arange(0, BK)
        packed = tl.load(q + (rk // 2)[:, None] * N + rn[None, :])
        nibble = (packed >> ((rk % 2) * 4)[:, None]) & 15
        y = (nibble.to(tl.int32) - 8).to(tl.float32) * tl.load(scale + rn)[None, :]
        acc = tl.dot(tl.load(a + rm[:, None] * K + rk[None, :]), y.to(tl.float16), acc)
    tl.store(c + rm[:, None] * N + rn[None, :], acc)


@PROGRAMS
def dequantize():
    random = rng("dequantize")
    a = random.standard_normal((32, 64)).astype(np.float16)
    nibbles = random.integers(0, 16, (64, 32))
    scale = (2.0 ** random.integers(-3, 2, 32)).astype(np.float32)
    packed = (nibbles[0::2] | nibbles[1::2] << 4).astype(np.uint8)
    expect = a.astype(np.float64) @ ((nibbles - 8) * scale.astype(np.float64))
    yield from from_triton("matmul_int4_weights", matmul_dequantize, [
        read("a", a), read("q", packed), read("scale", scale), write("c", expect.astype(np.float32), 1e-4), i32("N", 32),
        i32("K", 64)], dict(BM=32, BN=32, BK=32), grid=1, stages=2,
        exercises="f16 times packed int4 weights: nibbles, byte to f16, register operands of mma")


@triton.jit
def gated(x, wg, wu, y, T, H, D, BT: tl.constexpr, BH: tl.constexpr, BD: tl.constexpr):
    rt = tl.program_id(0) * BT + tl.arange(0, BT)
    rh = tl.program_id(1) * BH + tl.arange(0, BH)
    gate = tl.zeros((BT, BH), dtype=tl.float32)
    up = tl.zeros((BT, BH), dtype=tl.float32)
    for d in range(0, D, BD):
        rd = d + tl.arange(0, BD)
        tile = tl.load(x + rt[:, None] * D + rd[None, :])
        gate = tl.dot(tile, tl.load(wg + rd[:, None] * H + rh[None, :]), gate)
        up = tl.dot(tile, tl.load(wu + rd[:, None] * H + rh[None, :]), up)
    tl.store(y + rt[:, None] * H + rh[None, :], (gate * tl.sigmoid(gate) * up).to(tl.bfloat16))


@PROGRAMS
def swiglu():
    random = rng("swiglu")
    x = random.standard_normal((64, 64)).astype(BF16)
    wg, wu = ((random.standard_normal((64, 64)) / 8).astype(BF16) for _ in range(2))
    g, u = (x.astype(np.float64) @ w.astype(np.float64) for w in (wg, wu))
    yield from from_triton("swiglu", gated, [
        read("x", x), read("wg", wg), read("wu", wu), write("y", (g / (1 + np.exp(-g)) * u).astype(BF16), 8e-3),
        i32("T", 64), i32("H", 64), i32("D", 64)], dict(BT=64, BH=64, BD=32), grid=1, stages=2, targets=(90,),
        exercises="two products of one operand, gated")


@triton.jit
def matmul_fp8(a, b, c, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    rm, rn = tl.arange(0, BM), tl.arange(0, BN)
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for k in range(0, K, BK):
        rk = k + tl.arange(0, BK)
        acc = tl.dot(tl.load(a + rm[:, None] * K + rk[None, :]), tl.load(b + rn[None, :] * K + rk[:, None]), acc)
    tl.store(c + rm[:, None] * BN + rn[None, :], acc)


@PROGRAMS
def fp8():
    import ml_dtypes
    for kind, element, targets in ((ml_dtypes.float8_e5m2, "fp8e5", (80, 90)), (ml_dtypes.float8_e4m3fn, "fp8e4nv", (90,))):
        random = rng(element)
        a, b = (random.standard_normal(s).astype(kind) for s in ((64, 64), (32, 64)))
        expect = a.astype(np.float64) @ b.astype(np.float64).T
        yield from from_triton(f"matmul_{element}", matmul_fp8, [
            read("a", a.view(np.uint8), element), read("b", b.view(np.uint8), element),
            write("c", expect.astype(np.float32), 1e-3), i32("K", 64)], dict(BM=64, BN=32, BK=32), grid=1, stages=2,
            targets=targets, exercises=f"product of {element}; sm_80 converts to f16 first")
