"""Warps: shuffles, votes, matches, redux, cooperative groups, sorts across lanes."""

import numpy as np

from harness import Programs, from_nvcc, i32, read, rng, update, write

PROGRAMS = Programs()
LANE = np.arange(32)


def by_warp(x):
    return x.reshape(-1, 32)


@PROGRAMS
def shuffles():
    n = 64
    x = rng("shuffles").integers(-1000, 1000, n).astype(np.int32)

    def moved(source, valid):
        """Each lane takes the value of lane `source`, or keeps its own."""
        return by_warp(x)[:, np.where(valid, source, LANE)].reshape(-1)

    def up(by, width):
        source = LANE - by
        return moved(source, source >= LANE // width * width), source >= LANE // width * width

    def down(by, width):
        source = LANE + by
        valid = source < (LANE // width + 1) * width
        return moved(source, valid), valid

    def bfly(mask, width):
        source = LANE ^ mask
        valid = source < (LANE // width + 1) * width
        return moved(source, valid), valid

    always = np.ones(32, bool)
    rows, ok = [], []
    rows.append(moved(31 - LANE, always))
    rows.append(moved(LANE // 8 * 8 + (LANE + 3) % 8, always))
    for r, v in (up(5, 32), up(3, 16), down(7, 32), down(1, 4), bfly(21, 32), bfly(12, 8)):
        rows.append(r)
    r, v = up(LANE & 7, 32)
    rows.append(r), ok.append(v)
    r, v = down(9, 32)
    rows.append(r), ok.append(v)
    # c = 0x100f: segments of 16 lanes (bit 12 is segment mask bit 4), upper lane of the segment | 15.
    source = LANE ^ 16
    bound = LANE & 16 | 15
    rows.append(moved(source, source <= bound)), ok.append(source <= bound)
    # c = 0x1c1f: segments of 4 lanes, but the bound lets the whole warp in: maxLane = (lane & 28) | (31 & 3).
    source = LANE & 28 | (LANE * 5) & 31 & 3
    rows.append(moved(source, source <= (LANE & 28 | 3))), ok.append(source <= (LANE & 28 | 3))
    odd = by_warp(x)[:, (LANE + 2) & 31].reshape(-1)
    rows.append(np.where(np.tile(LANE, 2) & 1, odd, -1))
    d = np.repeat(by_warp(x).sum(1) * 0.5, 32)
    ok = np.stack([np.tile(v, 2) for v in ok]).astype(np.int32)
    yield from from_nvcc("shuffles", [
        read("x", x), write("y", np.stack(rows).astype(np.int32)), write("ok", ok), write("d", d), i32("n", n)], grid=1, block=n,
        targets=("sm_80", "sm_90a"),
        exercises="shfl.sync idx, up, down, bfly: widths, predicates, clamps, part of a warp, 64-bit values")


@PROGRAMS
def votes():
    n = 64
    x = rng("votes").integers(-50, 50, n).astype(np.int32)
    x[32:] = np.abs(x[32:]) // 5 + 1  # so that the votes of the second warp agree
    rows = np.zeros((19, n), np.uint32)
    mask = lambda lanes: int(sum(1 << int(l) for l in np.flatnonzero(lanes)))
    u = lambda v: int(v) % 2 ** 32
    for w in range(2):
        v = x[w * 32:w * 32 + 32].astype(np.int64)
        uv = [u(k) for k in v]
        out = rows[:, w * 32:w * 32 + 32]
        out[0] = mask(v > 0)
        out[1] = int((v > -50).all()) * 2 + int((v > 49).any())
        out[2] = len(set((v > -20).tolist())) == 1
        out[3] = [mask(v & 3 == k & 3) for k in v]
        same = len(set((v >> 31).tolist())) == 1
        out[4], out[5] = (2 ** 32 - 1) * same, same
        out[6] = [mask(v & 1 == k & 1) for k in v]
        out[7], out[8], out[9] = u(v.sum()), u(v.min()), max(uv)
        out[10] = np.bitwise_and.reduce([k | 0x80 for k in uv])
        out[11] = np.bitwise_or.reduce([k & 0x3C for k in uv])
        out[12] = np.bitwise_xor.reduce(uv)
        part = (LANE >= 10) & (LANE < 27)
        out[13, part] = 1
        out[14, part] = mask(part & (v & 1 == 1))
        out[15, part] = u(v[part].max())
        out[16, part] = [mask(part & (v & 7 == k & 7)) for k in v[part]]
        out[17, part] = int((v[part] == 3).any()) | int((v[part] < 50).all()) << 1
        # Groups leave in the order of their first lane.
        order = []
        for k in v & 3:
            if k not in order:
                order.append(k)
        out[18] = [order.index(k) + 1 for k in v & 3]
    yield from from_nvcc("votes", [read("x", x), write("y", rows), i32("n", n)], grid=1, block=n, targets=("sm_80", "sm_90a"),
                         exercises="ballot, all, any, uni, match.any, match.all, activemask, redux, on whole and part warps")


@PROGRAMS
def cooperative():
    n = 96
    x = rng("cooperative").integers(-500, 500, n).astype(np.int32)
    rows = np.full((8, n), -1, np.int64)
    for w in range(n // 32):
        s = slice(w * 32, w * 32 + 32)
        v = x[s].astype(np.int64)
        rows[0, s] = v.sum()
        tiles = v.reshape(4, 8)
        rows[1, s] = np.repeat(tiles.max(1), 8)
        rows[2, s] = tiles.cumsum(1).reshape(-1)
        rows[3, s] = (v & 15).cumsum() - (v & 15)
        source = np.where(np.arange(8) + 2 < 8, np.arange(8) + 2, np.arange(8))
        rows[4, s] = tiles[:, source].reshape(-1) + (w * 4 + np.arange(32) // 8) * 1000
        live = np.flatnonzero(v > 0)
        rows[5, w * 32 + live] = np.arange(live.size) * 100 + live.size
        rows[6, w * 32 + live] = v[live[0]]
    rows[7] = (x > 0).sum()
    yield from from_nvcc("cooperative_groups", [read("x", x), write("y", rows.astype(np.int32)), i32("n", n)], grid=1, block=n,
                         entry="cooperative", targets=("sm_80", "sm_90a"),
                         exercises="cooperative groups: tiles of 8 and 32, scans, coalesced threads, elected lanes")


@PROGRAMS
def warp_sort():
    n = 128
    random = rng("warp_sort")
    key = random.permutation(n).astype(np.float32) / 7
    value = np.arange(n, dtype=np.int32) * 3
    flag = (random.random(n) < 0.15).astype(np.int32)
    order = np.concatenate([np.argsort(key[w:w + 32]) + w for w in range(0, n, 32)])
    sorted_value = value[order]
    scan = np.zeros(n, np.int32)
    for t in range(n):
        v = int(sorted_value[t] & 255)
        scan[t] = v if t % 32 == 0 or flag[t] else scan[t - 1] + v
    yield from from_nvcc("warp_sort", [
        update("key", key, key[order]), update("value", value, sorted_value), read("flag", flag), write("scan", scan)], grid=2,
        block=64, exercises="bitonic sort of pairs across lanes, segmented scan")
