"""Control: calls, local memory, module variables, switches, divergence, barriers, locks and grid-wide patterns."""

import numpy as np

from harness import Programs, from_nvcc, i32, read, rng, update, write

PROGRAMS = Programs()
F = np.float64
BOTH = ("sm_80", "sm_90a")


@PROGRAMS
def calls():
    x = rng("calls").standard_normal(64).astype(np.float32)
    i = np.arange(64)
    fib = [0, 1]
    while len(fib) < 13:
        fib.append(fib[-1] + fib[-2])

    def ackermann(m, n):
        return n + 1 if m == 0 else ackermann(m - 1, 1) if n == 0 else ackermann(m - 1, ackermann(m, n - 1))

    wide = (i * 1000000007 * 3 + (i - 20)) * 10 + (i - 21)
    twice = (x * np.float32(2)).astype(np.float32)
    called = np.select([i % 3 == 0, i % 3 == 1], [twice + np.float32(1), twice * np.float32(2)], -twice).astype(np.float32)
    yield from from_nvcc("calls", [
        read("x", x), write("fib", np.array(fib, np.int32)[i % 13]),
        write("ack", np.array([ackermann(k % 3, k % 4) for k in i], np.int32)), write("wide", wide.astype(np.int64)),
        write("y", called + x)], grid=1, block=64, targets=BOTH,
        exercises="calls: two kinds of recursion, a struct by value, out pointer to local memory, indirect call by table")


@PROGRAMS
def local_arrays():
    x = rng("local_arrays").integers(0, 10 ** 9, (128, 17)).astype(np.int32)
    y = x.copy()
    for at in range(128):
        y[at, :3 + at % 15] = np.sort(y[at, :3 + at % 15])
    digits = "".join(str(y[at, at % 17]).ljust(12) for at in range(128)).encode()
    yield from from_nvcc("local_arrays", [
        read("x", x), write("y", y), write("digits", np.frombuffer(digits, np.uint8))], grid=2, block=64,
        exercises="arrays in local memory, bytes among them, through generic pointers")


@PROGRAMS
def transpose():
    x = rng("transpose").standard_normal((50, 40)).astype(np.float32)
    yield from from_nvcc("transpose", [
        read("x", x), write("y", x.T), update("sums", np.zeros(40), x.astype(F).sum(0), 1e-14), i32("rows", 50),
        i32("cols", 40)], grid=(2, 2), block=(32, 8), dynamic_shared=32 * 33 * 4 + 32 * 8,
        exercises="two-dimensional blocks, dynamic shared memory with parts of two types, f64 atomics")


@PROGRAMS
def constants():
    w, h = 24, 8
    x = rng("constants").integers(0, 100, (h, w)).astype(np.int32)
    padded = np.pad(x, 1, mode="edge").astype(F)
    k = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]])
    blurred = sum(k[b, a] * padded[b:b + h, a:a + w] for a in range(3) for b in range(3)) / 16
    which = x % 3
    y = np.array([0.5, -2.0, F(np.float32(1e10))])[which] * (1 / 3) + np.array([3, -1, 0])[which]
    letters = np.frombuffer(b"constant memory", np.uint8).astype(np.int64)
    z = -1234567890123456789 + np.array([97, 98, 255])[which] * 1000 + letters[np.arange(w * h) % 15].reshape(h, w)
    yield from from_nvcc("constants", [
        read("x", x), write("blurred", blurred.astype(np.float32)), write("y", y, 1e-15), write("z", z.astype(np.int64)),
        i32("width", w)], grid=1, block=(w, h), exercises="constant memory with initialisers of every width")


@PROGRAMS
def module_variables():
    i = np.arange(32)
    primes = np.array([2, 3, 5, 7, 11, 13, 17, 19])
    words = ["alpha", "beta", "gamma"]
    values = [len(words[k % 3]) * 100 + ord(words[k % 3][k % len(words[k % 3])]) - 3 for k in i]
    floats = np.array([1.5, 2.5, -0.0])[i % 3] + 16
    yield from from_nvcc("module_variables", [
        update("order", np.zeros(24, np.int32), np.tile(primes * 10, 3).astype(np.int32)),
        write("values", np.array(values, np.int32)), write("floats", floats.astype(np.float32)), write("total", np.array([1.25]))],
        grid=3, block=32, exercises="module variables: initialisers, addresses of others, strings, shared by all blocks")


