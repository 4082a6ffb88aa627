"""CUDA as people write it: library barriers and pipelines, clusters, packed halves, attention by hand, virtual calls, special functions."""

import math

import mpmath
import numpy as np

from harness import BF16, CUDA_KERNELS, Programs, f32, from_nvcc, i32, read, rng, update, write

PROGRAMS = Programs()
F = np.float64
HOPPER = dict(targets=("sm_90a",), flags=(f"-I{CUDA_KERNELS}",))


@PROGRAMS
def barriers():
    rounds = 8
    x = rng("barriers").integers(-1000, 1000, rounds * 64).astype(np.int32)
    tiles = x.reshape(4, 32, 4).astype(np.int64)
    t = np.arange(128)
    z = np.zeros(128, np.int64)
    for tile in tiles:
        v = tile[31 - t % 32]
        z = z * 5 + v[:, 0] - v[:, 3] + t // 32
    yield from from_nvcc("barriers", [
        read("x", x), write("y", x.reshape(rounds, 64)[:, ::-1] * 3), write("z", z.astype(np.int32)), i32("rounds", rounds)], grid=1, block=128,
        targets=("sm_80", "sm_90a"), exercises="cuda::barrier with split arrivals of producers and consumers, cuda::pipeline of a block in three stages")


@PROGRAMS
def cluster_reduce():
    n, clusters = 900, 2
    x = rng("cluster_reduce").integers(0, 2 ** 32, (clusters, n), dtype=np.uint32)
    bins = np.stack([np.bincount(row % 64, minlength=64) for row in x]).astype(np.uint32)
    t, value = np.arange(64), lambda rank: rank * 100.0 + 63 - np.arange(64)
    total = np.zeros(4)
    for rank in range(4):
        s = np.zeros(64)
        for k in range(4):
            s = s * 2 + value((rank + k) & 3)
        total[rank ^ 3] += s.sum()
    yield from from_nvcc("cluster_reduce", [
        read("x", x), write("bins", bins), write("sums", np.tile(total, clusters).astype(np.float32)), i32("n", n)], grid=4 * clusters, block=64,
        exercises="clusters of four through cooperative groups: histogram spread over shared memory of all blocks", **HOPPER)


@PROGRAMS
def half_math():
    n = 96
    random = rng("half_math")
    x, b = (random.integers(-40, 40, (n, 2)) / 8).astype(np.float16), (random.integers(-40, 40, (n, 2)) / 8).astype(BF16)
    v, w = x.astype(F), np.roll(x, -1, 0).astype(F)
    p, q = b.astype(F), np.roll(b, -1, 0).astype(F)
    y = np.stack([v * w - v, np.maximum(np.minimum(v, w), -0.5), np.abs(v) - w[:, ::-1],
                  np.stack([v[:, 0] + w[:, 1], v[:, 1] * w[:, 0]], 1)]).astype(np.float16)
    z = np.stack([p * q + p, np.maximum(p, q), np.stack([p[:, 0] * 3, q[:, 1] + p[:, 0]], 1)]).astype(BF16)
    i = np.stack([np.rint(v[:, 0]) + 1000 * np.trunc(v[:, 1]), (v[:, 0] > w[:, 0]) + 2 + 4 * (p <= q).all(1),
                  np.floor(p[:, 0]) * 7 + np.ceil(p[:, 1])]).astype(np.int32)
    t = np.arange(n)
    pairs = lambda a, c: np.stack([np.stack([a[t % 4 == k].sum(), c[t % 4 == k].sum()]) for k in range(4)])
    yield from from_nvcc("half_math", [
        read("x", x), read("b", b), write("y", y), write("z", z), write("i", i),
        update("hsum", np.zeros(8, np.float16), pairs(t & 7, t * 0 + 1).astype(np.float16).reshape(-1)),
        update("bsum", np.zeros(8, BF16), pairs(t * 0 + 1, t & 3).astype(BF16).reshape(-1)),
        update("dsum", np.zeros(2), np.array([t[::2].sum() / 2, t[1::2].sum() / 2])),
        update("usum", np.uint64([0, 0]), np.uint64([0x100000001 * int(t.sum()), (n - 1) << 40 | n - 1])), i32("n", n)], grid=3, block=32,
        targets=("sm_80", "sm_90a"), exercises="half2 and bfloat162 arithmetic, comparisons, conversions, atomics of pairs, f64 and u64")


