"""Memory: widths and cache hints, atomics, cp.async, address spaces, special registers, double-precision tiles."""

import numpy as np

from harness import BF16, Programs, from_nvcc, i32, read, rng, update, write

PROGRAMS = Programs()
F = np.float64


@PROGRAMS
def vector_memory():
    random = rng("vector_memory")
    n = 96
    a = random.integers(-2 ** 31, 2 ** 31, (n, 4)).astype(np.int32)
    b = random.standard_normal((n, 2))
    c = random.integers(-2 ** 15, 2 ** 15, (n, 4)).astype(np.int16)
    d = random.integers(0, 256, (n, 4)).astype(np.uint8)
    e = random.integers(-2 ** 63, 2 ** 63, n)
    yc = np.stack([c[:, 1], c[:, 0], d[:, 3].view(np.int8).astype(np.int16), -c[:, 3]], 1)
    f = a.astype(np.float32)
    yf = f.copy()
    yf[:, 2] = f[:, 0] + f[:, 1]
    yield from from_nvcc("vector_memory", [
        read("a", a), read("b", b), read("c", c), read("d", d), read("e", e), write("ya", a[:, ::-1]),
        write("yb", np.stack([b[:, 1] + b[:, 0], b[:, 0] - b[:, 1]], 1)), write("yc", yc),
        write("yd", d + np.uint8([1, 2, 3, 4])), write("ye", np.stack([e >> 3, e << 3], 1)), write("yf", yf)],
        grid=3, block=32, targets=("sm_80", "sm_90a"),
        exercises="vectors of every width, .nc .cg .cs .ca .lu .wt .volatile, eviction and prefetch hints, signed byte loads")


@PROGRAMS
def atomics():
    random = rng("atomics")
    blocks, threads = 2, 64
    n = blocks * threads
    x = random.integers(0, 2 ** 32, n, dtype=np.uint32)
    wide, signed = x.astype(object), x.view(np.int32)
    start = random.integers(0, 2 ** 32, 16 + n + 10, dtype=np.uint32)
    start[2], start[3], start[4], start[5] = 5, 2 ** 32 - 5, np.int32(-7).view(np.uint32), 7
    start[6], start[9], start[10], start[11], start[12], start[13] = 2 ** 32 - 1, 3, 20, 12345, 10, 1
    start[16 + n:] = 0
    u = start.astype(object)
    u[0], u[1] = (u[0] + sum(wide)) % 2 ** 32, (u[1] - sum(wide)) % 2 ** 32
    u[2], u[3] = max(u[2], *wide), min(u[3], *wide)
    u[4], u[5] = int(max(-7, signed.max())) % 2 ** 32, int(min(7, signed.min())) % 2 ** 32
    for v in wide:
        u[6] &= v | 0xFF
        u[7] |= v & 0xF0F0
        u[8] ^= v
        u[9] = 0 if u[9] >= 99 else u[9] + 1
        u[10] = 1000 if u[10] == 0 or u[10] > 1000 else u[10] - 1
        u[11] += v & 7
        u[12] += 2
    u[13] = n - 1  # got is even from an even start
    u[16:16 + n] = [v ^ 1 for v in wide]
    l0 = random.integers(0, 2 ** 40, 4 + 4 * blocks, dtype=np.uint64)
    l0[2] = 7
    l = l0.astype(object)
    l[0] += sum(v << 8 for v in wide)
    l[1] = max(l[1], *(v * v for v in wide))
    l[2] = -max(wide) % 2 ** 64
    for v in wide:
        l[3] ^= v << 20
    for b in range(blocks):
        mine = wide[b * threads:(b + 1) * threads]
        su = [0, 0, 0, 2 ** 32 - 1, 0, 0, 2 ** 32 - 1, 0, threads, 3 * threads]
        for v in mine:
            su[0] = (su[0] + v) % 2 ** 32
            su[1] = 0 if su[1] >= 70 else su[1] + 1
            su[2], su[3] = max(su[2], v), min(su[3], v)
            su[4], su[5], su[6] = su[4] ^ v, su[5] | v, su[6] & (v | 0x10001)
            su[7] = 5 if su[7] == 0 or su[7] > 5 else su[7] - 1
        for k in range(10):
            u[16 + n + k] = (u[16 + n + k] + su[k]) % 2 ** 32
        l[4 + 4 * b:8 + 4 * b] = [sum(v * 3 for v in mine) % 2 ** 64, min(v * 5 for v in mine), 77, 0]
    f = np.float32([10, 1])
    h = np.float16([3, 4])
    s = np.array([0, 1, 2, 9], np.uint16)
    halves = h.astype(F) + [sum(v & 3 for v in wide), -sum(v & 1 for v in wide)]
    yield from from_nvcc("atomics", [
        read("x", x), update("u", start, np.array(u.tolist(), np.uint32)), update("l", l0, np.array(l.tolist(), np.uint64)),
        update("f", f, (f + [sum(v & 255 for v in wide), 0.5 * n]).astype(np.float32)),
        update("d", np.array([1.0]), np.array([1.0 + sum(wide)])), update("h", h, halves.astype(np.float16)),
        update("s", s, np.array([100, 101, 102, 9], np.uint16)), write("old", start[16:16 + n])],
        grid=blocks, block=threads, targets=("sm_80", "sm_90a"),
        exercises="atomics of every operation and type in global and shared memory, scopes, orders, compare-and-swap loops")