@PROGRAMS
def switch_table():
    x = rng("switch").integers(-2, 13, 128).astype(np.int32)
    wrap = lambda v: (v + 2 ** 31) % 2 ** 32 - 2 ** 31
    remainder = lambda a, b: int(np.fmod(a, b))  # C's, with the sign of the dividend
    y = []
    for i, op in enumerate(x.tolist()):
        v = i
        for _ in range(9):
            if op == 0:
                v, op = wrap(v * 3 + 1), 5
            elif op == 1:
                v ^= 0x5555
                op = v & 7
            elif op == 2:
                v, op = wrap((v >> 1) - 7), 9
            elif op in (3, 4):
                v = wrap(v + (100 if op == 3 else 0) - op)
                op = (op + 3) % 11
            elif op == 5:
                v = wrap(v * v)
                r = remainder(v, 10)
                op = 6 if r < 0 else r
            elif op == 6:
                v, op = wrap(-v), 2
            elif op == 7:
                v, op = v | 64, 8
            elif op == 8:
                v &= 0xFFFF
                op = (v >> 3) & 15
            elif op == 9:
                v, op = ~v, 0
            else:
                v, op = wrap(v + 1), 3
        y.append(v)
    yield from from_nvcc("switch_table", [read("x", x), write("y", np.array(y, np.int32)), i32("rounds", 9)], grid=2, block=64,
                         targets=BOTH, exercises="a dense switch as a tree of branches, every thread its own case")


@PROGRAMS
def branch_table():
    x = rng("branch_table").integers(0, 2 ** 32, 64, dtype=np.uint32)
    v = np.arange(1, 65, dtype=np.uint32)
    for k in range(7):
        op = (x >> np.uint32(2 * k)) & np.uint32(3)
        flipped = ~v
        v = np.select([op == 0, op == 1, op == 2], [v + np.uint32(17), v * v, flipped * flipped], v).astype(np.uint32)
    yield from from_nvcc("branch_table", [read("x", x), write("y", v), i32("rounds", 7)], grid=1, block=64,
                         exercises="brx.idx with .branchtargets, different in each lane, a case that falls through")


@PROGRAMS
def divergence():
    n, threads = 500, 192
    x = rng("divergence").integers(-100, 60, n).astype(np.int32)
    y, lengths = np.full(n, -77, np.int32), np.full(n, -77, np.int32)
    for t in range(threads):
        for i in range(t, n, threads):
            v = int(x[i])
            if v < 0:
                y[i], lengths[i] = -1, 0
                if v < -90:
                    break
                continue
            total = steps = 0
            for a in range(1, v + 1):
                if a % 3 == 0:
                    continue
                b = a
                while b > 1:
                    b = 3 * b + 1 if b & 1 else b // 2
                    steps += 1
                    if steps > 200:
                        break
                total += b * a
                if steps > 200:
                    break
            y[i], lengths[i] = total, steps
    yield from from_nvcc("divergence", [read("x", x), write("y", y), write("lengths", lengths), i32("n", n)], grid=2, block=96,
                         targets=BOTH, exercises="early return, break, continue, nested loops of different lengths, grid stride")


@PROGRAMS
def named_barriers():
    steps = 6
    x = rng("named_barriers").integers(-900, 900, (steps, 64)).astype(np.int32)
    lane = np.arange(64)
    y = x[:, lane ^ 63] * 2 + 1
    first = x.reshape(-1)[:128]
    votes = np.full(128, (first > 0).sum() * 4 + 2 + 0, np.int32)
    t = np.arange(128)
    halves = first[((t >> 5) ^ 1) * 32 + 31 - (t & 31)]
    yield from from_nvcc("named_barriers", [
        read("x", x), write("y", y.astype(np.int32)), write("votes", votes), write("halves", halves), i32("steps", steps)],
        grid=1, block=128, targets=BOTH,
        exercises="producer and consumer warps with bar.arrive and counted bar.sync, bar.red, barriers of part of the block")


