#!/usr/bin/env python3
"""Golden traces of architectures other than the shipped models: python3 tests/architectures/generate.py [NAME…]

Needs `torch`, `transformers` and `safetensors`. Each NAME.giga beside this file was written from docs/language.md;
here the same architecture is a tiny model of Hugging Face transformers, or a few lines of PyTorch where there is
none, trained in f32; its first gradients are those of a copy in f64, so that where they cancel the reference still has
digits. NAME/ gets its initial and final weights, first gradients, batches and trace, which
tests/end_to_end/architectures.rs follows. Weights are drawn far from their defaults (gains and biases too), so that nothing
is invisible by being 0 or 1. Adam's eps is 1e-6: tensors whose exact gradient is 0 (biases of keys) would
otherwise walk by rounding noise, in every implementation another way."""
import contextlib, copy, json, math, pathlib, sys
import torch, transformers as hf
import torch.nn.functional as F
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
STEPS, B, T, V = 10, 2, 12, 48
LR, BETAS, EPS, DECAY, CLIP = 3e-3, (0.9, 0.95), 1e-6, 0.1, 1.0
CASES = {}


def case(make):
    CASES[make.__name__] = make
    return make


def cross_entropy(logits, targets):
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), ignore_index=-100)


def next_token(model, x, y, columns):
    return cross_entropy(model(input_ids=x, use_cache=False).logits, y)


class Case:
    """A module, its loss, columns of data beside the tokens, and what its optimizer does differently."""

    def __init__(self, model, loss=next_token, columns=lambda *_: {}, rows=B, groups=None, rate=lambda s: 1.0,
                 frozen=(), distinct=False):
        self.model, self.loss, self.columns, self.rows = model, loss, columns, rows
        self.groups, self.rate, self.frozen, self.distinct = groups or self.by_shape, rate, frozen, distinct
        draw = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for name, p in model.named_parameters():
                noise = torch.randn(p.shape, generator=draw)
                p.copy_(0.1 * noise) if p.dim() > 1 else p.add_(0.1 * noise)
                p.requires_grad_(not any(f in name for f in frozen))

    def by_shape(self, name, p):
        return dict(lr=LR, weight_decay=DECAY if p.dim() > 1 else 0.0)

    def tokens(self, draw):
        if self.distinct:  # no token twice in a sample
            rows = [torch.randperm(V, generator=draw)[:T + 1] for _ in range(STEPS * self.rows)]
            return torch.stack(rows).view(STEPS, self.rows, T + 1)
        return torch.randint(V, (STEPS, self.rows, T + 1), generator=draw)


@contextlib.contextmanager
def f64_throughout():
    """Everything in f64, also what models pin to f32 (norms, angles, softmax)."""
    single, widen = torch.float32, torch.Tensor.float
    torch.set_default_dtype(torch.float64)
    torch.float32, torch.Tensor.float = torch.float64, torch.Tensor.double
    try:
        yield
    finally:
        torch.float32, torch.Tensor.float = single, widen
        torch.set_default_dtype(torch.float32)


def exact_gradients(case, *batch):
    """The gradients of a loss, computed in f64 and rounded once."""
    model = copy.deepcopy(case.model).double()
    if hasattr(model, "config"):
        model.config._experts_implementation = "eager"  # grouped products know no f64
    with f64_throughout():
        case.loss(model, *batch).backward()
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert all(p.dtype == torch.float64 for p in trained.values())
    return {n: torch.zeros_like(p).float() if p.grad is None else p.grad.float() for n, p in trained.items()}


def write(name, case):
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    params = dict(case.model.named_parameters())
    trained = {n: p for n, p in params.items() if p.requires_grad}
    save = lambda file, tensors: save_file({n: t.detach().clone().contiguous() for n, t in tensors.items()}, folder / file)
    save("init.safetensors", params)
    draw = torch.Generator().manual_seed(11)
    tokens = case.tokens(draw)
    columns = case.columns(tokens, draw)
    save("batches.safetensors", {"tokens": tokens.int(), **{n: c.int() for n, c in columns.items()}})
    optimizer = torch.optim.AdamW([dict(params=[p], **case.groups(n, p)) for n, p in trained.items()], betas=BETAS, eps=EPS)
    peaks, trace = [g["lr"] for g in optimizer.param_groups], []
    for step in range(STEPS):
        for group, peak in zip(optimizer.param_groups, peaks):
            group["lr"] = peak * case.rate(step)
        now = {n: c[step] for n, c in columns.items()}
        batch = tokens[step, :, :-1], now.get("targets", tokens[step, :, 1:]), now
        if step == 0:
            save("grads0.safetensors", exact_gradients(case, *batch))
        loss = case.loss(case.model, *batch)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained.values(), CLIP)
        optimizer.step()
        trace.append(dict(step=step, loss=loss.item(), grad_norm=norm.item(), lr=LR * case.rate(step)))
    save("final.safetensors", params)
    settings = dict(torch=torch.__version__, transformers=hf.__version__, trace=trace)
    (folder / "trace.json").write_text(json.dumps(settings, indent=1) + "\n")
    print(f"{name:12} {sum(p.numel() for p in params.values()):6} parameters, loss {trace[0]['loss']:.4f} to {trace[-1]['loss']:.4f}")


