"""Gathers, scatters, histograms and every atomic that Triton has."""

import numpy as np
import triton
import triton.language as tl

from harness import BF16, Programs, from_triton, i32, read, rng, update, write

PROGRAMS = Programs()


@triton.jit
def embedding_kernel(tokens, table, out, D, B: tl.constexpr):
    token = tl.load(tokens + tl.program_id(0))
    for start in range(0, D, B):
        i = start + tl.arange(0, B)
        tl.store(out + tl.program_id(0) * D + i, tl.load(table + token * D + i, mask=i < D), mask=i < D)


@triton.jit
def embedding_gradient(tokens, dout, dtable, D, B: tl.constexpr):
    token = tl.load(tokens + tl.program_id(0))
    i = tl.arange(0, B)
    tl.atomic_add(dtable + token * D + i, tl.load(dout + tl.program_id(0) * D + i, mask=i < D), mask=i < D, sem="relaxed")


@PROGRAMS
def embedding():
    random = rng("embedding")
    table = random.standard_normal((20, 80)).astype(BF16)
    tokens = random.integers(0, 20, 12).astype(np.int64)
    yield from from_triton("embedding", embedding_kernel, [
        read("tokens", tokens), read("table", table), write("out", table[tokens]), i32("D", 80)], dict(B=64), grid=12,
        exercises="row gather by i64 index, bf16 copied untouched")
    # Small integers in f32 and f16 add up exactly in any order.
    for dtype, name in ((np.float32, "f32"), (np.float16, "f16")):
        dout = random.integers(-8, 8, (12, 80)).astype(dtype)
        start = random.integers(-8, 8, (20, 80)).astype(dtype)
        expect = start.astype(np.float64)
        np.add.at(expect, tokens, dout.astype(np.float64))
        yield from from_triton(f"embedding_backward_{name}", embedding_gradient, [
            read("tokens", tokens), read("dout", dout), update("dtable", start, expect.astype(dtype)), i32("D", 80)],
            dict(B=128), grid=12, warps=2, targets=(80, 90), exercises=f"row scatter by atomic addition in {name}")


@triton.jit
def atomics_kernel(x, add, low, high, ulow, bits, swap, old, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    v = tl.load(x + i)
    slot = i % 8
    tl.atomic_add(add + slot, v)
    tl.atomic_max(high + slot, v)
    tl.atomic_min(low + slot, v)
    tl.atomic_min(ulow + slot, v.to(tl.uint32, bitcast=True))
    tl.atomic_or(bits + slot, v)
    tl.atomic_and(bits + 8 + slot, v)
    tl.atomic_xor(bits + 16 + slot, v)
    before = tl.atomic_xchg(swap + i, v)
    tl.store(old + i, before)


@PROGRAMS
def atomics():
    random = rng("atomics")
    x = random.integers(-2 ** 31, 2 ** 31, 512).astype(np.int32)
    start = random.integers(-2 ** 31, 2 ** 31, (7, 8)).astype(np.int32)
    swap = random.integers(-2 ** 31, 2 ** 31, 512).astype(np.int32)
    by = x.reshape(-1, 8)
    stack = lambda row: np.concatenate([start[row][None], by])
    add = stack(0).astype(np.int64).sum(0).astype(np.int64).astype(np.uint64).astype(np.uint32).view(np.int32)
    bits = np.concatenate([np.bitwise_or.reduce(stack(4)), np.bitwise_and.reduce(stack(5)), np.bitwise_xor.reduce(stack(6))])
    # All values of one slot share a few bits, or AND would only ever say zero.
    yield from from_triton("atomics_integer", atomics_kernel, [
        read("x", x), update("add", start[0], add), update("low", start[1], stack(1).min(0)),
        update("high", start[2], stack(2).max(0)), update("ulow", start[3].view(np.uint32), stack(3).view(np.uint32).min(0)),
        update("bits", start[4:7], bits), update("swap", swap, x), write("old", swap)], dict(B=256), grid=2, targets=(80, 90),
        exercises="atomic add, min, max, unsigned min, or, and, xor, exchange on global integers")


@triton.jit
def atomics_float_kernel(x, low, high, total, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    v = tl.load(x + i)
    tl.atomic_max(high + i * 0, v)
    tl.atomic_min(low + i * 0, v)
    tl.atomic_add(total + i % 4, v.to(tl.float64))


@PROGRAMS
def atomics_float():
    x = rng("atomics_float").standard_normal(512).astype(np.float32)
    total = x.reshape(-1, 4).astype(np.float64).sum(0)
    yield from from_triton("atomics_float", atomics_float_kernel, [
        read("x", x), update("low", np.float32([3]), np.float32([x.min()])), update("high", np.float32([-3]), np.float32([x.max()])),
        update("total", np.zeros(4), total, 1e-14)], dict(B=256), grid=2,
        exercises="float minimum and maximum by integer atomics on both signs, f64 atomic addition")


@triton.jit
def histogram_kernel(x, counts, n, B: tl.constexpr, BINS: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    keep = i < n
    h = tl.histogram(tl.load(x + i, mask=keep, other=0), BINS, mask=keep)
    tl.atomic_add(counts + tl.arange(0, BINS), h)


@PROGRAMS
def histogram():
    x = rng("histogram").integers(0, 64, 1000).astype(np.int32)
    yield from from_triton("histogram_triton", histogram_kernel, [
        read("x", x), update("counts", np.zeros(64, np.int32), np.bincount(x, minlength=64).astype(np.int32)), i32("n", 1000)],
        dict(B=512, BINS=64), grid=2, targets=(80, 90), exercises="tl.histogram: votes and shared atomics, then global ones")


@triton.jit
def gather_kernel(x, index, y, R: tl.constexpr, C: tl.constexpr):
    at = tl.arange(0, R)[:, None] * C + tl.arange(0, C)[None, :]
    v, i = tl.load(x + at), tl.load(index + at)
    tl.store(y + at, tl.gather(v, i, axis=1) + tl.flip(v, 1))


@PROGRAMS
def gather():
    random = rng("gather")
    x, i = random.standard_normal((8, 64)).astype(np.float32), random.integers(0, 64, (8, 64)).astype(np.int32)
    yield from from_triton("gather_flip", gather_kernel, [
        read("x", x), read("index", i), write("y", np.take_along_axis(x, i, 1) + x[:, ::-1])], dict(R=8, C=64), grid=1,
        exercises="gather within a tile and reversal of an axis")


@triton.jit
def layouts_kernel(x, t, p, A: tl.constexpr, B: tl.constexpr, C: tl.constexpr):
    a, b, c = tl.arange(0, A), tl.arange(0, B), tl.arange(0, C)
    v = tl.load(x + a[:, None, None] * (B * C) + b[None, :, None] * C + c[None, None, :])
    tl.store(t + c[:, None, None] * (A * B) + a[None, :, None] * B + b[None, None, :], tl.permute(v, (2, 0, 1)))
    flat = tl.reshape(v, (A * B, C))
    tl.store(p + c[:, None] * (A * B) + tl.arange(0, A * B)[None, :], tl.trans(flat) * 2)


@PROGRAMS
def layouts():
    x = rng("layouts").integers(-100, 100, (4, 16, 32)).astype(np.int16)
    yield from from_triton("layouts_3d", layouts_kernel, [
        read("x", x), write("t", x.transpose(2, 0, 1)), write("p", x.reshape(64, 32).T * np.int16(2))], dict(A=4, B=16, C=32),
        grid=1, targets=(80,), exercises="permutation and transpose of i16 tiles through shared memory")