@PROGRAMS
def spin_lock():
    blocks, threads = 3, 64
    x = rng("spin_lock").integers(-50, 50, (blocks, threads)).astype(np.float32)
    start = np.ones(threads, np.float32)
    yield from from_nvcc("spin_lock", [
        update("counter", np.int32([5]), np.int32([5 + blocks * threads])), update("order", np.int32([0]), np.int32([6])),
        update("sum", start, start + x.sum(0)), read("x", x)], grid=blocks, block=threads,
        exercises="spin locks: one that each lane takes, one that a block takes; nanosleep, fences, volatile")


@PROGRAMS
def last_block():
    x = rng("last_block").standard_normal(1000).astype(np.float32)
    blocks, threads = 4, 128
    partial = np.zeros(blocks)
    for b in range(blocks):
        partial[b] = sum(x[i:i + threads].astype(F).sum() for i in range(b * threads, 1000, blocks * threads))
    yield from from_nvcc("last_block", [
        read("x", x), write("partial", partial.astype(np.float32), 1e-5),
        write("total", np.float32([x.astype(F).sum()]), 2e-5), i32("n", 1000)], grid=blocks, block=threads, targets=BOTH,
        exercises="reduction over the grid by the block that finishes last: atomicInc, __threadfence, volatile")


@PROGRAMS
def lookback_scan():
    blocks = 5
    x = rng("lookback").integers(-1000, 1000, blocks * 128).astype(np.int32)
    y = x.cumsum().astype(np.int32)
    yield from from_nvcc("lookback_scan", [
        read("x", x), write("y", y), update("prefix", np.zeros(blocks, np.int32), y[127::128]),
        update("state", np.zeros(blocks, np.int32), np.ones(blocks, np.int32))], grid=blocks, block=128,
        exercises="scan of the grid in one pass: tickets, volatile flags between blocks, fences")


@PROGRAMS
def message_passing():
    rounds = 5
    lane = np.arange(32)
    v = np.tile(lane * 10, (4, 1))
    for _ in range(rounds):
        message = v[0] + 1
        got = np.zeros_like(v)
        for warp in (1, 2, 3, 0):
            got[warp] = message[lane ^ 1]
            message = got[warp] + warp + 1
        v = got
    yield from from_nvcc("message_passing", [write("y", v.astype(np.int32)), i32("rounds", rounds)], grid=1, block=128,
                         exercises="ld.acquire and st.release between warps, __syncwarp, no barrier in the loop")


@PROGRAMS
def lane_baton():
    value, y = 1, []
    for lane in range(32):
        value = value * 5 + lane & 0xFFFFFFFF
        y.append(value)
    yield from from_nvcc("lane_baton", [write("y", np.uint32(y))], grid=1, block=32,
                         exercises="lanes of one warp that spin for each other: every lane must get its turn, whatever its program counter")


@PROGRAMS
def bitonic():
    x = rng("bitonic").integers(0, 2 ** 64, (2, 256), dtype=np.uint64)
    yield from from_nvcc("bitonic", [update("x", x, np.sort(x, axis=1))], grid=2, block=128,
                         exercises="bitonic sort of u64 in shared memory")


@PROGRAMS
def histogram():
    x = np.minimum(rng("histogram").geometric(0.02, 3000), 255).astype(np.uint8)
    counts = np.bincount(x, minlength=256).astype(np.uint32)
    yield from from_nvcc("histogram", [
        read("x", x), update("bins", np.zeros(256, np.uint32), counts),
        update("squares", np.array([7], np.uint64), np.array([7 + int((counts.astype(np.int64) * np.arange(256)).sum())], np.uint64)),
        i32("n", 3000)], grid=3, block=128, targets=BOTH,
        exercises="shared atomics into private bins, 32- and 64-bit global additions")