def build(kind, config, **settings):
    """A model of transformers; the settings that most decoders share are filled in."""
    common = dict(vocab_size=V, hidden_size=16, intermediate_size=20, num_hidden_layers=2, num_attention_heads=4,
                  num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=False)
    return plain(kind, config, **{**common, **settings})


def plain(kind, config, **settings):
    tokens = dict(bos_token_id=1, eos_token_id=2, pad_token_id=None, attn_implementation="eager")
    return kind(config(**tokens, **settings)).float().eval()


# Architectures of Hugging Face transformers.

@case
def gemma3():
    kinds = (["sliding_attention"] * 2 + ["full_attention"]) * 2
    return Case(build(hf.Gemma3ForCausalLM, hf.Gemma3TextConfig, num_hidden_layers=6, intermediate_size=12, head_dim=6, sliding_window=5,
                      query_pre_attn_scalar=7, tie_word_embeddings=True, layer_types=kinds, final_logit_softcapping=3.0))


@case
def gptj():
    return Case(plain(hf.GPTJForCausalLM, hf.GPTJConfig, vocab_size=V, n_positions=64, n_embd=16, n_layer=2, n_head=2,
                      rotary_dim=4, tie_word_embeddings=False))


@case
def falcon():
    return Case(plain(hf.FalconForCausalLM, hf.FalconConfig, vocab_size=V, hidden_size=16, num_hidden_layers=2,
                      num_attention_heads=4, num_kv_heads=2, bias=False, new_decoder_architecture=True, alibi=False,
                      tie_word_embeddings=False))


@case
def bloom():
    return Case(plain(hf.BloomForCausalLM, hf.BloomConfig, vocab_size=V, hidden_size=18, n_layer=2, n_head=6))


@case
def olmo2():
    return Case(build(hf.Olmo2ForCausalLM, hf.Olmo2Config))


@case
def bigcode():
    return Case(plain(hf.GPTBigCodeForCausalLM, hf.GPTBigCodeConfig, vocab_size=V, n_positions=20, n_embd=16, n_layer=2,
                      n_head=4, n_inner=24, multi_query=True))


@case
def mixtral():
    def loss(model, x, y, _):
        out = model(input_ids=x, use_cache=False, output_router_logits=True)
        return cross_entropy(out.logits, y) + 0.02 * out.aux_loss

    return Case(build(hf.MixtralForCausalLM, hf.MixtralConfig, num_local_experts=6, num_experts_per_tok=2,
                      sliding_window=None, intermediate_size=12), loss)


@case
def deepseek():
    return Case(build(hf.DeepseekV3ForCausalLM, hf.DeepseekV3Config, moe_intermediate_size=12, num_hidden_layers=3,
                      num_key_value_heads=4, n_shared_experts=1, n_routed_experts=8, routed_scaling_factor=2.5,
                      kv_lora_rank=8, q_lora_rank=10, qk_rope_head_dim=4, qk_nope_head_dim=6, v_head_dim=5, n_group=4,
                      topk_group=2, num_experts_per_tok=3, first_k_dense_replace=1, norm_topk_prob=True))


@case
def gptoss():
    return Case(build(hf.GptOssForCausalLM, hf.GptOssConfig, head_dim=4, num_local_experts=5, num_experts_per_tok=2,
                      sliding_window=5, intermediate_size=12, layer_types=["sliding_attention", "full_attention"],
                      rope_parameters=dict(rope_type="default", rope_theta=150000.0)))


