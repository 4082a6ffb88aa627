"""JAX/XLA, the whole step jitted with donated state: `jax_trainer.py MODEL jax THREADS`."""
import sys

import jax
import jax.numpy as jnp
import numpy as np

from child import GPT2, LLAMA, serve

RNG = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(RNG.standard_normal(shape, np.float32) * np.float32(0.02))


def attention(q, k, v):
    return jax.nn.dot_product_attention(q, k, v, is_causal=True)


def cross_entropy(logits, targets):
    chosen = jnp.take_along_axis(logits, targets[..., None], -1)[..., 0]
    return jnp.mean(jax.nn.logsumexp(logits, -1) - chosen)


def llama(sizes):
    d, layers, heads, ffn, vocab, T, B = sizes
    half = d // heads // 2
    angle = np.arange(T)[:, None] * 10000.0 ** (-np.arange(half) / half)
    cos, sin = (jnp.asarray(f(angle)[None, :, None, :], jnp.float32) for f in (np.cos, np.sin))
    block = lambda: dict(n1=jnp.ones(d), n2=jnp.ones(d), q=normal(d, d), k=normal(d, d), v=normal(d, d), o=normal(d, d),
                         gate=normal(ffn, d), up=normal(ffn, d), down=normal(d, ffn))
    params = dict(embed=normal(vocab, d), head=normal(vocab, d), norm=jnp.ones(d), blocks=[block() for _ in range(layers)])
    rms = lambda x, w: x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-5) * w

    def rope(x):
        a, b = jnp.split(x, 2, -1)
        return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    def loss(p, tokens, targets):
        x = p["embed"][tokens]
        for w in p["blocks"]:
            h = rms(x, w["n1"])
            q, k, v = ((h @ w[n].T).reshape(B, T, heads, -1) for n in "qkv")
            x = x + attention(rope(q), rope(k), v).reshape(B, T, d) @ w["o"].T
            h = rms(x, w["n2"])
            x = x + (jax.nn.silu(h @ w["gate"].T) * (h @ w["up"].T)) @ w["down"].T
        return cross_entropy(rms(x, p["norm"]) @ p["head"].T, targets)

    return params, loss


def gpt2(sizes):
    d, layers, heads, ffn, vocab, T, B = sizes
    block = lambda: dict(g1=jnp.ones(d), b1=jnp.zeros(d), qkv=normal(3 * d, d), bqkv=jnp.zeros(3 * d), o=normal(d, d), bo=jnp.zeros(d),
                         g2=jnp.ones(d), b2=jnp.zeros(d), up=normal(ffn, d), bup=jnp.zeros(ffn), down=normal(d, ffn), bdown=jnp.zeros(d))
    params = dict(embed=normal(vocab, d), place=normal(1024, d), g=jnp.ones(d), b=jnp.zeros(d), blocks=[block() for _ in range(layers)])

    def norm(x, g, b):
        x = x - jnp.mean(x, -1, keepdims=True)
        return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-5) * g + b

    def loss(p, tokens, targets):
        x = p["embed"][tokens] + p["place"][:T]
        for w in p["blocks"]:
            qkv = (norm(x, w["g1"], w["b1"]) @ w["qkv"].T + w["bqkv"]).reshape(B, T, 3, heads, -1)
            x = x + attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]).reshape(B, T, d) @ w["o"].T + w["bo"]
            x = x + jax.nn.gelu(norm(x, w["g2"], w["b2"]) @ w["up"].T + w["bup"]) @ w["down"].T + w["bdown"]
        return cross_entropy(norm(x, p["g"], p["b"]) @ p["embed"].T, targets)

    return params, loss


def trainer(loss_of):
    def train(p, m, v, t, tokens, targets):
        loss, g = jax.value_and_grad(loss_of)(p, tokens, targets)
        norm = jnp.sqrt(sum(jnp.sum(x * x) for x in jax.tree.leaves(g)))
        scale = jnp.minimum(1.0, 1.0 / (norm + 1e-6))
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * scale * g, m, g)
        v = jax.tree.map(lambda v, g: 0.95 * v + 0.05 * (scale * g) ** 2, v, g)

        def update(p, m, v):
            p = p * (1 - 3e-5) if p.ndim > 1 else p
            return p - 3e-4 * (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.95**t)) + 1e-8)

        return jax.tree.map(update, p, m, v), m, v, loss

    return jax.jit(train, donate_argnums=(0, 1, 2))


def main():
    name = sys.argv[1]
    sizes = GPT2 if name == "gpt2" else LLAMA[name]
    params, loss_of = (gpt2 if name == "gpt2" else llama)(sizes)
    vocab, T, B = sizes[4:]
    batch = RNG.integers(0, vocab, (B, T + 1)).astype(np.int32)
    tokens, targets = jnp.asarray(batch[:, :-1]), jnp.asarray(batch[:, 1:])
    train = trainer(loss_of)
    zeros = lambda: jax.tree.map(jnp.zeros_like, params)
    state = {"p": params, "m": zeros(), "v": zeros(), "t": 0}

    def step():
        state["t"] += 1
        p, m, v, loss = train(state["p"], state["m"], state["v"], jnp.float32(state["t"]), tokens, targets)
        state.update(p=p, m=m, v=v)
        loss.block_until_ready()
        jax.block_until_ready(p)

    serve(step)


main()
