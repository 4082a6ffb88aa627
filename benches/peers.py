#!/usr/bin/env python3
"""gigac beside PyTorch on the bench models: python3 benches/peers.py GIGAC [s m x v] [--rounds N] [--compile]

Needs `torch`. Both train the same LLaMA-style decoder (models/bench-*.giga) in f32 with AdamW and
clipping, on the same number of threads, in turns, so that a busy machine hurts both. Prints the
median step of each, and their ratio."""
import argparse, json, statistics, subprocess, sys, time
import torch
import torch.nn.functional as F

SIZES = {  # d, layers, heads, ffn, vocab, T, B
    "s": (256, 4, 4, 688, 4096, 256, 8),
    "m": (512, 8, 8, 1376, 8192, 512, 4),
    "x": (256, 4, 4, 688, 4096, 2048, 1),
    "v": (256, 2, 4, 688, 42000, 256, 8),
}


def rms(x, w):
    return F.rms_norm(x, (x.shape[-1],), w, 1e-5)


class Trainer:
    def __init__(self, size, compiled):
        self.d, self.layers, self.heads, ffn, self.vocab, self.T, self.B = SIZES[size]
        d, normal = self.d, lambda *s: (torch.randn(*s) * 0.02).requires_grad_()
        ones = lambda: torch.ones(d, requires_grad=True)
        self.embed, self.head, self.norm = normal(self.vocab, d), normal(self.vocab, d), ones()
        self.blocks = [
            dict(n1=ones(), n2=ones(), q=normal(d, d), k=normal(d, d), v=normal(d, d), o=normal(d, d),
                 gate=normal(ffn, d), up=normal(ffn, d), down=normal(d, ffn))
            for _ in range(self.layers)
        ]
        half = d // self.heads // 2
        angle = torch.arange(self.T)[:, None] * 10000.0 ** (-torch.arange(half) / half)
        self.cos, self.sin = angle.cos(), angle.sin()
        params = [self.embed, self.head, self.norm] + [p for b in self.blocks for p in b.values()]
        groups = [{"params": [p for p in params if p.dim() > 1], "weight_decay": 0.1},
                  {"params": [p for p in params if p.dim() == 1], "weight_decay": 0.0}]
        self.params, self.optimizer = params, torch.optim.AdamW(groups, lr=3e-4, betas=(0.9, 0.95))
        tokens = torch.randint(self.vocab, (self.B, self.T + 1))
        self.x, self.y = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
        self.loss = torch.compile(self.forward) if compiled else self.forward

    def forward(self):
        def heads(y):
            return y.view(self.B, self.T, self.heads, -1).transpose(1, 2)

        def rope(y):
            a, b = y.chunk(2, -1)
            return torch.cat((a * self.cos - b * self.sin, b * self.cos + a * self.sin), -1)

        x = self.embed[self.x]
        for w in self.blocks:
            h = rms(x, w["n1"])
            q, k, v = rope(heads(h @ w["q"].T)), rope(heads(h @ w["k"].T)), heads(h @ w["v"].T)
            a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + a.transpose(1, 2).reshape(self.B, self.T, self.d) @ w["o"].T
            h = rms(x, w["n2"])
            x = x + (F.silu(h @ w["gate"].T) * (h @ w["up"].T)) @ w["down"].T
        logits = rms(x, self.norm) @ self.head.T
        return F.cross_entropy(logits.view(-1, self.vocab), self.y.view(-1))

    def step(self):
        started = time.perf_counter()
        self.optimizer.zero_grad()
        loss = self.loss()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.params, 1.0)
        self.optimizer.step()
        loss.item()
        return time.perf_counter() - started


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("gigac")
    parser.add_argument("models", nargs="*")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="torch.compile instead of eager")
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    print(f"torch {torch.__version__}{' compiled' if a.compile else ' eager'}, {a.threads} threads, f32; medians of {a.rounds} x {a.steps} steps")
    print("| model | gigac s | GFLOP/s | torch s | gigac is faster by | gigac peak MB | compile s |")
    print("|---|---|---|---|---|---|---|")
    for name in a.models or list(SIZES):
        trainer = Trainer(name, a.compile)
        trainer.step(), trainer.step()
        ours, theirs, last = [], [], {}
        for _ in range(a.rounds):
            command = [a.gigac, "bench", f"models/bench-{name}.giga", "--steps", str(a.steps), "--threads", str(a.threads), "--json"]
            last = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            ours.append(last["median_step_s"])
            theirs += [trainer.step() for _ in range(a.steps)]
        o, t = statistics.median(ours), statistics.median(theirs)
        print(f"| {name} | {o:.3f} | {last['gflop_step'] / o:.0f} | {t:.3f} | {t / o:.2f}x | {last['peak_rss_mb']:.0f} | {last['compile_s']:.1f} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