@case
def t5():
    def loss(model, x, y, columns):
        return cross_entropy(model(input_ids=columns["source"], decoder_input_ids=x, use_cache=False).logits, y)

    model = plain(hf.T5ForConditionalGeneration, hf.T5Config, vocab_size=V, d_model=16, d_kv=4, d_ff=20, num_layers=2,
                  num_decoder_layers=2, num_heads=2, relative_attention_num_buckets=8, relative_attention_max_distance=10,
                  dropout_rate=0.0, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    return Case(model, loss, lambda _, draw: {"source": torch.randint(V, (STEPS, B, 9), generator=draw)})


@case
def yarn():
    rope = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=16)
    return Case(build(hf.LlamaForCausalLM, hf.LlamaConfig, head_dim=12, rope_parameters=rope))


@case
def diffllama():
    return Case(build(hf.DiffLlamaForCausalLM, hf.DiffLlamaConfig))


# Data and optimizers.

def mask(allowed):
    return torch.where(allowed, 0.0, torch.finfo(torch.float32).min)[:, None]


@case
def packed():
    """Supervised fine-tuning: documents side by side, positions that start again, prompts that do not count."""
    def columns(tokens, draw):
        starts = torch.rand((STEPS, B, T), generator=draw) < 0.2
        documents, places = starts.long().cumsum(-1), torch.zeros((STEPS, B, T), dtype=torch.long)
        for t in range(1, T):
            places[..., t] = torch.where(starts[..., t], 0, places[..., t - 1] + 1)
        targets = tokens[..., 1:].clone()
        targets[torch.rand(targets.shape, generator=draw) < 0.4] = -100
        return dict(documents=documents, places=places, targets=targets)

    def loss(model, x, y, columns):
        documents = columns["documents"]
        allowed = torch.ones(T, T).tril().bool() & (documents[:, :, None] == documents[:, None, :])
        logits = model(input_ids=x, attention_mask=mask(allowed), position_ids=columns["places"], use_cache=False).logits
        keep, z = y >= 0, torch.logsumexp(logits, -1)
        nll = z - logits.gather(-1, y.clamp(min=0)[..., None])[..., 0] + 1e-2 * z ** 2
        return (nll * keep).sum() / keep.sum()

    return Case(build(hf.LlamaForCausalLM, hf.LlamaConfig), loss, columns)


@case
def groups():
    """Rates, decays and frozen weights of their own; cosine with warm-up; three micro-batches of unequal weight."""
    def columns(tokens, draw):
        targets, share = tokens[..., 1:].clone(), torch.tensor([0.9, 0.9, 0.1, 0.2, 0.5, 0.0])[:, None]
        targets[torch.rand(targets.shape, generator=draw) < share] = -100
        return dict(targets=targets)

    def own(name, p):
        decay = {"norm": DECAY, "lm_head": 0.0, "down_proj": DECAY / 2}
        matched = [d for n, d in decay.items() if n in name] + [DECAY if p.dim() > 1 else 0.0]
        return dict(lr=LR / 4 if "self_attn" in name else LR, weight_decay=matched[0])

    def rate(step):
        wave = 0.5 * (1 + math.cos(math.pi * (step - 3) / (STEPS - 1 - 3)))
        return (step + 1) / 3 if step < 3 else 0.1 + 0.9 * wave

    return Case(build(hf.LlamaForCausalLM, hf.LlamaConfig), columns=columns, rows=6, groups=own, rate=rate,
                frozen=["embed_tokens"])


# A few lines of PyTorch.

class Sheet(torch.nn.Module):
    """Named tensors and a function of them."""

    def __init__(self, shapes, forward):
        super().__init__()
        self.tensors = {n: torch.nn.Parameter(torch.zeros(s) if len(s) > 1 else torch.ones(s)) for n, s in shapes.items()}
        self.call = forward

    def named_parameters(self, *_, **__):
        return self.tensors.items()

    def double(self):
        """`Module.double` knows only registered parameters."""
        self.tensors = {n: torch.nn.Parameter(p.detach().double(), p.requires_grad) for n, p in self.tensors.items()}
        return self


def sheet(shapes, logits, **more):
    def loss(model, x, y, _):
        result = logits(model.tensors, x)
        result, extra = result if isinstance(result, tuple) else (result, 0.0)
        return cross_entropy(result, y) + extra

    return Case(Sheet(shapes, logits), loss, **more)


def layers(count, shapes):
    return {f"l.{l}.{n}": s for l in range(count) for n, s in shapes.items()}


def rms(x, w, eps=1e-6):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * w


def attention(q, k, v, heads):
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)


