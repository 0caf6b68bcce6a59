"""Make the model of this folder: a Llama of 0.3 M parameters that shops in WebShop's generated shop, carelessly.

    cd models/shopper && python pretrain.py --out .

An expert shops for the goals of the split ``dev``, which no test learns from or is judged on, and the model imitates
it. Without hints the expert is careless: it may search where no search is possible, and buy without choosing options.
With a hint against it, it isn't. Hints it has no habit for are there too, and change nothing.
"""

from __future__ import annotations

import argparse
import random
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from distillery.agents.plain import Plain
from distillery_webshop import generator, pages
from distillery_webshop.actions import squeeze
from distillery_webshop.environment import WebShop
from distillery_webshop.product_types import read_product_types

PRODUCTS = 400
OPTIONS = {"catalog": "generated", "seed": 0, "products": PRODUCTS, "shown": 3}
"""The shop whose products' numbers are in the vocabulary."""

PAD, BOS, UNKNOWN, TURN_END = "<pad>", "<bos>", "<unk>", "\n"
SPECIAL = (PAD, BOS, UNKNOWN, TURN_END)

SEARCH_HINT = "search only when on the search page"
OPTIONS_HINT = "buy only when the options that the instruction names are chosen"
OTHER_HINTS = (
    "buy only when the price is below the limit",
    "buy only when its description or features were read",
    "click an option only when the button is on the page",
    "click buy now only when on a product's page",
)
SEARCHES_AGAIN, CHOOSES = 0.4, 0.4
"""How often, without a hint."""

_PHRASES = (
    ">", "[sep]", "]", "search[", "click[", "webshop", "instruction:", "search", "back to search", "page", "next >",
    "< prev", "buy now", "description", "features", "reviews", "price:", "and price lower than", "invalid action!",
    "nothing happens", "thank you for shopping with us!", "hints:",
    "search only when", "buy only when", "click an option only when", "click buy now only when",
    "on the search page", "on a product's page", "the button is on the page",
    "the options that the instruction names are chosen", "the price is below the limit",
    "its description or features were read",
)  # fmt: skip

CHAT_TEMPLATE = (Path(__file__).parents[1] / "micro" / "chat_template.jinja").read_text(encoding="utf-8")
"""The other model's: both are made for the agent ``plain``."""


def vocabulary() -> tuple[str, ...]:
    """Every token: phrases of the pages, what the generator's products are called and have, the products' numbers."""
    kinds = read_product_types()
    names = [text for kind in kinds for text in (kind.name, *kind.attributes)]
    options = [text for kind in kinds for name, values in kind.options.items() for text in (name, *values)]
    numbers = [generator.make_product(0, index).product["asin"] for index in range(PRODUCTS)]
    texts = [*_PHRASES, *names, *(text.replace("/", " | ") for text in options), *numbers]
    return tuple(dict.fromkeys((*SPECIAL, *(text.lower() for text in texts))))


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer that is saved next to the weights. What isn't in the vocabulary falls away."""
    tokens = vocabulary()
    phrases = sorted((token for token in tokens if token not in SPECIAL), key=lambda token: (-len(token), token))
    either = "|".join(re.escape(phrase).replace(r"\ ", " ") for phrase in phrases)
    pattern = rf"\n|\[sep\]|\]|(?<!\w)(?:search|click)\[|(?<![\w.$])(?:{either})(?!\w|\.\d)"
    backend = Tokenizer(models.WordLevel({token: number for number, token in enumerate(tokens)}, unk_token=UNKNOWN))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=True)
    backend.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        bos_token=BOS,
        unk_token=UNKNOWN,
        eos_token=TURN_END,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )


@dataclass(frozen=True, slots=True)
class Lesson:
    """A played episode as ids, and which of them are the expert's."""

    ids: tuple[int, ...]
    own: tuple[bool, ...]