@PROGRAMS
def flash_warp():
    T, D, scale = 128, 64, 0.18
    random = rng("flash_warp")
    q, k, v = (random.standard_normal((T, D)).astype(BF16) for _ in range(3))
    s = np.where(np.tri(T, dtype=bool), q.astype(F) @ k.astype(F).T * np.float32(scale), -np.inf)
    weight = 2.0 ** (s - s.max(1, keepdims=True))
    o = weight @ v.astype(F) / weight.sum(1, keepdims=True)
    yield from from_nvcc("flash_warp", [
        read("q", q), read("k", k), read("v", v), write("o", o.astype(np.float32), 1.5e-2), f32("scale", scale), i32("T", T)], grid=2, block=128,
        exercises="attention by hand: cp.async in two slots, ldmatrix with and without .trans, mma.sync, shuffles in quads")


@PROGRAMS
def grid_sync():
    n, rounds = 4 * 128, 3
    random = rng("grid_sync")
    a = random.integers(-50, 50, n).astype(np.float32)
    state, slots = a.astype(F), [a.astype(F), np.full(n, -77.0)]
    for r in range(rounds):
        state = np.roll(state, 1) + 2 * state + np.roll(state, -1)
        slots[(r + 1) % 2] = state
    keys = random.integers(0, 256, (4, 128)).astype(np.uint32)
    yield from from_nvcc("grid_sync", [
        update("a", a, slots[0].astype(np.float32)), update("b", np.full(n, -77, np.float32), slots[1].astype(np.float32)),
        update("arrived", np.uint32([0]), np.uint32([4 * rounds])), update("sorted", keys, np.sort(keys, 1)), i32("n", n), i32("rounds", rounds)],
        grid=4, block=128, exercises="barrier of the grid by an atomic counter and nanosleep, radix split by ballots")


@PROGRAMS
def special_functions():
    n = 64
    random = rng("special_functions")
    x = random.uniform(-20, 20, n)
    f = random.uniform(-10, 10, n).astype(np.float32)
    mp = mpmath.mp
    mp.prec = 160
    m = [mpmath.mpf(float(v)) for v in x]
    g = [mpmath.mpf(float(v)) for v in f]
    each = lambda function, values: np.array([float(function(v)) for v in values])
    pi = mpmath.pi
    nearest = lambda v: mpmath.floor(v + 0.5) if v >= 0 else -mpmath.floor(-v + 0.5)
    inverse_normal = lambda p: mpmath.sqrt(2) * mpmath.erfinv(2 * p - 1)
    y = [each(lambda v: mpmath.loggamma(abs(v)), m), each(lambda v: mpmath.erfinv(float(math.sin(v))), x.tolist()),
         each(lambda v: mpmath.erfc(abs(v) / 50) * mpmath.exp((abs(v) / 50) ** 2), m),
         each(lambda v: inverse_normal(mpmath.mpf(0.5) + mpmath.mpf(0.499) * mpmath.cos(v)), m),
         each(lambda v: mpmath.sin(mpmath.mpf(v * 1e9)), x.tolist()), each(lambda v: mpmath.cos(mpmath.mpf(v * 1e9)), x.tolist()),
         np.fmod(x * 1e10, 7.25), np.array([math.remainder(v, 0.3) for v in x]),
         each(lambda v: mpmath.sign(v) * mpmath.cbrt(abs(v)) + 1 / mpmath.cbrt(abs(v) + 1), m),
         each(lambda v: mpmath.hypot(v, 3) + 1 / mpmath.hypot(v, 4), m), each(lambda v: mpmath.atan2(v, -2.5), m),
         each(lambda v: mpmath.log1p(abs(v)) + mpmath.expm1(v / 100), m), each(lambda v: abs(v) ** mpmath.mpf(1.7) + mpmath.mpf(10) ** (v / 50), m),
         each(lambda v: mpmath.sin(pi * v) + mpmath.cos(pi * v), m), each(lambda v: mpmath.besselj(0, abs(v)) + mpmath.besselj(1, abs(v)), m),
         np.nextafter(x, 1e9) - x + x * 32 + x / 8, each(lambda v: mpmath.gamma(abs(v) / 10 + mpmath.mpf(0.1)), m),
         each(lambda v: mpmath.asinh(v) + mpmath.acosh(abs(v) + 1) + mpmath.atanh(mpmath.sin(v) * mpmath.mpf(0.9)), m)]
    single = np.float32
    z = [each(lambda v: mpmath.loggamma(abs(v)), g), each(lambda v: mpmath.erfinv(single(math.sin(v))), f.tolist()),
         each(lambda v: mpmath.sin(mpmath.mpf(float(single(v) * single(1e7)))), f), np.fmod(f * single(1000), single(0.7)).astype(F),
         each(lambda v: abs(v) ** mpmath.mpf(float(single(0.3))) + mpmath.sign(v) * mpmath.cbrt(abs(v)), g), each(lambda v: mpmath.ncdf(v / 10), g),
         each(lambda v: abs(v) ** mpmath.mpf(2.5) + mpmath.exp(v / 30) + mpmath.log(abs(v) + 1), g), each(lambda v: mpmath.tan(v) / 1000, g),
         np.array([np.rint(v) + np.rint(v * single(3)) + float(nearest(float(v * single(7)))) + np.trunc(v * single(11)) for v in f]),
         each(lambda v: mpmath.besseli(0, v / 20), g)]
    mantissa, exponent = np.frexp(x)
    ilogb = exponent - 1
    quotient = np.array([int(mpmath.nint(mpmath.mpf(float(v)) / mpmath.mpf(0.7))) for v in x])
    sevens = np.where(x < 0, -(np.abs(quotient) & 7), np.abs(quotient) & 7) & 7
    e = [exponent * 100 + ilogb + np.trunc(mantissa * 16).astype(int), sevens,
         np.rint(x * 3).astype(int) + np.array([int(nearest(v * 5)) for v in x]) + np.floor(x).astype(int) + 3 * (x < 0)]
    yield from from_nvcc("special_functions", [
        read("x", x), read("f", f), write("y", np.stack(y), 2e-14), write("z", np.stack(z).astype(np.float32), 1e-5), write("e", np.stack(e).astype(np.int32)),
        i32("n", n)], grid=2, block=32, exercises="libdevice: gamma, inverse error, Bessel, arguments to 2e10, remainders, scaling, rounding to integers")


