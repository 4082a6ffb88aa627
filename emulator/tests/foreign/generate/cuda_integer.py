"""Integers: arithmetic corners, bit fields and permutations, 64 and 128 bits, SHA-256. Models in Python's integers."""

import hashlib

import numpy as np

from harness import Programs, from_nvcc, i32, read, rng, update, write

PROGRAMS = Programs()
M32, M64 = 2 ** 32 - 1, 2 ** 64 - 1
EDGES = [0, 1, 2, 5, 31, 32, 33, 63, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0x80000001,
         0xFFFFFFFE, 0xFFFFFFFF]


def s(v, bits=32):
    """The signed reading of the low `bits` of `v`."""
    v &= (1 << bits) - 1
    return v - (1 << bits) if v >> (bits - 1) else v


def clamp(v, bits=32):
    return max(-(1 << bits - 1), min((1 << bits - 1) - 1, v))


def divide(a, b):
    """C's quotient and remainder: towards zero."""
    q = abs(a) // abs(b)
    q = q if (a < 0) == (b < 0) else -q
    return q, a - q * b


def lanes(v, width):
    return [v >> k & (1 << width) - 1 for k in range(0, 32, width)]


def join(values, width):
    return sum((v & (1 << width) - 1) << k * width for k, v in enumerate(values))


def integer_rows(a, b, c):
    sa, sb, sc = s(a), s(b), s(c)
    by = c & 63
    wide = lambda hi, lo: hi << 32 | lo
    div, rem = divide(5 if b == M32 else sa, sb) if b else (0, 0)
    yield a + b * c
    yield a * b >> 32
    yield sa * sb >> 32
    yield a // b if b else 0
    yield a % b if b else 0
    yield div
    yield rem
    yield a << by if by < 32 else 0
    yield a >> by
    yield sa >> min(by, 31)
    yield wide(b, a) << min(by, 32) >> 32
    yield wide(b, a) >> min(by, 32)
    yield wide(b, a) << (c & 31) >> 32
    yield wide(b, a) >> (c & 31)
    yield abs(sa - sb) + c
    yield abs(a - b) + c
    yield clamp(sa + sb)
    yield clamp(sa - sb)
    yield clamp((sa * sb >> 32) + sc)
    yield (a * b >> 32) + c
    yield s(a, 24) * s(b, 24)
    yield (a & 0xFFFFFF) * (b & 0xFFFFFF) >> 16
    yield (a & 0xFFFFFF) * (b & 0xFFFFFF) + c
    yield abs(sa)
    yield -sb
    yield min(sa, sb)
    yield max(a, b)
    yield min(max(sa, -100), 100)
    yield c if sa < sb else ~c
    yield a if sc >= 0 else b
    yield c if a > b else 7
    yield 7 if sc > 9 else 3 if sa < sb else 5
    yield M32 if sa >= sb else 0
    yield 0x3F800000 if a != b else 0
    yield 0 if a & (M32 if b & 1 else 0) else 1
    yield sc + sum(s(x, 8) * s(y, 8) for x, y in zip(lanes(a, 8), lanes(b, 8)))
    yield c + sum(x * y for x, y in zip(lanes(a, 8), lanes(b, 8)))
    yield sc + sum(s(x, 16) * s(y, 8) for x, y in zip(lanes(a, 16), lanes(b, 8)[:2]))
    yield c + sum(x * y for x, y in zip(lanes(a, 16), lanes(b, 8)[2:]))
    yield sc + sum(s(x, 8) * y for x, y in zip(lanes(a, 8), lanes(b, 8)))
    lo, hi = lanes(a, 16)
    yield s(lo, 16) * s(hi, 16)
    yield join([lo * hi >> 16, 0], 16)
    yield join([divide(s(lo, 16), 7)[0], divide(s(hi, 16), 11)[1]], 16)
    t = a + b
    r0, carry = t & M32, t >> 32
    t = c + c + carry
    r1, carry = t & M32, t >> 32
    yield r0 ^ r1 * 3 ^ (b + carry) * 5
    t = a - b
    r0, borrow = t & M32, t < 0
    t = c - b - borrow
    r1, borrow = t & M32, t < 0
    yield r0 ^ r1 * 3 ^ (-int(borrow) & M32) * 5
    t = (a * b & M32) + c
    r0, carry = t & M32, t >> 32
    t = (a * b >> 32) + c + carry
    r1, carry = t & M32, t >> 32
    yield r0 ^ r1 * 3 ^ ((a * c & M32) + b + carry) * 5
    yield divide(sa, 10)[0] + divide(sa, 7)[1] * 100
    yield a // 1000003
    yield divide(sa, 16)[0]
    yield divide(sa, -13)[1]
    yield join([abs(x - y) for x, y in zip(lanes(a, 8), lanes(b, 8))], 8)
    yield join([x + y for x, y in zip(lanes(a, 16), lanes(b, 16))], 16)
    yield join([max(s(x, 16), s(y, 16)) for x, y in zip(lanes(a, 16), lanes(b, 16))], 16)
    yield join([255 * (x > y) for x, y in zip(lanes(a, 8), lanes(b, 8))], 8)
    # The signed average rounds a half away from zero.
    average = lambda t: (t + 1) // 2 if t >= 0 else -((1 - t) // 2)
    yield join([average(s(x, 16) + s(y, 16)) for x, y in zip(lanes(a, 16), lanes(b, 16))], 16)