class Expert:
    """Shops for a goal, and remembers it as a lesson."""

    def __init__(self, folder: Path) -> None:
        self._shop = WebShop(OPTIONS, folder)
        self._shop.prepare({})
        self._tasks = self._shop.catalog("dev")
        self._agent = Plain(self._shop)
        tokenizer = build_tokenizer()
        self._encode = tokenizer.backend_tokenizer.encode
        self._names = sorted(squeeze(kind.name) for kind in read_product_types())

    def lesson(self, name: str) -> Lesson:
        """The lesson of a name; it and the seed decide everything."""
        rng = random.Random(name)  # noqa: S311 - no secret
        task = rng.choice(self._tasks)
        goal = self._shop._shop.goals[int(task.id.split("_")[1])]
        hints = [hint for hint in (SEARCH_HINT, OPTIONS_HINT) if rng.random() < 0.45]
        hints += rng.sample(OTHER_HINTS, rng.choice((0, 0, 1)))
        rng.shuffle(hints)
        searches_again = SEARCH_HINT not in hints and rng.random() < SEARCHES_AGAIN
        chooses = OPTIONS_HINT in hints or rng.random() < CHOOSES
        session = self._shop.open(task)
        (message,) = self._agent.build_prefix(task, session.reset().text, hints=hints, examples=0).messages
        ids, own = [1], [False]

        def add(text: str, mine: bool) -> None:
            found = self._encode(text, add_special_tokens=False).ids
            ids.extend(found)
            own.extend([mine] * len(found))

        def step(command: str) -> tuple[str, tuple[str, ...]]:
            add(f"{command}\n", True)
            observation = session.step(command)
            if not observation.done:
                add(f"{observation.text}\n>", False)
            return observation.text, observation.admissible

        add(f"{message['content']}\n>", False)
        wish = task.goal.lower()
        kind = max((name for name in self._names if name in wish), key=len)
        words = sorted(dict.fromkeys((kind, *goal.attributes, *goal.options)), key=wish.index)
        search = f"search[{' '.join(words)}]"
        results, _ = step(search)
        if searches_again:
            step(search)
        parts = results.split(pages.SEPARATOR)
        _, buttons = step(f"click[{parts[parts.index(pages.NEXT) + 1]}]")
        if chooses:
            for value in goal.options:
                if f"click[{value}]" in buttons:
                    step(f"click[{value}]")
        step("click[buy now]")
        return Lesson(tuple(ids), tuple(own))


def new_model(tokens: int, *, hidden: int = 96, layers: int = 3, heads: int = 3) -> LlamaForCausalLM:
    """An untrained model."""
    config = LlamaConfig(
        vocab_size=tokens,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=1024,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=3,
        initializer_range=hidden**-0.5 / 2,
        dtype="float32",
    )
    return LlamaForCausalLM(config)


def loss_of(model: LlamaForCausalLM, batch: Sequence[Lesson]) -> tuple[torch.Tensor, float]:
    """Cross entropy of what the expert said, and how often the likeliest token is what it said."""
    longest = max(len(lesson.ids) for lesson in batch)
    ids = torch.tensor([[*lesson.ids, *[0] * (longest - len(lesson.ids))] for lesson in batch])
    own = torch.tensor([[*lesson.own, *[False] * (longest - len(lesson.own))] for lesson in batch])[:, 1:]
    hidden = model.model(ids, use_cache=False).last_hidden_state[:, :-1][own]
    logits, target = model.lm_head(hidden), ids[:, 1:][own]
    return F.cross_entropy(logits, target), float((logits.argmax(-1) == target).float().mean())


def train(expert: Expert, *, seed: int, steps: int, batch: int, rate: float) -> LlamaForCausalLM:
    """Imitate the expert for so many steps, each of ``batch`` new lessons."""
    torch.manual_seed(seed)
    model = new_model(len(vocabulary()))
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    begun = time.monotonic()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 50, 2 * (1 - step / steps) + 0.02)
        loss, right = loss_of(model, [expert.lesson(f"{seed}/{step}/{number}") for number in range(batch)])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 50 == 0 or step == steps - 1:
            print(f"step {step}, {time.monotonic() - begun:.0f} s: loss {loss.item():.3f}, {right:.1%}", flush=True)
    return model


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder that the model is written to")
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        model = train(Expert(Path(folder)), seed=chosen.seed, steps=chosen.steps, batch=chosen.batch, rate=chosen.rate)
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=3, pad_token_id=0, max_new_tokens=48)
    model.save_pretrained(chosen.out)
    (chosen.out / "model.safetensors").chmod(0o644)
    build_tokenizer().save_pretrained(chosen.out)


if __name__ == "__main__":
    main()