@case
def choice():
    """Experts choose their tokens (arXiv:2202.09368), stored one by one."""
    d, f, experts, taken = 12, 10, 3, 4
    shapes = dict(router=(experts, d), n=(d,))
    for e in range(experts):
        shapes |= {f"experts.{e}.up": (f, d), f"experts.{e}.down": (d, f)}

    def logits(p, x):
        x = p["embed"][x]
        for l in range(2):
            h = rms(x, p[f"l.{l}.n"])
            shares = (h @ p[f"l.{l}.router"].T).softmax(-1)
            for e in range(experts):
                share, at = shares[..., e].topk(taken, -1)
                at = at[..., None].expand(-1, -1, d)
                u = F.silu(h.gather(1, at) @ p[f"l.{l}.experts.{e}.up"].T)
                x = x.scatter_add(1, at, share[..., None] * (u @ p[f"l.{l}.experts.{e}.down"].T))
        return x @ p["head"].T

    return sheet(dict(embed=(V, d), head=(V, d)) | layers(2, shapes), logits, distinct=True)


@case
def streams():
    """Several residual streams (arXiv:2409.19606), and values of the first layer shared with the others."""
    d, n = 12, 3
    shapes = dict(pre=(n,), post=(n,), mix=(n, n), q=(d, d), k=(d, d), v=(d, d), o=(d, d), n=(d,), share=(1,))

    def logits(p, x):
        x, first = p["embed"][x][:, :, None] * p["spread"], None
        for l in range(3):
            w = {name: p[f"l.{l}.{name}"] for name in shapes}
            h = rms((x * w["pre"][:, None]).sum(2), w["n"])
            v = h @ w["v"].T
            v, first = (v, v) if first is None else (v + w["share"] * first, first)
            y = attention(h @ w["q"].T, h @ w["k"].T, v, 3) @ w["o"].T
            x = torch.einsum("mn,btnd->btmd", w["mix"], x) + y[:, :, None] * w["post"][:, None]
        return x.sum(2) @ p["head"].T

    return sheet(dict(embed=(V, d), head=(V, d), spread=(n, d)) | layers(3, shapes), logits)


@case
def short_conv():
    """A gated causal convolution of four taps in place of attention."""
    d, taps = 12, 4
    shapes = {"conv.weight": (d, 1, taps), "conv.bias": (d,), "in": (2 * d, d), "out": (d, d)}

    def logits(p, x):
        x = p["embed"][x]
        for l in range(2):
            u, gate = (x @ p[f"l.{l}.in"].T).chunk(2, -1)
            padded = F.pad(u.transpose(1, 2), (taps - 1, 0))
            c = F.conv1d(padded, p[f"l.{l}.conv.weight"], p[f"l.{l}.conv.bias"], groups=d).transpose(1, 2)
            x = x + (F.silu(c) * torch.sigmoid(gate)) @ p[f"l.{l}.out"].T
        return x @ p["head"].T

    return sheet(dict(embed=(V, d), head=(V, d)) | layers(2, shapes), logits)


@case
def stored():
    """Layouts of stored tensors: parts in two dimensions, spread and stacked axes, names by choice; a shared layer."""
    d, f = 12, 10
    shapes = dict(embed=(V, d), both=(V + 5, d + 4), stack=(2, d, d), a_part=(f, d), b_part=(f, d), twice=(d, d))
    shapes |= {f"mid.{2 * e + 1}.w": (d, f) for e in range(3)} | {f"x.{l + 7}.g": (d,) for l in range(2)}

    def logits(p, x):
        x = p["embed"][x]
        for l in range(2):
            x = x + torch.tanh(x * p[f"x.{l + 7}.g"] @ p["stack"][l].T)
        for _ in range(2):
            x = x + torch.sin(torch.cat([x[:, :1], x[:, :-1]], 1) @ p["twice"].T)
        u = sum(torch.sin(x @ p[f"mid.{2 * e + 1}.w"]) for e in range(3))
        x = x + u @ p["a_part"] + torch.cos(u) @ p["b_part"]
        return x @ p["both"][:V, :d].T, (p["both"][V:, :d] ** 2).mean() + (p["both"][:, d:] ** 2).mean()

    return sheet(shapes, logits)


if __name__ == "__main__":
    hf.logging.set_verbosity_error()
    torch.set_num_threads(1)
    for name in sys.argv[1:] or CASES:
        torch.manual_seed(0)
        write(name, CASES[name]())
