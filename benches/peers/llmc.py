"""llm.c's CPU trainer: `llmc.py gpt2 llm.c THREADS DIR`, where DIR holds its `train_gpt2`.

Writes a random checkpoint and tokens in llm.c's formats into DIR, starts the program, and reads the
times that it prints. Between rounds the program is stopped (SIGSTOP)."""
import json, os, re, signal, subprocess, sys

import numpy as np

LAYERS, HEADS, D, PLACES, VOCAB, PADDED, B, T = 12, 12, 768, 1024, 50257, 50304, 4, 64


def prepare(folder):
    rng = np.random.default_rng(0)
    header = np.zeros(256, np.int32)
    header[:8] = [20240326, 3, PLACES, VOCAB, LAYERS, HEADS, D, PADDED]
    shapes = [(PADDED, D), (PLACES, D), (LAYERS, D), (LAYERS, D), (LAYERS, 3 * D, D), (LAYERS, 3 * D), (LAYERS, D, D), (LAYERS, D),
              (LAYERS, D), (LAYERS, D), (LAYERS, 4 * D, D), (LAYERS, 4 * D), (LAYERS, D, 4 * D), (LAYERS, D), (D,), (D,)]
    gains = {2, 8, 14}
    with open(os.path.join(folder, "gpt2_124M.bin"), "wb") as file:
        header.tofile(file)
        for i, shape in enumerate(shapes):
            matrix = rng.standard_normal(shape, np.float32) * np.float32(0.02)
            (np.ones(shape, np.float32) if i in gains else matrix).tofile(file)
    tokens = rng.integers(0, VOCAB, 64 * B * T + 1).astype(np.uint16)
    header = np.zeros(256, np.int32)
    header[:3] = [20240520, 1, len(tokens)]
    data = os.path.join(folder, "dev/data/tinyshakespeare")
    os.makedirs(data, exist_ok=True)
    for part in ("train", "val"):
        with open(os.path.join(data, f"tiny_shakespeare_{part}.bin"), "wb") as file:
            header.tofile(file)
            tokens.tofile(file)


def main():
    folder = os.path.abspath(sys.argv[4])
    prepare(folder)
    process = subprocess.Popen(["./train_gpt2"], cwd=folder, stdout=subprocess.PIPE, text=True)
    process.send_signal(signal.SIGSTOP)
    for line in sys.stdin:
        process.send_signal(signal.SIGCONT)
        seconds = []
        for text in process.stdout:
            if found := re.match(r"step \d+: train loss [\d.]+ \(took ([\d.]+) ms\)", text):
                seconds.append(float(found[1]) / 1e3)
                if len(seconds) == int(line):
                    break
        process.send_signal(signal.SIGSTOP)
        with open(f"/proc/{process.pid}/status") as file:
            peak = int(re.search(r"VmHWM:\s+(\d+)", file.read())[1]) * 1024 / 1e6
        # The step in which it was stopped waited for us.
        print(json.dumps({"seconds": seconds[1:] or seconds, "peak_rss_mb": peak}), flush=True)
    process.kill()


main()
