"""What else Triton can say: loops that carry pairs, scans of tuples, sorts by key, locks, hints, warp counts, layouts, descriptors."""

import numpy as np
import triton
import triton.language as tl

from harness import BF16, Programs, f32, from_triton, i32, read, rng, update, write

PROGRAMS = Programs()
F = np.float64


@triton.jit
def _last_valid(va, fa, vb, fb):
    return tl.where(fb, vb, va), fa | fb


@triton.jit
def fill_forward_kernel(x, y, R: tl.constexpr, N: tl.constexpr):
    rows, cols = tl.arange(0, R)[:, None], tl.arange(0, N)[None, :]
    v = tl.load(x + rows * N + cols)
    filled, seen = tl.associative_scan((v, (v >= 0).to(tl.int32)), 1, _last_valid)
    back, _ = tl.associative_scan((v, (v >= 0).to(tl.int32)), 1, _last_valid, reverse=True)
    tl.store(y + rows * N + cols, tl.where(seen != 0, filled, -1))
    tl.store(y + R * N + rows * N + cols, back)


@PROGRAMS
def fill_forward():
    R, N = 4, 256
    random = rng("fill_forward")
    x = np.where(random.random((R, N)) < 0.3, random.integers(0, 1000, (R, N)), -5).astype(np.int32)

    def fill(rows):
        out = np.empty_like(rows)
        for r in range(R):
            last = None
            for c in range(N):
                last = rows[r, c] if last is None or rows[r, c] >= 0 else last
                out[r, c] = last
        return out

    forward = fill(x)
    y = np.stack([np.where(np.maximum.accumulate(x >= 0, 1), forward, -1), fill(x[:, ::-1])[:, ::-1]])
    yield from from_triton("fill_forward", fill_forward_kernel, [read("x", x), write("y", y)], dict(R=R, N=N), grid=1, warps=8,
                           targets=(80, 90), exercises="associative scan of a pair, both ways, across eight warps")


@triton.jit
def segmented_kernel(x, key, y, N: tl.constexpr):
    i = tl.arange(0, N)
    v, k = tl.load(x + i), tl.load(key + i)
    order = tl.sort(k.to(tl.int64) * N + i, descending=True)
    at = (order % N).to(tl.int32)
    tl.store(y + i, tl.gather(v, at, 0))


@PROGRAMS
def sort_by_key():
    N = 256
    random = rng("sort_by_key")
    x, key = random.standard_normal(N).astype(np.float32), random.integers(0, 40, N).astype(np.int32)
    order = np.sort(key.astype(np.int64) * N + np.arange(N))[::-1]
    yield from from_triton("sort_by_key", segmented_kernel, [read("x", x), read("key", key), write("y", x[order % N])], dict(N=N), grid=1,
                           warps=4, targets=(90,), exercises="descending sort of 64-bit keys over four warps, gather by what it gives")


@triton.jit
def ticket_kernel(lock, total, x, y, N: tl.constexpr):
    i = tl.arange(0, N)
    v = tl.load(x + tl.program_id(0) * N + i)
    while tl.atomic_cas(lock, 0, 1, sem="acquire") == 1:
        pass
    old = tl.load(total + i, volatile=True)
    tl.store(total + i, old * 3 % 1000003 + v)
    tl.debug_barrier()
    tl.atomic_xchg(lock, 0, sem="release")
    tl.store(y + tl.program_id(0) * N + i, v + 1)


@PROGRAMS
def locked_sum():
    N, blocks = 64, 6
    x = np.repeat(rng("locked_sum").integers(0, 1000, (1, N)), blocks, 0).astype(np.int32)  # equal rows: any order gives the same
    total = np.zeros(N, np.int64)
    for _ in range(blocks):
        total = total * 3 % 1000003 + x[0]
    yield from from_triton("locked_sum", ticket_kernel, [
        update("lock", np.int32([0]), np.int32([0])), update("total", np.zeros(N, np.int32), total.astype(np.int32)), read("x", x),
        write("y", x + 1)], dict(N=N), grid=blocks, warps=2, targets=(80,), exercises="critical section behind atomic_cas and a released exchange")


