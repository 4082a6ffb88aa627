#!/usr/bin/env python3
"""Bits per byte of the demo's held-out text by `xz -9` and by an order-3 byte model: python3 benches/text_baselines.py

The split is the trainer's: the last 5 % of each file, cut at a character. xz is given both ways: the
held-out text alone, and what it adds to the compressed training text. The order-3 model is trained on
the training text and mixes orders 3 to 0 by Witten-Bell."""
import collections, lzma, math, pathlib

folder = pathlib.Path(__file__).parent.parent / "examples" / "corpus"
train, held = b"", b""
for path in sorted(folder.glob("*.txt")):
    text = path.read_bytes()
    cut = len(text) - len(text) * 5 // 100
    while text[cut] & 0xC0 == 0x80:
        cut += 1
    train, held = train + text[:cut], held + text[cut:]


def size(text):
    return len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))


counts = [collections.defaultdict(collections.Counter) for _ in range(4)]
for order, table in enumerate(counts):
    for i in range(order, len(train)):
        table[train[i - order:i]][train[i]] += 1
sums = [{c: (sum(f.values()), len(f)) for c, f in table.items()} for table in counts]


def probability(context, byte):
    p = 1 / 256
    for order in range(4):
        c = context[len(context) - order:]
        if c in sums[order]:
            total, kinds = sums[order][c]
            p = (counts[order][c][byte] + kinds * p) / (total + kinds)
    return p


bits = -sum(math.log2(probability(held[max(0, i - 3):i], held[i])) for i in range(len(held)))
print(f"held-out bytes        {len(held)}")
print(f"xz -9e, alone         {8 * size(held) / len(held):.3f} bits per byte")
print(f"xz -9e, after training text {8 * (size(train + held) - size(train)) / len(held):.3f}")
print(f"order-3 byte model    {bits / len(held):.3f}")