def operands(name, n):
    random = rng(name)
    pick = lambda: [int(v) for v in np.where(random.random(n) < 0.5, random.choice(EDGES, n), random.integers(0, 2 ** 32, n))]
    return pick(), pick(), pick()


def table(rows, mask, dtype):
    return np.array([[v & mask for v in row] for row in zip(*rows)], object).astype(dtype)


@PROGRAMS
def integers():
    n = 160
    a, b, c = operands("integers", n)
    y = table([list(integer_rows(*abc)) for abc in zip(a, b, c)], M32, np.uint32)
    u = lambda v: np.array(v, np.uint32)
    yield from from_nvcc("integers", [
        read("pa", u(a)), read("pb", u(b)), read("pc", u(c)), write("y", y), i32("n", n)], grid=2, block=96,
        exercises="32- and 16-bit arithmetic: high products, division, clamped and funnel shifts, saturation, carries, sad, dp4a, "
                  "dp2a, mul24, slct, set, byte and half-word SIMD")


def bfe(a, pos, length, bits, signed):
    pos, length = pos & 255, length & 255
    value = a >> pos & (1 << length) - 1 if length else 0
    if not signed:
        return value
    top = min(pos + length - 1, bits - 1)
    if length == 0:
        return 0
    if a >> top & 1:
        width = max(min(length, bits - pos), 0)
        value |= M64 << width
    return value


def bfi(a, b, pos, length, bits):
    field = ((1 << length) - 1) << pos & (1 << bits) - 1
    return b & ~field | a << pos & field


def prmt(a, b, select):
    source = lanes(a, 8) + lanes(b, 8)
    out = []
    for k in range(4):
        nibble = select >> 4 * k & 15
        v = source[nibble & 7]
        out.append((0xFF if v & 0x80 else 0) if nibble & 8 else v)
    return join(out, 8)


# For each selector, the source of the bytes 3, 2, 1, 0.
PRMT_MODES = {
    "f4e": [(3, 2, 1, 0), (4, 3, 2, 1), (5, 4, 3, 2), (6, 5, 4, 3)],
    "b4e": [(5, 6, 7, 0), (6, 7, 0, 1), (7, 0, 1, 2), (0, 1, 2, 3)],
    "rc8": [(0, 0, 0, 0), (1, 1, 1, 1), (2, 2, 2, 2), (3, 3, 3, 3)],
    "ecl": [(3, 2, 1, 0), (3, 2, 1, 1), (3, 2, 2, 2), (3, 3, 3, 3)],
    "ecr": [(0, 0, 0, 0), (1, 1, 1, 0), (2, 2, 1, 0), (3, 2, 1, 0)],
    "rc16": [(1, 0, 1, 0), (3, 2, 3, 2), (1, 0, 1, 0), (3, 2, 3, 2)],
}


def prmt_mode(a, b, c, mode):
    source = lanes(a, 8) + lanes(b, 8)
    return join([source[k] for k in reversed(PRMT_MODES[mode][c & 3])], 8)


def find_set(mask, base, offset):
    """fns: the position of the n-th set bit from `base`, upwards or downwards."""
    if offset == 0:
        return base if mask >> base & 1 else M32
    step, count, at = (1, offset, base) if offset > 0 else (-1, -offset, base)
    while 0 <= at < 32:
        if mask >> at & 1:
            count -= 1
            if count == 0:
                return at
        at += step
    return M32


def bit_rows(a, b, c, w):
    sa = s(a)
    top = lambda v: v.bit_length() - 1
    first = lambda v: (v & -v).bit_length()
    pos, length = b & 63, c & 63
    yield a.bit_count()
    yield 32 - a.bit_length()
    yield int(f"{a:032b}"[::-1], 2)
    yield first(a)
    yield top(a)
    magnitude = ~sa if sa < 0 else sa
    yield top(magnitude)
    yield 31 - top(a) if a else M32
    yield 31 - top(magnitude) if magnitude else M32
    yield bfe(a, pos, length, 32, False)
    yield bfe(a, pos, length, 32, True)
    yield bfi(a, b, pos, length, 32)
    yield prmt(a, b, c)
    for mode in PRMT_MODES:
        yield prmt_mode(a, b, c, mode)
    yield a & b | a & c | b & c
    # 0x1b: bit k of the table answers for a = bit 2, b = bit 1, c = bit 0 of k.
    yield sum((0x1B >> ((a >> k & 1) << 2 | (b >> k & 1) << 1 | c >> k & 1) & 1) << k for k in range(32))
    yield a & b | ~a & c
    yield find_set(a, b & 31, c % 9 - 4)
    yield 0 if pos > 31 else ((1 << min(length, 32)) - 1) << pos
    yield ((1 << (c & 31)) - 1) << (b & 31)
    by = c & 63
    yield a if by >= 32 else 0 if by == 0 else s(a, by)
    yield a & (1 << (c & 31)) - 1
    yield prmt(a, b, 0x3715)
    yield w.bit_count()
    yield 64 - w.bit_length()
    yield first(w)
    yield 3 if a & 1 else 4