@PROGRAMS
def cp_async():
    steps, n = 7, 1700
    x = rng("cp_async").standard_normal(n).astype(np.float32)
    padded = np.zeros(steps * 256, np.float32)
    padded[:n] = x
    at = np.arange(256)
    y = padded.reshape(steps, 256)[:, at ^ 5] * np.float32(2)
    t = np.arange(64)
    eights = x[:128].reshape(64, 2).copy()
    eights[1::2, 1] = 0
    extra = np.concatenate([eights.reshape(-1), np.where(t % 3 == 0, 0, x[:64])]).astype(np.float32).reshape(3, 64)
    yield from from_nvcc("cp_async", [
        read("x", x), write("y", y), write("tail", extra[:, t ^ 1]), i32("n", n), i32("steps", steps)], grid=1, block=64,
        targets=("sm_80", "sm_90a"),
        exercises="cp.async of 16, 8 and 4 bytes, zero-fill by size and by predicate, groups three deep, wait_all")


@PROGRAMS
def special_registers():
    block, grid = (6, 4, 3), (1, 2, 2)
    threads, blocks = 72, 4
    t = np.tile(np.arange(threads), blocks).astype(np.int64)
    b = np.repeat(np.arange(blocks), threads).astype(np.int64)
    pack = lambda i, d: i % d[0] | i // d[0] % d[1] << 8 | i // d[0] // d[1] << 16
    lane = t % 32
    eq = 1 << lane
    full = 2 ** 32 - 1
    constant = lambda v: np.full(t.size, v)
    dims = lambda d: constant(d[0] | d[1] << 8 | d[2] << 16)
    v = [lane, eq, eq - 1, 2 * eq - 1, full - (2 * eq - 1), full - (eq - 1), constant(threads * 4), pack(t, block),
         pack(b, grid), dims(grid), dims(block), 3 + 4 * ((t + 1) % threads) + (32 << 16)]
    yield from from_nvcc("special_registers", [write("y", np.stack(v, 1).astype(np.uint32))], grid=grid, block=block,
                         dynamic_shared=threads * 4,
                         exercises="three-dimensional grid and blocks, a last warp of eight lanes, lane masks, clocks")


@PROGRAMS
def address_spaces():
    x = rng("address_spaces").integers(0, 10 ** 6, 66).astype(np.int32)
    t = np.arange(64)

    def at(which, t, i):
        return [lambda: x[t + i], lambda: ((t ^ 1) + i) * 3, lambda: x[t] + (t & 1) + i, lambda: [100, 200, 300, 400][1 + i],
                lambda: [1, 2, 3, 4][1 + i]][which]()

    values = [at(k % 5, k, 0 if k & 1 else 1) for k in t] + [at((k + 1) % 5, k, 0) for k in t]
    values += [k + 1000 if k % 2 else k for k in t]
    spaces = np.array([1, 2, 4, 8, 1], np.uint32)[t % 5]
    # Lane t peeks one past its own pointer in shared memory; 63 ^ 1 = 62 keeps that inside.
    for k in t:
        assert not (k % 5 == 1 and not k & 1 and (k ^ 1) + 1 > 63), k
    yield from from_nvcc("address_spaces", [
        read("x", x), write("values", np.array(values, np.int32)), write("spaces", spaces)], grid=1, block=64,
        exercises="generic pointers to global, shared, local, constant and module memory; isspacep")


@PROGRAMS
def odds_and_ends():
    n = 90
    random = rng("odds_and_ends")
    x = random.integers(0, 10 ** 7, n).astype(np.uint32)
    x[::4] = random.integers(0, 2 ** 32, x[::4].size, dtype=np.uint32)
    wide = x.astype(object)
    table = [(1, 2, 3, 4), (5, 6, 7, 8), (-1, -2, -3, -4), (10, 20, 30, 40)]

    def palindrome(v, count):
        digits = [v // 10 ** k % 10 for k in range(count)]
        return sum(digits[k] == digits[count - 1 - k] for k in range(count // 2))

    rows = []
    for t, v in enumerate(wide):
        both = v & v >> 3 & 0xFF00FF
        byte = [v >> 8 * k & 255 for k in range(4)]
        rows.append([v + 1, v * 3, v * 3 + 7, palindrome(v % 1000000, 2 + t % 5), sum(k * w for k, w in zip((1, 2, 3, 4), table[v & 3])),
                     both + (both != 0 or v > 1000), (v & 0xFFFF) * (v >> 16), byte[3] | byte[1] << 8 | byte[0] << 16 | byte[2] << 24, ~v - 5])
    y = np.array([[int(v) % 2 ** 32 for v in row] for row in zip(*rows)], np.uint32)
    m64 = 2 ** 64
    low = [v * 0x100000001 % m64 for v in wide]
    before = random.integers(0, 2 ** 63, n).astype(np.uint64)
    start = np.concatenate([np.zeros(n, np.uint64), before, np.zeros(n, np.uint64)])
    # The first output takes the upper half.
    first = [((m64 - 1 - k) * 3 + k) % m64 for k in low]
    z = np.concatenate([np.array(first, np.uint64), np.array(low, np.uint64), before])
    yield from from_nvcc("odds_and_ends", [read("x", x), write("y", y), update("z", start, z), i32("n", n)], grid=1, block=128,
                         exercises="exit, guarded trap, cache policies, relaxed and acquire accesses, alloca, lop3 with a predicate, bytes and 128 bits of mov")


@PROGRAMS
def matmul_f64():
    random = rng("matmul_f64")
    a, b = random.standard_normal((30, 40)), random.standard_normal((40, 20))
    yield from from_nvcc("matmul_f64", [
        read("a", a), read("b", b), write("c", a @ b, 1e-14), i32("m", 30), i32("n", 20), i32("k", 40)], grid=(2, 2),
        block=(16, 16), exercises="product in f64 on the FMA units, ragged edges")
