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


@PROGRAMS
def guess_and_swap():
    n, blocks = 150, 3
    x = rng("guess_and_swap").standard_normal(n).astype(np.float32) * 100
    t = np.arange(n)
    best = np.float32([max([-1e30] + [x[i] * np.float32(2) for i in t if i // 64 == b and i % 4 == k]) for b in range(blocks) for k in range(4)])
    fives = [2.0 ** ((t % 2 == k) & (t % 16 == 5)).sum() for k in range(2)]
    yield from from_nvcc("guess_and_swap", [
        read("x", x), update("high", np.full(3, -1e30, np.float32), np.float32([x[t % 3 == k].max() for k in range(3)])),
        update("all", np.float64([3, 5]), np.float64([3, 5]) * fives),
        update("bytes", np.zeros(8, np.uint8) + 210, np.uint8([min(255, 210 + 3 * (t % 8 == k).sum()) for k in range(8)])),
        update("count", np.uint16([7, 65500]), np.uint16([(v + 5 * (t % 2 == k).sum()) % 65536 for k, v in enumerate((7, 65500))])),
        write("inside", best.astype(np.int32)), i32("n", n)], grid=blocks, block=64,
        exercises="compare-and-swap loops whose first read is an ordinary one: maximum, product, bytes, 16 bits")


@PROGRAMS
def warp_aggregate():
    n, threads = 256, 256
    random = rng("warp_aggregate")
    x = random.integers(0, 12, n).astype(np.int32)
    x[64:96] = 205  # one warp agrees
    # Every kept value is the same, so that their order does not matter.
    x[x % 3 == 0] = 9
    kept = np.full((x % 3 == 0).sum(), 9, np.int32)
    counts = np.bincount(x, minlength=256).astype(np.int32)
    words = np.zeros((2, n), np.uint32)
    for w in range(0, n, 32):
        v = x[w:w + 32]
        same = (v // 100 == v[0] // 100).all()
        words[0, w:w + 32] = (v & 15).sum() | (v & 63).max() << 12 | int(same) << 20 | int((v == 7).any()) << 21
        hashed = np.bitwise_xor.reduce((v.astype(np.uint64) * np.uint64(2654435761) & np.uint64(2 ** 32 - 1)).astype(np.uint32))
        words[1, w:w + 32] = hashed ^ np.bitwise_and.reduce(v.astype(np.uint32) | 1) ^ np.uint32(v.min())
    full = np.full(n, -77, np.int32)
    full[:kept.size] = kept
    yield from from_nvcc("warp_aggregate", [
        read("x", x), update("counts", np.zeros(256, np.int32), counts), write("kept", full), update("total", np.int32([0]), np.int32([kept.size])),
        write("words", words), i32("n", n)], grid=2, block=128, targets=("sm_80", "sm_90a"),
        exercises="one atomic for the lanes that match, compaction by ballots, match.all, redux of every operation")


@PROGRAMS
def tensor_wmma():
    random = rng("tensor_wmma")
    a, b = random.integers(-4, 5, (32, 64)).astype(np.float16), random.integers(-4, 5, (32, 64)).astype(np.float16)
    ab, bb = random.integers(-4, 5, (64, 32)).astype(BF16), random.integers(-4, 5, (64, 32)).astype(BF16)
    ai, bi = random.integers(-128, 128, (32, 64)).astype(np.int8), random.integers(-128, 128, (64, 32)).astype(np.int8)
    c = (a.astype(F) @ b.astype(F).T + 1) / 2
    cb = ab.astype(F).T @ bb.astype(F)
    yield from from_nvcc("tensor_wmma", [
        read("a", a), read("b", b), read("ab", ab), read("bb", bb), read("ai", ai), read("bi", bi), write("c", c.astype(np.float32)),
        write("cb", cb.T.astype(np.float32)), write("ci", ai.astype(np.int32) @ bi.astype(np.int32))], grid=1, block=128,
        exercises="wmma in f16, bf16 and int8, both layouts of both operands, elements of an accumulator, results through shared memory")


@PROGRAMS
def block_primitives():
    n = 384
    x = rng("block_primitives").integers(0, 1000, n).astype(np.int32)
    keys = (x[:256].astype(np.uint64) << np.uint64(32) | np.arange(256, dtype=np.uint64)).reshape(4, 64)
    difference = x[:128].copy()
    difference[1:] -= x[:127]
    # What a thread held together goes to every 128th place.
    yield from from_nvcc("block_primitives", [
        read("x", x), write("scan", x.cumsum().astype(np.int32)), write("histogram", np.bincount(x[:128] & 31, minlength=32).astype(np.uint32)),
        write("flags", difference), write("sorted", np.sort(keys, 1)), write("moved", x[:256]), i32("n", n)], grid=1, block=128,
        exercises="CUB: scan with a running prefix, histogram, adjacent difference, merge sort of a warp, exchange")


@PROGRAMS
def integer_corners():
    n = 64
    random = rng("integer_corners")
    pick = lambda: [int(random.integers(0, 2 ** 63)) * 2 + int(random.integers(0, 2)) >> int(random.integers(0, 60)) for _ in range(n)]
    x, d = pick(), [max(1, v) for v in pick()]
    x[:4], d[:4] = [2 ** 64 - 1, 2 ** 63, 0, 2 ** 32], [1, 2 ** 64 - 1, 7, 2 ** 32 - 1]
    word, long = (lambda v: v % 2 ** 32), (lambda v: v % 2 ** 64)
    s32, s64 = (lambda v: (v + 2 ** 31) % 2 ** 32 - 2 ** 31), (lambda v: (v + 2 ** 63) % 2 ** 64 - 2 ** 63)
    fields = lambda v, size, signed: [(f + (1 << size - 1)) % (1 << size) - (1 << size - 1) if signed else f
                                      for f in (v >> k & ((1 << size) - 1) for k in range(0, 32, size))]
    join = lambda values, size: sum((v & ((1 << size) - 1)) << size * k for k, v in enumerate(values))

    def quotient(a, b):
        q = abs(a) // abs(b)
        return (q if (a < 0) == (b < 0) else -q), a - b * (q if (a < 0) == (b < 0) else -q)

    import zlib
    q, w, big = np.zeros((8, n), np.uint64), np.zeros((8, n), np.uint32), np.zeros((4, n), np.uint64)
    for t in range(n):
        a, b, c = x[t], d[t], x[(t + 1) % n]
        sq, sr = quotient(s64(a), s64(b | 1))
        wide = a << 64 | c
        q[:, t] = [a // b, a % b, long(sq), long(sr), long(wide // b), wide // b >> 64, wide % b, a * c >> 64 ^ long(s64(a) * s64(c) >> 64)]
        lo, hi = word(a), a >> 32
        left = word((hi << 32 | lo) << (b & 31) >> 32)
        right = word((hi << 32 | lo) >> min(32, c & 63))
        source = lo.to_bytes(4, "little") + hi.to_bytes(4, "little")
        perm = int.from_bytes(bytes(source[c >> 4 * k & 7] for k in range(4)), "little")
        dot = lambda u, v, start: word(start + sum(p * r for p, r in zip(u, v)))
        products = (dot(fields(lo, 8, True), fields(hi, 8, True), 77) ^ dot(fields(lo, 8, False), fields(hi, 8, False), 99)
                    ^ dot(fields(lo, 16, True), fields(hi, 8, True)[:2], -5) ^ dot(fields(lo, 16, False), fields(hi, 8, False)[2:], 5))
        clip = lambda v: max(-32768, min(32767, v))
        pairs8, pairs8s = list(zip(fields(lo, 8, False), fields(hi, 8, False))), list(zip(fields(lo, 8, True), fields(hi, 8, True)))
        simd = (join([clip(p + r) for p, r in zip(fields(lo, 16, True), fields(hi, 16, True))], 16) ^ join([abs(p - r) for p, r in pairs8], 8)
                ^ join([255 if p > r else 0 for p, r in pairs8s], 8) ^ join([max(p, r) for p, r in zip(fields(lo, 16, False), fields(hi, 16, False))], 16)
                ^ sum(abs(p - r) for p, r in pairs8s))
        f = np.float32
        scaled = float(f(a) * f(1e-9))
        down = float(f(hi))
        casts = (int(min(max(scaled, 0), 2 ** 32 - 1)) ^ word(int(max(-2 ** 31, min(2 ** 31 - 1, np.rint(float(s64(a)) * 1e-10)))))
                 ^ word(max(-2 ** 31, int(-down))))
        shifted = a >> (b & 63)
        counts = (64 - shifted.bit_length()) | ((c & -c).bit_length()) << 8 | bin(a ^ c).count("1") << 16
        reverse = int(format(a, "064b")[::-1], 2)
        mixed = word(reverse >> 17) ^ word((s32(lo) + s32(hi) + 1) >> 1) ^ word((s32(lo) + s32(hi)) >> 1) ^ word(abs(lo - hi) + 3)
        w[:, t] = [left ^ right, perm, products, simd, casts, zlib.crc32(a.to_bytes(8, "little")), word(counts), mixed]
        big[:, t] = [a ** 4 >> 64 * k & 2 ** 64 - 1 for k in range(4)]
    yield from from_nvcc("integer_corners", [
        read("x", np.array(x, np.uint64)), read("d", np.array(d, np.uint64)), write("q", q), write("w", w), write("big", big), i32("n", n)], grid=2, block=32,
        exercises="64- and 128-bit division, funnel shifts, byte permutes, dot products, byte SIMD, CRC, products of 256 bits")


@PROGRAMS
def sparse_tree():
    n = 128
    x = rng("sparse_tree").integers(0, 90, n).astype(np.int32)
    keys, counts = np.unique(x, return_counts=True)
    pad = lambda v: np.concatenate([v, np.full(n - v.size, -77)]).astype(np.int32)
    yield from from_nvcc("sparse_tree", [
        read("x", x), write("sorted", pad(keys)), write("counts", pad(counts)), write("facts", np.int32([keys.size, 1])), i32("n", n)], grid=1, block=n,
        exercises="a search tree in module memory: links by compare-and-swap, fences, recursion, a stack in local memory")


@PROGRAMS
def multicast():
    rounds = 5
    x = rng("multicast").integers(-1000, 1000, (2, rounds, 2, 64)).astype(np.int32)
    sums = (x * np.arange(1, rounds + 1)[None, :, None, None]).sum(1)
    yield from from_nvcc("multicast", [
        read("x", x), write("y", sums.astype(np.int32)), write("z", sums[:, ::-1, ::-1].astype(np.int32)), i32("rounds", rounds)], grid=4, block=64,
        exercises="multicast bulk copies in clusters of two, remote arrivals, st.async", **HOPPER)
