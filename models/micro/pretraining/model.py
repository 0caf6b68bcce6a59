"""Architecture and initialization: a plain Llama, small, with two look-back heads given at the start.

Everything the task needs is a chain of look-ups ("which number stands behind the kind that I seek, in the last
observation?"), and each starts from knowing the token before. Heads that attend one and two tokens back take a small
model most of its training to find by itself; here the first layer begins with them.
"""

import math

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from .vocabulary import BOS, ID, PAD, TOKENS, TURN_END

CONSTANT = 4.0
"""Value of the first embedding coordinate, the same for every token: what position-only heads read."""
SHARPNESS = 8.0
FAST_PAIRS = 6
"""Rotary pairs that the look-back heads read: these tell neighbors apart. The slower ones would only add to every
score alike, and so let the size of a token count for more than its place."""
MAX_POSITIONS = 2048
ROTARY_BASE = 10_000.0


def new_model(
    seed: int, *, hidden: int = 128, layers: int = 6, heads: int = 4, feed_forward: int = 256
) -> LlamaForCausalLM:
    """An untrained model; embedding and output head are one matrix.

    Embeddings have unit variance and the final norm's weights start at ``1 / sqrt(hidden)``, so that the tied head
    begins with logits of unit scale without any factor a plain Llama lacks.
    """
    config = LlamaConfig(
        vocab_size=len(TOKENS),
        hidden_size=hidden,
        intermediate_size=feed_forward,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=MAX_POSITIONS,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": ROTARY_BASE},
        tie_word_embeddings=True,
        pad_token_id=ID[PAD],
        bos_token_id=ID[BOS],
        eos_token_id=ID[TURN_END],
        dtype="float32",
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    model.set_attn_implementation("eager")  # the fastest there is for short sequences in bfloat16 on CPU
    _initialize(model)
    return model


@torch.no_grad()
def _initialize(model: LlamaForCausalLM) -> None:
    hidden, layers = model.config.hidden_size, model.config.num_hidden_layers
    for name, weight in model.named_parameters():
        if "_proj" in name:
            into_residual = name.endswith(("o_proj.weight", "down_proj.weight"))
            weight.normal_(std=hidden**-0.5 * ((2 * layers) ** -0.5 if into_residual else 1.0))
    model.model.norm.weight.fill_(hidden**-0.5)
    embedding = model.model.embed_tokens.weight
    embedding.normal_()
    embedding[:, 0] = 0.0
    embedding *= math.sqrt(hidden - 1) / embedding.norm(dim=1, keepdim=True)
    embedding[:, 0] = CONSTANT
    _give_look_back_heads(model)


def _give_look_back_heads(model: LlamaForCausalLM) -> None:
    """Let the first layer's heads attend to the token before (first half) and the one before that (second half).

    All tokens share the first embedding coordinate and the length, so queries and keys read from that coordinate are
    the same everywhere. Rotary embedding turns a pair of coordinates by position x frequency, hence the score of such a
    query and key depends on their distance only: with q = (1, 0) and k = (cos(n f), sin(n f)) in each pair of
    frequency f it is the sum of cos(f (distance - n)), which peaks at distance n.
    """
    config = model.config
    size = config.hidden_size // config.num_attention_heads
    rms = model.model.embed_tokens.weight.pow(2).mean(-1).sqrt()[0].item()
    gain = SHARPNESS / (CONSTANT / rms)
    frequencies = ROTARY_BASE ** -(torch.arange(0, size, 2) / size)
    used = (torch.arange(size // 2) < FAST_PAIRS).float()
    weights = dict(model.named_parameters())
    query, key, value, output = (weights[f"model.layers.0.self_attn.{name}_proj.weight"] for name in "qkvo")
    for weight in (query, key):
        weight.normal_(std=0.003)
    for head in range(config.num_attention_heads):
        distance = 1 if head < math.ceil(config.num_attention_heads / 2) else 2
        rows = slice(head * size, (head + 1) * size)
        angles = distance * frequencies
        query[rows, 0] += gain * torch.cat([used, torch.zeros_like(used)])
        key[rows, 0] += gain * torch.cat([used * angles.cos(), used * angles.sin()])
    torch.nn.init.orthogonal_(value)
    torch.nn.init.orthogonal_(output)
