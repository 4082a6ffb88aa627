"""PyTorch, eager or compiled: `torch_trainer.py MODEL torch-eager|torch-compile|torch-tuned THREADS`."""
import sys

import torch
import torch.nn.functional as F

from child import GPT2, LLAMA, serve


def normal(*shape):
    return (torch.randn(*shape) * 0.02).requires_grad_()


def filled(value, n):
    return torch.full((n,), value).requires_grad_()


class Llama:
    def __init__(self, sizes):
        self.d, layers, self.heads, ffn, self.vocab, self.T, self.B = sizes
        d = self.d
        self.embed, self.head, self.norm = normal(self.vocab, d), normal(self.vocab, d), filled(1.0, d)
        self.blocks = [
            dict(n1=filled(1.0, d), n2=filled(1.0, d), q=normal(d, d), k=normal(d, d), v=normal(d, d), o=normal(d, d),
                 gate=normal(ffn, d), up=normal(ffn, d), down=normal(d, ffn))
            for _ in range(layers)
        ]
        half = d // self.heads // 2
        angle = torch.arange(self.T)[:, None] * 10000.0 ** (-torch.arange(half) / half)
        self.cos, self.sin = angle.cos(), angle.sin()
        self.params = [self.embed, self.head, self.norm] + [p for b in self.blocks for p in b.values()]

    def split(self, y):
        return y.view(self.B, self.T, self.heads, -1).transpose(1, 2)

    def rope(self, y):
        a, b = y.chunk(2, -1)
        return torch.cat((a * self.cos - b * self.sin, b * self.cos + a * self.sin), -1)

    def loss(self, tokens, targets):
        rms = lambda x, w: F.rms_norm(x, (self.d,), w, 1e-5)
        x = self.embed[tokens]
        for w in self.blocks:
            h = rms(x, w["n1"])
            q, k, v = (self.split(F.linear(h, w[n])) for n in "qkv")
            a = F.scaled_dot_product_attention(self.rope(q), self.rope(k), v, is_causal=True)
            x = x + F.linear(a.transpose(1, 2).reshape(self.B, self.T, self.d), w["o"])
            h = rms(x, w["n2"])
            x = x + F.linear(F.silu(F.linear(h, w["gate"])) * F.linear(h, w["up"]), w["down"])
        logits = F.linear(rms(x, self.norm), self.head)
        return F.cross_entropy(logits.view(-1, self.vocab), targets.reshape(-1))


class Gpt2:
    def __init__(self, sizes):
        self.d, layers, self.heads, ffn, self.vocab, self.T, self.B = sizes
        d = self.d
        self.embed, self.place = normal(self.vocab, d), normal(1024, d)
        self.g, self.b = filled(1.0, d), filled(0.0, d)
        self.blocks = [
            dict(g1=filled(1.0, d), b1=filled(0.0, d), qkv=normal(3 * d, d), bqkv=filled(0.0, 3 * d), o=normal(d, d), bo=filled(0.0, d),
                 g2=filled(1.0, d), b2=filled(0.0, d), up=normal(ffn, d), bup=filled(0.0, ffn), down=normal(d, ffn), bdown=filled(0.0, d))
            for _ in range(layers)
        ]
        self.params = [self.embed, self.place, self.g, self.b] + [p for b in self.blocks for p in b.values()]

    def loss(self, tokens, targets):
        norm = lambda x, g, b: F.layer_norm(x, (self.d,), g, b)
        x = self.embed[tokens] + self.place[: self.T]
        for w in self.blocks:
            qkv = F.linear(norm(x, w["g1"], w["b1"]), w["qkv"], w["bqkv"])
            q, k, v = qkv.view(self.B, self.T, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + F.linear(a.transpose(1, 2).reshape(self.B, self.T, self.d), w["o"], w["bo"])
            h = F.gelu(F.linear(norm(x, w["g2"], w["b2"]), w["up"], w["bup"]), approximate="tanh")
            x = x + F.linear(h, w["down"], w["bdown"])
        logits = F.linear(norm(x, self.g, self.b), self.embed)
        return F.cross_entropy(logits.view(-1, self.vocab), targets.reshape(-1))


def main():
    name, how, threads = sys.argv[1:4]
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    model = Gpt2(GPT2) if name == "gpt2" else Llama(LLAMA[name])
    groups = [{"params": [p for p in model.params if p.dim() > 1], "weight_decay": 0.1},
              {"params": [p for p in model.params if p.dim() == 1], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=3e-4, betas=(0.9, 0.95), fused=True)
    batch = torch.randint(model.vocab, (model.B, model.T + 1))
    tokens, targets = batch[:, :-1].contiguous(), batch[:, 1:].contiguous()
    loss_of = model.loss if how == "torch-eager" else torch.compile(model.loss)

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(tokens, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.params, 1.0)
        optimizer.step()
        loss.item()

    serve(step)


main()
