"""Elementwise kernels: mathematics, random numbers, optimizer, conversions, inline assembly, calls, debug lines."""

import math

import numpy as np
import triton
import triton.language as tl
from triton.language.extra import libdevice

from harness import BF16, Programs, f32, from_triton, i32, read, rng, u32, update, write

PROGRAMS = Programs()
F = np.float64


@triton.jit
def adamw_kernel(p, g, m, v, n, lr, b1, b2, eps, decay, c1, c2, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    keep = i < n
    grad = tl.load(g + i, mask=keep).to(tl.float32)
    w = tl.load(p + i, mask=keep)
    m1 = b1 * tl.load(m + i, mask=keep) + (1 - b1) * grad
    v1 = b2 * tl.load(v + i, mask=keep) + (1 - b2) * grad * grad
    w = w * (1 - lr * decay) - lr * (m1 / c1) / (tl.sqrt(v1 / c2) + eps)
    tl.store(p + i, w, mask=keep)
    tl.store(m + i, m1, mask=keep)
    tl.store(v + i, v1, mask=keep)


@PROGRAMS
def adamw():
    random = rng("adamw")
    n = 700
    p, m = (random.standard_normal(n).astype(np.float32) for _ in range(2))
    g, v = random.standard_normal(n).astype(BF16), random.random(n).astype(np.float32)
    lr, b1, b2, eps, decay = (F(np.float32(t)) for t in (1e-2, 0.9, 0.95, 1e-8, 0.1))
    c1, c2 = 1 - b1 ** 3, 1 - b2 ** 3
    m1, v1 = b1 * m + (1 - b1) * g.astype(F), b2 * v + (1 - b2) * g.astype(F) ** 2
    p1 = p * (1 - lr * decay) - lr * (m1 / c1) / (np.sqrt(v1 / c2) + eps)
    yield from from_triton("adamw", adamw_kernel, [
        update("p", p, p1.astype(np.float32), 1e-5), read("g", g), update("m", m, m1.astype(np.float32), 1e-6),
        update("v", v, v1.astype(np.float32), 1e-6), i32("n", n), f32("lr", lr), f32("b1", b1), f32("b2", b2),
        f32("eps", eps), f32("decay", decay), f32("c1", c1), f32("c2", c2)], dict(B=256), grid=3, targets=(80,),
        exercises="AdamW in place, ragged end")


def philox(seed, counters, rounds=10):
    """Philox 4x32: Salmon et al., Parallel random numbers: as easy as 1, 2, 3."""
    c = [counters.astype(np.uint64)] + [np.zeros_like(counters, np.uint64) for _ in range(3)]
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    low = np.uint64(0xFFFFFFFF)
    for _ in range(rounds):
        a, b = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(b >> np.uint64(32)) ^ c[1] ^ np.uint64(k0), b & low, (a >> np.uint64(32)) ^ c[3] ^ np.uint64(k1), a & low]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c