@PROGRAMS
def virtuals():
    n = 64
    x = rng("virtuals").integers(0, 1000, n).astype(np.int32)
    t, wide = np.arange(n), x.astype(np.int64)
    area = np.select([t % 3 == 0, t % 3 == 1], [wide * wide * t * 10 + 4, (wide * 3 + t) * 10 + 4], (5 * wide // 2 - t) * 10 + 3)
    steps = [lambda v, k: v + k, lambda v, k: v * k % 1000003, lambda v, k: (v << (k & 7) | v >> 3) & 0xFFFFFF, lambda v, k: v // (k + 1) + v % (k + 1)]
    z = np.zeros(n, np.int64)
    order, sums = np.zeros(n, np.int64), np.zeros(n, np.int64)
    for i in range(n):
        v = i
        for k in range(6):
            v = steps[x[(i + k) % n] & 3](v, k + 2)
        z[i] = v
        items, number, digits = [1, 2, 3, 4, 5, 6], i * 7 % 720, []
        for left in range(6, 0, -1):
            block = math.factorial(left - 1)
            digits.append(items.pop(number // block))
            number %= block
        order[i] = sum(d * 10 ** k for k, d in enumerate(digits))
        for k in reversed(range(1 + (int(x[i]) & 15))):
            sums[i] = (sums[i] * 3 + k * k + i) % 2 ** 32
    word = lambda v: (v + 2 ** 31) % 2 ** 32 - 2 ** 31
    yield from from_nvcc("virtuals", [read("x", x), write("y", np.stack([word(area), order, word(sums)]).astype(np.int32)), write("z", z), i32("n", n)],
                         grid=2, block=32, targets=("sm_80", "sm_90a"),
                         exercises="virtual functions, function pointers in constant memory, recursion with arrays, alloca of a size found at run time")


@PROGRAMS
def tma_pipeline():
    chunks = 7
    x = rng("tma_pipeline").integers(-8, 8, (2, chunks, 2, 8, 8, 8)).astype(np.float16)
    sums = x.astype(np.float32).sum((1, 3, 4, 5))
    yield from from_nvcc("tma_pipeline", [
        read("x", x), write("y", x.transpose(0, 1, 2, 3, 5, 4)), write("sums", sums), i32("chunks", chunks)], grid=2, block=96,
        exercises="four mbarriers between one producer and two consumer warps, stmatrix .trans into a tile that a bulk store writes back", **HOPPER)
