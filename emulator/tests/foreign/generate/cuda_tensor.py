"""Tensor cores from nvcc: mma.sync in every shape and type of sm_80, ldmatrix, wmma, a pipelined product by hand."""

import numpy as np

from harness import BF16, Programs, from_nvcc, i32, read, rng, update, write

PROGRAMS = Programs()
F = np.float64


@PROGRAMS
def mma_float():
    # Small whole numbers: every sum is exact in every format, so the order of additions cannot show.
    random = rng("mma_float")
    whole = lambda *shape: random.integers(-6, 7, shape).astype(F)
    a16, b16, c = whole(256), whole(128), whole(16, 8)
    ab, bb = whole(256), whole(128)
    at, bt, ad, bd = whole(128), whole(64), whole(32), whole(32)
    product = lambda a, b, m, k, acc: a[:m * k].reshape(m, k) @ b[:k * 8].reshape(k, 8) + acc
    out = [product(a16, b16, 16, 16, c)] * 2 + [product(a16, b16, 16, 8, c)] * 2 + [product(ab, bb, 16, 16, c), product(ab, bb, 16, 8, c),
           product(at, bt, 16, 8, c), product(at, bt, 16, 4, c)]
    yield from from_nvcc("mma_float", [
        read("ah", a16.astype(np.float16)), read("bh", b16.astype(np.float16)), read("ab", ab.astype(BF16)), read("bb", bb.astype(BF16)),
        read("at", at.astype(np.float32)), read("bt", bt.astype(np.float32)), read("ad", ad), read("bd", bd), read("pc", c.astype(np.float32)),
        write("out", np.concatenate([o.reshape(-1) for o in out]).astype(np.float32)), write("outd", product(ad, bd, 8, 4, c[:8]))],
        grid=1, block=32, targets=("sm_80", "sm_90a"), exercises="mma.sync m16n8k16, k8, k4 and m8n8k4: f16 (both sums), bf16, tf32, f64; exact numbers")


@PROGRAMS
def mma_integer():
    random = rng("mma_integer")
    a, b = random.integers(0, 256, 16 * 256).astype(np.uint8), random.integers(0, 256, 256 * 8).astype(np.uint8)
    c = random.integers(-10 ** 6, 10 ** 6, (16, 8))

    def element(v, bits, signed):
        v = v.astype(np.int64) & (1 << bits) - 1
        return np.where(v >> bits - 1 & signed, v - (1 << bits), v)

    def product(m, k, bits, sa, sb, acc):
        return element(a[:m * k], bits, sa).reshape(m, k) @ element(b[:k * 8], bits, sb).reshape(k, 8) + acc[:m]

    def binary(m, k, xor):
        x, y = (a[:m * k] & 1).reshape(m, k, 1), (b[:k * 8] & 1).reshape(1, k, 8)
        return ((x ^ y) if xor else (x & y)).astype(np.int64).sum(1) + c[:m]

    large = np.where(c > 0, 2147483600, -2147483600)
    out = [product(16, 32, 8, 1, 1, c), product(16, 32, 8, 0, 1, c), product(16, 16, 8, 0, 0, c), product(16, 16, 8, 1, 0, c),
           product(8, 16, 8, 1, 1, c), product(16, 64, 4, 1, 1, c), product(16, 32, 4, 0, 1, c), product(8, 32, 4, 0, 0, c), binary(16, 256, True),
           binary(16, 128, False), binary(8, 128, True), np.clip(product(16, 32, 8, 1, 1, large), -2 ** 31, 2 ** 31 - 1)]
    table = np.full((12, 128), -77)
    for row, o in zip(table, out):
        row[:o.size] = o.reshape(-1)
    yield from from_nvcc("mma_integer", [read("a", a), read("b", b), read("pc", c.astype(np.int32)), write("out", table.astype(np.int32))],
                         grid=1, block=32, exercises="mma.sync of s8, u8, s4, u4 and single bits in every shape, mixed signs, satfinite")


@PROGRAMS
def ldmatrix():
    x = np.arange(32 * 64, dtype=np.uint16).reshape(32, 64) * np.uint16(31)
    y = np.zeros((18, 64), np.uint32)
    lane = np.arange(32)
    for warp in range(2):
        def matrix(k, trans):
            """Matrix k: its rows are at the addresses of lanes 8k .. 8k+7."""
            rows = x[8 * k:8 * k + 8, (k + warp) * 8:(k + warp) * 8 + 8]
            rows = rows.T if trans else rows
            return rows[lane // 4, lane % 4 * 2] | rows[lane // 4, lane % 4 * 2 + 1].astype(np.uint32) << 16
        out = [matrix(0, 0), matrix(0, 0), matrix(1, 0)] + [matrix(k, 0) for k in range(4)] + [matrix(0, 1), matrix(0, 1), matrix(1, 1)]
        out += [matrix(k, 1) for k in range(4)]
        for k in range(4):
            # Rows from the bottom up, the place of chunk 0, which holds chunk `row & 7`.
            source = 31 - (8 * k + np.arange(8))
            rows = np.stack([x[r, (r & 7) * 8:(r & 7) * 8 + 8] for r in source])
            rows = rows.T if k == 0 else rows  # movmatrix
            out.append(rows[lane // 4, lane % 4 * 2] | rows[lane // 4, lane % 4 * 2 + 1].astype(np.uint32) << 16)
        y[:, warp * 32:warp * 32 + 32] = out
    yield from from_nvcc("ldmatrix", [read("x", x), write("y", y)], grid=1, block=64, targets=("sm_80", "sm_90a"),
                         exercises="ldmatrix x1, x2, x4, with and without .trans, shared and generic addresses, movmatrix")


@PROGRAMS
def wmma():
    random = rng("wmma")
    k = 48
    a, b = (random.integers(-6, 7, (16, k)).astype(np.float16) for _ in range(2))
    c = random.integers(-9, 9, (16, 16)).astype(np.float32)
    d = (a.astype(F) @ b.astype(F).T + c) * 0.5 + 1
    ai, bi = random.integers(-128, 128, (16, 32)).astype(np.int8), random.integers(-128, 128, (16, 16)).astype(np.int8)
    di = ai.T.astype(np.int64) @ bi[:, :8].astype(np.int64) - 5
    yield from from_nvcc("wmma", [
        read("a", a), read("b", b), read("c", c), write("d", d.T.astype(np.float32)), read("ai", ai), read("bi", bi), write("di", di.astype(np.int32)),
        i32("k", k)], grid=1, block=32, exercises="wmma.load, wmma.mma, wmma.store: f16 and int8, row and column order")


@PROGRAMS
def gemm():
    random = rng("gemm")
    m, n, k = 64, 64, 96
    a, b = random.standard_normal((m, k)).astype(BF16), random.standard_normal((k, n)).astype(BF16)
    yield from from_nvcc("gemm", [
        read("a", a), read("b", b), write("c", (a.astype(F) @ b.astype(F)).astype(np.float32), 1e-4), i32("n", n), i32("k", k)], grid=1,
        block=128, exercises="hand-made pipeline: cp.async in three slots, swizzle, ldmatrix (.trans), mma.sync")