@triton.jit
def dropout_kernel(x, y, bits, n, p, seed, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    v = tl.load(x + i, mask=i < n)
    r = tl.randint(seed, i)
    tl.store(bits + i, r, mask=i < n)
    keep = tl.rand(seed, i) >= p
    tl.store(y + i, tl.where(keep, v / (1 - p), 0.0), mask=i < n)


@PROGRAMS
def dropout():
    x = rng("dropout").standard_normal(500).astype(np.float32)
    bits = philox(1234, np.arange(500))[0].astype(np.uint32).view(np.int32)
    signed = bits.astype(np.int64)
    uniform = np.where(signed < 0, -signed - 1, signed) * 4.6566127342e-10
    assert (abs(uniform - 0.25) > 1e-6).all()
    y = np.where(uniform >= 0.25, x / 0.75, 0).astype(np.float32)
    yield from from_triton("dropout_philox", dropout_kernel, [
        read("x", x), write("y", y, 1e-6), write("bits", bits), i32("n", 500), f32("p", 0.25), i32("seed", 1234)],
        dict(B=256), grid=2, exercises="Philox random numbers (mul.hi, wide multiply) and dropout")


@triton.jit
def activations_kernel(x, y, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    v = tl.load(x + i, mask=i < n, other=0.0).to(tl.float32)
    tl.store(y + i, 0.5 * v * (1 + tl.erf(v * 0.70710678)), mask=i < n)
    tl.store(y + n + i, v * tl.sigmoid(v), mask=i < n)
    tl.store(y + 2 * n + i, libdevice.tanh(v), mask=i < n)
    tl.store(y + 3 * n + i, libdevice.log1p(libdevice.exp(v)), mask=i < n)
    tl.store(y + 4 * n + i, tl.sin(v * 100) + tl.cos(v * 3), mask=i < n)
    tl.store(y + 5 * n + i, tl.sqrt_rn(tl.abs(v)) + tl.div_rn(1.0, v + 10) + tl.floor(v) - tl.ceil(v * 2), mask=i < n)


@PROGRAMS
def activations():
    n = 240
    x = np.linspace(-6, 6, n).astype(BF16)
    v = x.astype(F)
    erf = np.vectorize(math.erf)
    y = np.stack([0.5 * v * (1 + erf(v * np.float32(0.70710678))), v / (1 + np.exp(-v)), np.tanh(v), np.log1p(np.exp(v)),
                  np.sin(v * 100) + np.cos(v * 3), np.sqrt(abs(v)) + 1 / (v + 10) + np.floor(v) - np.ceil(v * 2)])
    yield from from_triton("activations", activations_kernel, [
        read("x", x), write("y", y.astype(np.float32), 3e-6), i32("n", n)], dict(B=128), grid=2, targets=(80,),
        exercises="GELU, SiLU, tanh, softplus, sin and cos of large arguments, rounded sqrt and division")


@triton.jit
def conversions_kernel(x, h, b, e5, ints, small, n, B: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.load(x + i, mask=i < n, other=0.0)
    tl.store(h + i, v.to(tl.float16), mask=i < n)
    tl.store(b + i, v.to(tl.bfloat16), mask=i < n)
    tl.store(e5 + i, v.to(tl.float8e5), mask=i < n)
    tl.store(ints + i, v.to(tl.int32), mask=i < n)
    tl.store(small + i, (v.to(tl.int32) & 255).to(tl.int8), mask=i < n)


@PROGRAMS
def conversions():
    import ml_dtypes
    random = rng("conversions")
    x = np.concatenate([random.standard_normal(100), random.standard_normal(100) * 1000,
                        [0.0, -0.0, 57000.5, 1e-7, -3e-5, 2.5, 3.5, 1 + 2 ** -11, 1 + 3 * 2 ** -11]]).astype(np.float32)
    e5 = x.astype(ml_dtypes.float8_e5m2)
    ints = np.trunc(x).astype(np.int32)
    yield from from_triton("conversions_triton", conversions_kernel, [
        read("x", x), write("h", x.astype(np.float16)), write("b", x.astype(BF16)),
        write("e5", e5.view(np.uint8), element="fp8e5"), write("ints", ints), write("small", (ints & 255).astype(np.uint8).view(np.int8)),
        i32("n", x.size)], dict(B=256), grid=1, targets=(80, 90), exercises="f32 to f16, bf16, e5m2, i32, i8")


@triton.jit(noinline=True)
def polynomial(x, degree):
    y = 0.0
    for k in range(degree):
        y = y * x + (k + 1)
    return y


@triton.jit(noinline=True)
def row_sum(x, n, B: tl.constexpr):
    i = tl.arange(0, B)
    return tl.sum(tl.load(x + i, mask=i < n, other=0.0), axis=0)


@triton.jit
def calls_kernel(x, y, degree, n, B: tl.constexpr):
    row = tl.program_id(0)
    v = row_sum(x + row * n, n, B) / n
    tl.store(y + row, polynomial(v, degree) - polynomial(-v, 2))


@PROGRAMS
def calls():
    x = rng("calls").standard_normal((5, 200)).astype(np.float32)
    v = x.astype(F).mean(1)
    # 1·v^4 + 2·v^3 + 3·v^2 + 4·v + 5, less the same with two terms at -v.
    y = (((v + 2) * v + 3) * v + 4) * v + 5 - (-v + 2)
    yield from from_triton("calls_triton", calls_kernel, [
        read("x", x), write("y", y.astype(np.float32), 1e-5), i32("degree", 5), i32("n", 200)], dict(B=256), grid=5,
        targets=(80, 90), exercises="calls of functions that are not inlined, one with a reduction through shared memory")


@triton.jit
def inline_kernel(x, y, z, B: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.load(x + i)
    swapped = tl.inline_asm_elementwise("prmt.b32 $0, $1, 0, 0x0123;", "=r,r", [v], dtype=tl.int32, is_pure=True, pack=1)
    tl.store(y + i, swapped)
    lo, hi = tl.inline_asm_elementwise(
        "{ .reg .b64 t; mul.wide.s32 t, $2, $3; mov.b64 {$0, $1}, t; }", "=r,=r,r,r", [v, swapped],
        dtype=(tl.int32, tl.int32), is_pure=False, pack=1)
    tl.store(z + i, lo ^ hi)


@PROGRAMS
def inline_assembly():
    x = rng("inline").integers(-2 ** 31, 2 ** 31, 256).astype(np.int32)
    y = x.byteswap()
    wide = x.astype(np.int64) * y.astype(np.int64)
    z = (wide & 0xFFFFFFFF).astype(np.uint32).view(np.int32) ^ (wide >> 32).astype(np.int32)
    yield from from_triton("inline_assembly", inline_kernel, [read("x", x), write("y", y), write("z", z)], dict(B=256),
                           grid=1, exercises="braces with their own registers, mov of vectors, prmt")


@triton.jit
def wide_integers_kernel(x, y, q, r, h, s, B: tl.constexpr):
    i = tl.arange(0, B)
    a, b = tl.load(x + i), tl.load(y + i)
    tl.store(q + i, a // b)
    tl.store(r + i, a % b)
    tl.store(h + i, tl.umulhi(a, b))
    tl.store(s + i, (a >> (b & 63)) ^ (a << 7) ^ ~b)


@PROGRAMS
def wide_integers():
    random = rng("wide_integers")
    a = random.integers(0, 2 ** 64, 256, dtype=np.uint64)
    b = random.integers(1, 2 ** 63, 256, dtype=np.uint64) >> random.integers(0, 60, 256, dtype=np.uint64)
    b = np.maximum(b, 1)
    high = np.array([(int(m) * int(n)) >> 64 for m, n in zip(a, b)], np.uint64)
    yield from from_triton("wide_integers", wide_integers_kernel, [
        read("x", a), read("y", b), write("q", a // b), write("r", a % b), write("h", high),
        write("s", (a >> (b & np.uint64(63))) ^ (a << np.uint64(7)) ^ ~b)], dict(B=256), grid=1,
        exercises="64-bit division, remainder, high product, shifts")


@triton.jit
def debug_lines_kernel(x, y, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    v = tl.load(x + i, mask=i < n)
    tl.store(y + i, tl.where(v > 0, tl.exp(v), v), mask=i < n)


@PROGRAMS
def debug_lines():
    import triton
    x = rng("debug_lines").standard_normal(300).astype(np.float32)
    y = np.where(x > 0, np.exp(x.astype(F)), x).astype(np.float32)
    with triton.knobs.compilation.scope():
        triton.knobs.compilation.disable_line_info = False
        yield from from_triton("debug_lines", debug_lines_kernel, [
            read("x", x), write("y", y, 1e-6), i32("n", 300)], dict(B=256), grid=2,
            exercises="line information: .loc, .file, .section with its data")


@triton.jit
def causal_conv_kernel(x, w, y, T, C, W: tl.constexpr, BT: tl.constexpr, BC: tl.constexpr):
    rt = tl.program_id(0) * BT + tl.arange(0, BT)
    rc = tl.arange(0, BC)
    acc = tl.zeros((BT, BC), tl.float32)
    for k in tl.static_range(W):
        at = rt - (W - 1 - k)
        v = tl.load(x + at[:, None] * C + rc[None, :], mask=(at >= 0)[:, None] & (rt < T)[:, None], other=0.0)
        acc += v.to(tl.float32) * tl.load(w + rc * W + k)[None, :]
    tl.store(y + rt[:, None] * C + rc[None, :], acc, mask=(rt < T)[:, None])


@PROGRAMS
def causal_conv():
    random = rng("causal_conv")
    T, C, W = 50, 32, 4
    x, w = random.standard_normal((T, C)).astype(np.float16), random.standard_normal((C, W)).astype(np.float32)
    padded = np.concatenate([np.zeros((W - 1, C)), x.astype(F)])
    y = sum(padded[k:k + T] * w[:, k] for k in range(W))
    yield from from_triton("causal_conv", causal_conv_kernel, [
        read("x", x), read("w", w), write("y", y.astype(np.float32), 1e-5), i32("T", T), i32("C", C)],
        dict(W=W, BT=32, BC=32), grid=2, exercises="depthwise causal convolution, negative offsets masked off")


@triton.jit
def collatz_kernel(x, steps, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    v = tl.load(x + i)
    count = tl.zeros((B,), tl.int32)
    while tl.max(v, axis=0) > 1:
        live = v > 1
        v = tl.where(live, tl.where(v % 2 == 0, v // 2, 3 * v + 1), v)
        count += live.to(tl.int32)
    tl.store(steps + i, count)


@PROGRAMS
def collatz():
    x = np.arange(1, 257).astype(np.int32)
    steps = []
    for v in x.tolist():
        count = 0
        while v > 1:
            v, count = (v // 2 if v % 2 == 0 else 3 * v + 1), count + 1
        steps.append(count)
    yield from from_triton("collatz", collatz_kernel, [read("x", x), write("steps", np.array(steps, np.int32))], dict(B=128),
                           grid=2, warps=2, exercises="while loop until a reduction over the block says stop")