def wide_bit_rows(b, c, w):
    yield int(f"{w:064b}"[::-1], 2)
    yield bfe(w, b & 127, c & 127, 64, False)
    yield bfe(w, b & 63, c & 63, 64, True)
    yield bfi(w, (~w * 3) & M64, b & 127, c & 127, 64)
    yield w << (b & 127) if b & 127 < 64 else 0
    yield s(w, 64) >> min(b & 127, 63)


@PROGRAMS
def bits():
    n = 160
    a, b, c = operands("bits", n)
    w = [int(v) for v in rng("bits64").integers(0, 2 ** 64, n, dtype=np.uint64) >> rng("s").integers(0, 60, n, dtype=np.uint64)]
    w[:4] = [0, 1, M64, 1 << 63]
    y = table([list(bit_rows(*v)) for v in zip(a, b, c, w)], M32, np.uint32)
    z = table([list(wide_bit_rows(*v)) for v in zip(b, c, w)], M64, np.uint64)
    u = lambda v: np.array(v, np.uint32)
    yield from from_nvcc("bits", [
        read("pa", u(a)), read("pb", u(b)), read("pc", u(c)), read("pw", np.array(w, np.uint64)), write("y", y), write("z", z),
        i32("n", n)], grid=2, block=96,
        exercises="popc, clz, brev, bfind, bfe, bfi, prmt in all modes, lop3, fns, bmsk, szext, 64-bit fields and shifts")


def wide_rows(a, b):
    sa, sb = s(a, 64), s(b, 64)
    yield a * b
    yield a * b >> 64
    yield sa * sb >> 64
    yield a // b if b else 0
    yield a % b if b else 0
    q, r = divide(sa, sb) if b and sb != -1 else (0, 0)
    yield q
    yield r
    m128 = 2 ** 128 - 1
    p = a * b + (b << 64 | a) & m128
    yield p
    yield p >> 64
    m = p - (1 << 127) - a & m128
    yield m >> 3
    yield m >> 101
    yield (m << 77 & m128) >> 64
    yield pow(a % M32, b & 0xFFFF, M32)
    yield s(a) * s(b) + sa
    yield (a & M32) * (b & M32) + b
    yield abs(sa)
    yield min(sa, sb) ^ max(a, b)
    yield abs(sa - sb) + sa
    yield (sa * sb >> 64) + sb
    yield (a & M32) << 32 | a >> 32
    t = a + b
    yield (t & M64) ^ ((a + (t >> 64)) & M64) * 3


@PROGRAMS
def wide():
    n = 96
    random = rng("wide")
    spread = lambda: [int(v) for v in random.integers(0, 2 ** 64, n, dtype=np.uint64) >> random.integers(0, 64, n, dtype=np.uint64)]
    a, b = spread(), spread()
    edges = [0, 1, M32, 1 << 32, (1 << 63) - 1, 1 << 63, M64]
    a[:49], b[:49] = [x for x in edges for _ in edges], [y for _ in edges for y in edges]
    y = table([list(wide_rows(*v)) for v in zip(a, b)], M64, np.uint64)
    yield from from_nvcc("wide", [
        read("pa", np.array(a, np.uint64)), read("pb", np.array(b, np.uint64)), write("y", y), i32("n", n)], grid=1, block=96,
        exercises="64-bit products and divisions, 128-bit sums and shifts, modular powers, carries of 64 bits")


@PROGRAMS
def sha256():
    random = rng("sha256")
    blocks, digests = [], []
    for k in range(64):
        text = random.bytes(int(random.integers(0, 56)))
        blocks.append(text + b"\x80" + b"\0" * (55 - len(text)) + (len(text) * 8).to_bytes(8, "big"))
        digests.append(hashlib.sha256(text).digest())
    as_words = lambda chunks: np.frombuffer(b"".join(chunks), np.uint32)
    yield from from_nvcc("sha256", [read("messages", as_words(blocks)), write("digests", as_words(digests))], grid=2, block=32,
                         exercises="SHA-256 against hashlib: rotations, lop3, constant table, local array")