@triton.jit
def hints_kernel(x, y, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    a = tl.load(x + i, mask=i < n, other=7, cache_modifier=".cg")
    b = tl.load(x + (n - 1 - i), mask=i < n, other=0, eviction_policy="evict_first")
    c = tl.load(x + i, mask=i < n, other=1, volatile=True)
    tl.store(y + i, a + b, mask=i < n, cache_modifier=".cs")
    tl.store(y + n + i, a * c, mask=i < n, cache_modifier=".wt")


@PROGRAMS
def hints():
    n = 777
    x = rng("hints").integers(-1000, 1000, n).astype(np.int16)
    yield from from_triton("hints", hints_kernel, [read("x", x), write("y", np.stack([x + x[::-1], x * x])), i32("n", n)], dict(B=256), grid=4,
                           targets=(80,), exercises="cache modifiers, eviction policies and volatile loads of 16-bit elements, ragged")


@triton.jit
def grouped_kernel(sizes, a, b, c, G, N: tl.constexpr, K: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """Persistent: blocks take the tiles of groups of unlike sizes in turn."""
    tile, first, row = tl.program_id(0), 0, 0
    for g in range(G):
        m = tl.load(sizes + g)
        tiles = tl.cdiv(m, BM) * (N // BN)
        while tile < first + tiles:
            local = tile - first
            i, j = local // (N // BN) * BM + tl.arange(0, BM), local % (N // BN) * BN + tl.arange(0, BN)
            k = tl.arange(0, BK)
            acc = tl.zeros((BM, BN), tl.float32)
            for k0 in range(0, K, BK):
                left = tl.load(a + (row + i[:, None]) * K + k0 + k[None, :], mask=i[:, None] < m, other=0.0)
                right = tl.load(b + g * K * N + (k0 + k[:, None]) * N + j[None, :])
                acc = tl.dot(left, right, acc)
            tl.store(c + (row + i[:, None]) * N + j[None, :], acc.to(tl.bfloat16), mask=i[:, None] < m)
            tile += tl.num_programs(0)
        first += tiles
        row += m


@PROGRAMS
def matmul_grouped():
    random = rng("matmul_grouped")
    sizes, N, K = np.int32([40, 7, 64]), 64, 64
    a, b = random.standard_normal((sizes.sum(), K)).astype(BF16), random.standard_normal((3, K, N)).astype(BF16)
    ends = np.cumsum(sizes)
    c = np.concatenate([a[e - s:e].astype(F) @ b[g].astype(F) for g, (e, s) in enumerate(zip(ends, sizes))]).astype(BF16)
    yield from from_triton("matmul_grouped", grouped_kernel, [
        read("sizes", sizes), read("a", a), read("b", b), write("c", c, 1e-2), i32("G", 3)],
        dict(N=N, K=K, BM=32, BN=32, BK=32), grid=3, targets=(80, 90), exercises="grouped product: persistent blocks, groups of unlike sizes")


@triton.jit
def staged_kernel(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    i, j, k = tl.program_id(0) * BM + tl.arange(0, BM), tl.program_id(1) * BN + tl.arange(0, BN), tl.arange(0, BK)
    acc = tl.zeros((BM, BN), tl.float32)
    for k0 in range(0, K, BK):
        left = tl.load(a + i[:, None] * K + k0 + k[None, :])
        right = tl.load(b + (k0 + k[:, None]) * N + j[None, :])
        acc = tl.dot(left, right, acc)
    tl.store(c + i[:, None] * N + j[None, :], acc)


@PROGRAMS
def matmul_depths():
    random = rng("matmul_depths")
    M, N, K = 64, 32, 160
    for stages, warps, dtype, target in ((5, 1, np.float16, 80), (4, 2, BF16, 90), (3, 8, np.float16, 80)):
        rows = 128 if warps == 8 else M
        a, b = random.standard_normal((rows, K)).astype(dtype), random.standard_normal((K, N)).astype(dtype)
        yield from from_triton(f"matmul_stages{stages}_warps{warps}", staged_kernel, [
            read("a", a), read("b", b), write("c", (a.astype(F) @ b.astype(F)).astype(np.float32), 1e-4), i32("M", rows), i32("N", N), i32("K", K)],
            dict(BM=64, BN=32, BK=32), grid=(rows // 64, 1), stages=stages, warps=warps, targets=(target,),
            exercises=f"product with {stages} stages on {warps} warps")


@triton.jit
def f64_kernel(a, b, c, N: tl.constexpr, K: tl.constexpr):
    i, k = tl.arange(0, N), tl.arange(0, K)
    left = tl.load(a + i[:, None] * K + k[None, :])
    right = tl.load(b + k[:, None] * N + i[None, :])
    tl.store(c + i[:, None] * N + i[None, :], tl.dot(left, right, out_dtype=tl.float64))


@PROGRAMS
def matmul_f64_units():
    random = rng("matmul_f64_units")
    a, b = random.standard_normal((16, 32)), random.standard_normal((32, 16))
    yield from from_triton("matmul_f64_triton", f64_kernel, [read("a", a), read("b", b), write("c", a @ b, 1e-14)], dict(N=16, K=32), grid=1,
                           targets=(80,), exercises="tl.dot in f64")


@triton.jit
def paged_kernel(q, k, v, table, lengths, out, scale, P: tl.constexpr, D: tl.constexpr, MAX: tl.constexpr):
    s = tl.program_id(0)
    d, p = tl.arange(0, D), tl.arange(0, P)
    query = tl.load(q + s * D + d).to(tl.float32)
    length = tl.load(lengths + s)
    m, l = -float("inf"), 0.0
    acc = tl.zeros((D,), tl.float32)
    for page in range(tl.cdiv(length, P)):
        at = tl.load(table + s * MAX + page).to(tl.int64) * P + p
        live = page * P + p < length
        keys = tl.load(k + at[:, None] * D + d[None, :], mask=live[:, None], other=0).to(tl.float32)
        score = tl.where(live, tl.sum(keys * query[None, :], 1) * scale, -float("inf"))
        new = tl.maximum(m, tl.max(score, 0))
        weight, keep = tl.exp2(score - new), tl.exp2(m - new)
        values = tl.load(v + at[:, None] * D + d[None, :], mask=live[:, None], other=0).to(tl.float32)
        acc = acc * keep + tl.sum(weight[:, None] * values, 0)
        l, m = l * keep + tl.sum(weight, 0), new
    tl.store(out + s * D + d, acc / l)


@PROGRAMS
def attention_paged():
    random = rng("attention_paged")
    S, P, D, MAX, pages = 3, 16, 32, 4, 12
    q = random.standard_normal((S, D)).astype(np.float16)
    k, v = (random.standard_normal((pages * P, D)).astype(np.float16) for _ in range(2))
    table = random.permutation(pages)[:S * MAX].reshape(S, MAX).astype(np.int32)
    lengths = np.int32([5, 64, 33])
    out = np.empty((S, D))
    for s in range(S):
        at = (table[s][:, None] * P + np.arange(P)).reshape(-1)[:lengths[s]]
        score = k[at].astype(F) @ q[s].astype(F) * np.float32(0.25)
        weight = 2.0 ** (score - score.max())
        out[s] = weight @ v[at].astype(F) / weight.sum()
    yield from from_triton("attention_paged", paged_kernel, [
        read("q", q), read("k", k), read("v", v), read("table", table), read("lengths", lengths), write("out", out.astype(np.float32), 1e-4),
        f32("scale", 0.25)], dict(P=P, D=D, MAX=MAX), grid=S, targets=(80,), exercises="decoding over pages of keys found through a table, lengths unlike")


@triton.jit
def chunk_kernel(q, k, v, g, o, T, D: tl.constexpr, C: tl.constexpr):
    """Linear attention with decay: a state carried from chunk to chunk, products inside."""
    i, d = tl.arange(0, C), tl.arange(0, D)
    state = tl.zeros((D, D), tl.float32)
    for start in range(0, T, C):
        at = (start + i)[:, None] * D + d[None, :]
        queries, keys, values = tl.load(q + at), tl.load(k + at), tl.load(v + at)
        decay = tl.cumsum(tl.load(g + start + i), 0)
        last = tl.sum(tl.where(i == C - 1, decay, 0.0), 0)
        inner = tl.dot(queries, tl.trans(keys))
        inner = tl.where(i[:, None] >= i[None, :], inner * tl.exp(decay[:, None] - decay[None, :]), 0.0)
        out = tl.dot(inner.to(tl.bfloat16), values) + tl.dot((queries * tl.exp(decay)[:, None]).to(tl.bfloat16), state.to(tl.bfloat16))
        tl.store(o + at, out)
        state = state * tl.exp(last) + tl.dot(tl.trans((keys * tl.exp(last - decay)[:, None]).to(tl.bfloat16)), values)


@PROGRAMS
def linear_attention():
    random = rng("linear_attention")
    T, D, C = 96, 32, 32
    q, k, v = ((random.standard_normal((T, D)) / 4).astype(BF16) for _ in range(3))
    g = (-random.random(T) / 16).astype(np.float32)
    total = np.cumsum(g.astype(F))
    weights = np.tril(q.astype(F) @ k.astype(F).T * np.exp(np.minimum(total[:, None] - total[None, :], 0)))
    yield from from_triton("linear_attention", chunk_kernel, [
        read("q", q), read("k", k), read("v", v), read("g", g), write("o", (weights @ v.astype(F)).astype(np.float32), 2e-2), i32("T", T)],
        dict(D=D, C=C), grid=1, targets=(80, 90), exercises="chunked linear attention with decay: a state carried between products")


@triton.jit
def tma_copy_kernel(x, y, H, W, BH: tl.constexpr, BW: tl.constexpr):
    source = tl.make_tensor_descriptor(x, shape=[4, H, W], strides=[H * W, W, 1], block_shape=[1, BH, BW])
    sink = tl.make_tensor_descriptor(y, shape=[4, W, H], strides=[H * W, H, 1], block_shape=[1, BW, BH])
    for z in tl.range(0, 4, num_stages=3):
        tile = source.load([z, tl.program_id(0) * BH, tl.program_id(1) * BW])
        tile = tile.reshape(BH, BW)
        sink.store([z, tl.program_id(1) * BW, tl.program_id(0) * BH], tl.trans(tile).reshape(1, BW, BH))


@PROGRAMS
def tma_transpose():
    H, W = 40, 48
    x = rng("tma_transpose").integers(-10 ** 6, 10 ** 6, (4, H, W)).astype(np.int32)
    yield from from_triton("tma_transpose", tma_copy_kernel, [
        read("x", x), write("y", x.transpose(0, 2, 1)), i32("H", H), i32("W", W)], dict(BH=32, BW=32), grid=(2, 2), targets=(90,),
        exercises="three-dimensional descriptors, loads of a pipelined loop, stores that reach past the end")


@triton.jit
def tma_reduce_kernel(x, y, N: tl.constexpr, W: tl.constexpr):
    sink = tl.make_tensor_descriptor(y, shape=[N, W], strides=[W, 1], block_shape=[16, 32])
    i, j = tl.arange(0, 16), tl.arange(0, 32)
    v = tl.load(x + tl.program_id(0) * 512 + i[:, None] * 32 + j[None, :])
    sink.atomic_add([8, 0], v)
    sink.atomic_add([0, 16], v * 2)


@PROGRAMS
def tma_reduce():
    x = rng("tma_reduce").integers(-100, 100, (3, 16, 32)).astype(np.float32)
    y = np.zeros((24, 64), np.float32)
    start = y + 5
    y = start.copy()
    for v in x:
        y[8:24, 0:32] += v
        y[0:16, 16:48] += v * 2
    yield from from_triton("tma_reduce", tma_reduce_kernel, [read("x", x), update("y", start, y)], dict(N=24, W=64), grid=3, targets=(90,),
                           exercises="descriptor additions: cp.reduce.async.bulk.tensor from three blocks at once")


@triton.jit
def tma_gemm_kernel(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, SPECIAL: tl.constexpr):
    left = tl.make_tensor_descriptor(a, shape=[M, K], strides=[K, 1], block_shape=[BM, BK])
    right = tl.make_tensor_descriptor(b, shape=[K, N], strides=[N, 1], block_shape=[BK, BN])
    out = tl.make_tensor_descriptor(c, shape=[M, N], strides=[N, 1], block_shape=[BM, BN])
    for tile in tl.range(tl.program_id(0), tl.cdiv(M, BM) * tl.cdiv(N, BN), tl.num_programs(0), flatten=True, warp_specialize=SPECIAL):
        m, n = tile // tl.cdiv(N, BN) * BM, tile % tl.cdiv(N, BN) * BN
        acc = tl.zeros((BM, BN), tl.float32)
        for k in range(0, K, BK):
            acc = tl.dot(left.load([m, k]), right.load([k, n]), acc)
        out.store([m, n], acc.to(tl.bfloat16))


@PROGRAMS
def tma_persistent():
    random = rng("tma_persistent")
    M, N, K = 128, 128, 128
    a, b = random.standard_normal((M, K)).astype(BF16), random.standard_normal((K, N)).astype(BF16)
    yield from from_triton("tma_persistent", tma_gemm_kernel, [
        read("a", a), read("b", b), write("c", (a.astype(F) @ b.astype(F)).astype(BF16), 1e-2), i32("M", M), i32("N", N), i32("K", K)],
        dict(BM=64, BN=64, BK=64, SPECIAL=False), grid=2, stages=3, targets=(90,),
        exercises="persistent product through descriptors: wgmma with 128-byte swizzle, three stages of bulk tensor loads, flattened loop")


@triton.jit
def asm_kernel(x, y, N: tl.constexpr):
    i = tl.arange(0, N)
    v = tl.load(x + i)
    low, high = tl.inline_asm_elementwise(
        "{ .reg .b64 t; .reg .u32 u; mul.wide.u32 t, $2, 2654435761; mov.b64 {$0, u}, t; shf.l.wrap.b32 $1, u, $0, 7; }", "=&r,=&r,r", [v],
        dtype=(tl.uint32, tl.uint32), is_pure=True, pack=1)
    tl.store(y + i, low)
    tl.store(y + N + i, high)


@PROGRAMS
def inline_wide():
    N = 256
    x = rng("inline_wide").integers(0, 2 ** 32, N, dtype=np.uint32)
    product = x.astype(np.uint64) * np.uint64(2654435761)
    low, high = product & np.uint64(2 ** 32 - 1), product >> np.uint64(32)
    rolled = (low << np.uint64(7) | high >> np.uint64(25)) & np.uint64(2 ** 32 - 1)
    yield from from_triton("inline_wide", asm_kernel, [read("x", x), write("y", np.stack([low, rolled]).astype(np.uint32))], dict(N=N), grid=1,
                           warps=1, targets=(80,), exercises="inline assembly with two results, funnel shift, 64-bit temporaries")


@triton.jit
def scaled_kernel(a, b, sa, sb, c, N: tl.constexpr, K: tl.constexpr):
    i, k, s = tl.arange(0, N), tl.arange(0, K), tl.arange(0, K // 32)
    left, right = tl.load(a + i[:, None] * K + k[None, :]), tl.load(b + k[:, None] * N + i[None, :])
    left_scale, right_scale = tl.load(sa + i[:, None] * (K // 32) + s[None, :]), tl.load(sb + i[:, None] * (K // 32) + s[None, :])
    tl.store(c + i[:, None] * N + i[None, :], tl.dot_scaled(left, left_scale, "e4m3", right, right_scale, "e4m3"))


@PROGRAMS
def matmul_mx():
    import ml_dtypes
    random = rng("matmul_mx")
    N, K = 32, 64
    a, b = (random.standard_normal(s).astype(ml_dtypes.float8_e4m3fn) for s in ((N, K), (K, N)))
    sa, sb = (random.integers(124, 131, (N, K // 32)).astype(np.uint8) for _ in range(2))
    spread = lambda s: np.repeat(2.0 ** (s.astype(F) - 127), 32, 1)
    c = (a.astype(F) * spread(sa)) @ (b.astype(F) * spread(sb).T)
    yield from from_triton("matmul_mx", scaled_kernel, [
        read("a", a.view(np.uint8), "fp8e4nv"), read("b", b.view(np.uint8), "fp8e4nv"), read("sa", sa), read("sb", sb),
        write("c", c.astype(np.float32), 1e-4)], dict(N=N, K=K), grid=1, targets=(90,), exercises="microscaled product: e4m3 with shared exponents, on bf16 units")


@triton.jit
def rand_kernel(seed, y, z, N: tl.constexpr):
    i = tl.arange(0, N)
    a, b, c, d = tl.randint4x(seed, i)
    tl.store(y + i, a ^ b)
    tl.store(y + N + i, c & d)
    tl.store(z + i, tl.rand(seed, i))


@PROGRAMS
def philox_four():
    N, seed = 128, 20240607

    def philox(counter, key):
        c, k = [counter.astype(np.uint64), *(np.zeros(N, np.uint64) for _ in range(3))], [np.uint64(key & 0xFFFFFFFF), np.uint64(key >> 32)]
        low32 = np.uint64(0xFFFFFFFF)
        for _ in range(10):
            a, b = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
            c = [b >> np.uint64(32) ^ c[1] ^ k[0], b & low32, a >> np.uint64(32) ^ c[3] ^ k[1], a & low32]
            k = [(k[0] + np.uint64(0x9E3779B9)) & low32, (k[1] + np.uint64(0xBB67AE85)) & low32]
        return [w.astype(np.uint32).view(np.int32) for w in c]

    a, b, c, d = philox(np.arange(N), seed)
    positive = np.where(a < 0, -a - 1, a)
    z = (positive.astype(np.float32) * np.float32(4.6566127342e-10)).astype(np.float32)
    yield from from_triton("philox_four", rand_kernel, [i32("seed", seed), write("y", np.stack([a ^ b, c & d])), write("z", z, 1e-6)], dict(N=N), grid=1,
                           warps=4, exercises="Philox: four words per counter, uniform numbers")


@triton.jit
def fp8_cast_kernel(x, e4, e5, back, N: tl.constexpr):
    i = tl.arange(0, N)
    v = tl.load(x + i)
    a, b = v.to(tl.float8e4nv), v.to(tl.float8e5)
    tl.store(e4 + i, a)
    tl.store(e5 + i, b)
    tl.store(back + i, a.to(tl.float32) * b.to(tl.float16).to(tl.float32))


@PROGRAMS
def fp8_casts():
    import ml_dtypes
    N = 512
    x = (rng("fp8_casts").standard_normal(N) * 2.0 ** rng("fp8_casts2").integers(-9, 8, N)).astype(np.float32)
    a, b = x.astype(ml_dtypes.float8_e4m3fn), x.astype(ml_dtypes.float8_e5m2)
    assert np.isfinite(a.astype(np.float32)).all()
    yield from from_triton("fp8_casts", fp8_cast_kernel, [
        read("x", x), write("e4", a.view(np.uint8), element="fp8e4nv"), write("e5", b.view(np.uint8), element="fp8e5"),
        write("back", a.astype(np.float32) * b.astype(np.float32))], dict(N=N), grid=1, targets=(90,), exercises="f32 to e4m3 and e5m2 and back")


@triton.jit
def median_kernel(x, y, N: tl.constexpr):
    i = tl.arange(0, N)
    v = tl.load(x + tl.program_id(0) * N + i)
    low, high = tl.min(v, 0), tl.max(v, 0)
    while low < high:
        middle = low + (high - low) // 2
        if tl.sum((v <= middle).to(tl.int32), 0) > (N - 1) // 2:
            high = middle
        else:
            low = middle + 1
    tl.store(y + tl.program_id(0), low)
    tl.device_assert(low == high)


@PROGRAMS
def median():
    N = 512
    x = rng("median").integers(0, 10 ** 9, (3, N)).astype(np.int32)
    yield from from_triton("median", median_kernel, [read("x", x), write("y", np.sort(x, 1)[:, (N - 1) // 2])], dict(N=N), grid=3, warps=8,
                           targets=(80,), exercises="bisection: a while loop around reductions over eight warps")


@triton.jit
def special_kernel(q, k, v, o, scale, T, BM: tl.constexpr, BN: tl.constexpr, D: tl.constexpr, WS: tl.constexpr):
    """Flash attention through descriptors; producers, products and softmax on warps of their own."""
    dq = tl.make_tensor_descriptor(q, shape=[T, D], strides=[D, 1], block_shape=[BM, D])
    dk = tl.make_tensor_descriptor(k, shape=[T, D], strides=[D, 1], block_shape=[BN, D])
    dv = tl.make_tensor_descriptor(v, shape=[T, D], strides=[D, 1], block_shape=[BN, D])
    do = tl.make_tensor_descriptor(o, shape=[T, D], strides=[D, 1], block_shape=[BM, D])
    m0 = tl.program_id(0) * BM
    qq = dq.load([m0, 0])
    m = tl.full((BM,), -1e30, tl.float32)
    l = tl.zeros((BM,), tl.float32)
    acc = tl.zeros((BM, D), tl.float32)
    for n in tl.range(0, T, BN, warp_specialize=WS):
        s = tl.dot(qq, dk.load([n, 0]).T) * scale
        new = tl.maximum(m, tl.max(s, 1))
        p = tl.exp2(s - new[:, None])
        keep = tl.exp2(m - new)
        l = l * keep + tl.sum(p, 1)
        acc = acc * keep[:, None]
        acc = tl.dot(p.to(tl.float16), dv.load([n, 0]), acc)
        m = new
    do.store([m0, 0], (acc / l[:, None]).to(tl.float16))

@PROGRAMS
def attention_specialised():
    random = rng("attention_specialised")
    T, D = 128, 64
    q, k, v = (random.standard_normal((T, D)).astype(np.float16) for _ in range(3))
    s = q.astype(F) @ k.astype(F).T * np.float32(0.2)
    weight = 2.0 ** (s - s.max(1, keepdims=True))
    o = (weight @ v.astype(F) / weight.sum(1, keepdims=True)).astype(np.float16)
    yield from from_triton("attention_specialised", special_kernel, [
        read("q", q), read("k", k), read("v", v), write("o", o, 5e-3), f32("scale", 0.2), i32("T", T)], dict(BM=64, BN=64, D=D, WS=True), grid=2,
        stages=2, targets=(90,), exercises="warp specialisation: descriptors, mbarriers and named barriers between warps, setmaxnreg, wgmma")
