"""What sm_90 adds: wgmma with its layouts, mbarrier, bulk copies, clusters, small instructions."""

import numpy as np

from harness import CUDA_KERNELS, Programs, from_nvcc, i32, read, rng, update, write

PROGRAMS = Programs()
F = np.float64
HOPPER = dict(targets=("sm_90a",), flags=(f"-I{CUDA_KERNELS}",))


@PROGRAMS
def wgmma_layouts():
    random = rng("wgmma_layouts")
    # Small whole numbers: exact, and each sum fits in a byte.
    a, b = random.integers(-2, 3, (64, 32)).astype(np.float16), random.integers(-1, 2, (64, 32)).astype(np.float16)
    product = (a.astype(F) @ b.astype(F).T).astype(np.int8)
    yield from from_nvcc("wgmma_layouts", [
        read("a", a), read("b", b), write("out", np.stack([product, product, product, -product] + [product] * 4))], grid=1, block=128,
        exercises="wgmma m64n64k16: descriptors without swizzle and of 32, 64, 128 bytes, both orders of both operands, operand in registers, negation",
        **HOPPER)


def packed(x):
    """(64, k) f16 as slabs of 64 along k, each 64 rows of 128 bytes with the 128-byte swizzle."""
    slabs = x.reshape(64, x.shape[1] // 64, 8, 8).transpose(1, 0, 2, 3)
    row, chunk = np.arange(64)[:, None], np.arange(8)[None, :]
    out = np.empty_like(slabs)
    out[:, row, chunk ^ row % 8] = slabs[:, row, chunk]
    return out


@PROGRAMS
def wgmma_pipeline():
    random = rng("wgmma_pipeline")
    a, b = (random.standard_normal((64, 192)).astype(np.float16) for _ in range(2))
    c = (a.astype(F) @ b.astype(F).T).astype(np.float32)
    yield from from_nvcc("wgmma_pipeline", [read("a", packed(a)), read("b", packed(b)), write("c", c, 1e-4), i32("steps", 3)], grid=1,
                         block=160, exercises="producer warp with bulk copies and mbarriers, consumer warpgroup with one wgmma group in flight",
                         **HOPPER)


@PROGRAMS
def mbarrier():
    rounds = 4
    x = rng("mbarrier").integers(-1000, 1000, 256).astype(np.int32)
    t = np.arange(64)
    y = np.full((rounds + 3, 64), -77, np.int32)
    for r in range(rounds):
        y[r] = x[63 - t] + r
    for r in range(2):
        y[rounds + r, 32:] = x[:32] * (r + 2)
    y[rounds + 2] = x[255 - t]
    yield from from_nvcc("mbarrier", [read("x", x), write("y", y), write("counts", np.uint32([4, 3])), i32("rounds", rounds)], grid=1, block=64,
                         targets=("sm_80", "sm_90a"),
                         exercises="mbarrier of sm_80: arrive, noComplete, drop, test_wait by state and parity, arrival by cp.async")


@PROGRAMS
def bulk_copy():
    x = rng("bulk_copy").integers(-50, 50, (2, 5, 256)).astype(np.float32)
    y = x[:, :, np.arange(256) ^ 1] * 2
    start = np.ones(256, np.float32)
    yield from from_nvcc("bulk_copy", [read("x", x), write("y", y), update("sums", start, start + y.sum((0, 1))), i32("chunks", 5)], grid=2, block=64,
                         exercises="cp.async.bulk both ways, cp.reduce.async.bulk, bulk groups, expect_tx and try_wait", **HOPPER)


@PROGRAMS
def cluster():
    x = rng("cluster").integers(-1000, 1000, (4, 64)).astype(np.int32)
    y = np.zeros((4, 64), np.int64)
    t = np.arange(64)
    for block in range(4):
        # The other block read this block's data from the far end and sent it back doubled, with its rank.
        rank = block % 2
        y[block] = x[block, 63 - t] * 2 + (rank ^ 1) + (128 * 100000 if rank == 0 else 0)
    ranks = np.uint32([b % 2 | 2 << 8 | b // 2 << 16 for b in range(4)])
    yield from from_nvcc("cluster", [read("x", x), write("y", y.astype(np.int32)), write("ranks", ranks)], grid=4, block=64,
                         exercises="clusters of two blocks: mapa, shared::cluster loads, stores, reductions, barrier.cluster", **HOPPER)


@PROGRAMS
def hopper_warp():
    n = 128
    random = rng("hopper_warp")
    x = random.integers(0, 2 ** 32, n, dtype=np.uint32)
    x[::3] = random.integers(-200, 200, x[::3].size).astype(np.int64).astype(np.uint32)
    x[1::6] = random.integers(-40000, 40000, x[1::6].size).astype(np.int64).astype(np.uint32)
    v, w = x.view(np.int32).astype(np.int64), np.roll(x, -1).view(np.int32).astype(np.int64)
    byte = lambda k: np.clip(k, -128, 127) & 255
    # The first operand goes above the second; what was below comes from the third, moved up.
    four = (byte(v) << 8 | byte(w)) | ((v ^ w) & 0xFFFF) << 16
    two = np.clip(v, 0, 65535) << 16 | np.clip(w, 0, 65535)
    lane = np.arange(32)
    tiles = np.zeros((2, 4, 8, 8), np.uint16)
    for k in range(4):
        for trans, value in ((0, x[:32] + np.uint32(k)), (1, x[32:64] * np.uint32(2 * k + 1))):
            m = np.zeros((8, 8), np.uint16)
            m[lane // 4, lane % 4 * 2], m[lane // 4, lane % 4 * 2 + 1] = value & 0xFFFF, value >> 16
            tiles[trans, k] = m.T if trans else m
    elected = np.full(n, 3)
    yield from from_nvcc("hopper_warp", [
        read("x", x), write("y", np.stack([elected, four, two]).astype(np.uint32)), write("tiles", tiles.reshape(-1).view(np.uint32)), i32("n", n)],
        grid=1, block=n, exercises="elect.sync, stmatrix, cvt.pack, setmaxnreg, griddepcontrol", **HOPPER)


@PROGRAMS
def dpx():
    n = 64
    random = rng("dpx")
    a, b, c = (random.integers(-2 ** 31, 2 ** 31, n) >> random.integers(0, 28, n) for _ in range(3))
    word = lambda v: (v + 2 ** 31) % 2 ** 32 - 2 ** 31
    relu = lambda v: np.maximum(v, 0)
    u = lambda v: v % 2 ** 32

    def halves(function, *values, signed=True):
        """`function` of the 16-bit halves, each sum wrapping at 16 bits."""
        parts = []
        for shift in (0, 16):
            h = [v >> shift & 0xFFFF for v in values]
            parts.append(function(*[np.where(k >> 15, k - 65536, k) if signed else k for k in h]) & 0xFFFF)
        return parts[0] | parts[1] << 16

    wrap = lambda v: (v + 2 ** 15) % 2 ** 16 - 2 ** 15
    half = lambda v, shift: wrap(v >> shift & 0xFFFF)
    rows = [np.maximum(word(a + b), c), relu(np.minimum(word(a + b), c)), np.maximum(u(a + b), u(c)), np.maximum(np.maximum(a, b), c),
            relu(np.minimum(np.minimum(a, b), c)), relu(np.maximum(a, b)), np.maximum(a, b) * 2 + (a >= b), halves(np.minimum, a, b),
            (half(a, 16) <= half(b, 16)) * 2 + (half(a, 0) <= half(b, 0)), halves(lambda p, q, r: np.maximum(wrap(p + q), r), a, b, c),
            halves(lambda p, q, r: np.minimum((p + q) & 0xFFFF, r), a, b, c, signed=False),
            halves(lambda p, q, r: relu(np.maximum(wrap(p + q), r)), a, b, c),
            halves(lambda p, q, r: np.maximum(np.maximum(p, q), r), a, b, c, signed=False), halves(lambda p, q: relu(np.minimum(p, q)), a, b)]
    left, right = (random.integers(0, 4, 32).astype(np.uint8) for _ in range(2))
    h = np.zeros((33, 33), int)
    for i in range(1, 33):
        for j in range(1, 33):
            score = 3 if left[i - 1] == right[j - 1] else -2
            h[i, j] = max(0, h[i - 1, j - 1] + score, h[i - 1, j] - 1, h[i, j - 1] - 1)
    i = lambda v: v.astype(np.int32)
    yield from from_nvcc("dpx", [
        read("pa", i(a)), read("pb", i(b)), read("pc", i(c)), write("y", np.array([word(r) for r in rows]).astype(np.int32)), read("left", left),
        read("right", right), write("best", i(h[1:].max(1))), i32("n", n)], grid=1, block=n, targets=("sm_80", "sm_90a"),
        exercises="dynamic-programming intrinsics (16x2 and relu minima and maxima on sm_90) and an alignment by anti-diagonals")
