"""The closed vocabulary, its tokenizer and the chat template.

The game speaks in fixed phrases about some hundred kinds of things, so one token per kind and one per phrase cover it.
The kinds come from the ``alfworld`` package (every kind the household simulator knows), not from any set of games, so
that no game can hold a word the model cannot read. Function words and punctuation carry nothing and get no token.

``demonstrations`` encodes with the very tokenizer that is shipped next to the weights: there is only this one.
"""

import re
from functools import lru_cache

from alfworld.gen import constants
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

PAD, BOS, UNKNOWN, TURN_END = "<pad>", "<bos>", "<unk>", "\n"
SPECIAL = (PAD, BOS, UNKNOWN, TURN_END)

RECEPTACLE_KINDS = tuple(
    sorted(kind.lower() for kind in set(constants.VAL_RECEPTACLE_OBJECTS) - set(constants.MOVABLE_RECEPTACLES))
)
"""Kinds of furniture and fittings, the places of a room (cup, plate and the like are objects in the text game)."""
OPENABLE_KINDS = tuple(kind for kind in RECEPTACLE_KINDS if kind in {k.lower() for k in constants.OPENABLE_CLASS_LIST})
OBJECT_KINDS = tuple(sorted({kind.lower() for kind in constants.OBJECTS} - set(RECEPTACLE_KINDS)))

VERBS = ("go to", "open", "close", "take", "move", "clean", "heat", "cool", "use", "examine", "look", "inventory")
"""First token of every command (grammar of ALFWorld >= 0.4). No thought holds one: a command starts at the first."""

PROMPT_PHRASES = (
    "You are in the middle of a room. Looking quickly around you, you see",
    "Your task is to:",
    "Hints:",
    "look for",
    "and put it in",
    "and put them in",
)
OBSERVATION_PHRASES = (
    "You arrive at",
    "You open",
    "You close",
    "You pick up",
    "You move",
    "You clean",
    "You heat",
    "You cool",
    "You turn on",
    "You turn off",
    "You are carrying:",
    "You are not carrying anything",
    "You are facing",
    "Next to it",
    "Nothing happens",
    "This is",
    "There's nothing special about",
    "is open. In it",
    "is closed",
    "you see",
    "nothing",
    "On",
    "from",
    "to",
    "using",
    "with",
)
WORDS = ("put", "find", "at", "it", "them", "in", "on", "off", "under", "two", "hot", "cold", "normal", "sliced", "is")
THOUGHT_WORDS = ("no", "has", "start")
PROMPT_MARK = ">"
NUMBERS = tuple(str(number) for number in range(1, 61))
DROPPED_WORDS = ("a", "an", "the", "The", "and", "some")

TOKENS = tuple(
    dict.fromkeys(
        SPECIAL
        + PROMPT_PHRASES
        + OBSERVATION_PHRASES
        + VERBS
        + WORDS
        + THOUGHT_WORDS
        + (PROMPT_MARK,)
        + NUMBERS
        + RECEPTACLE_KINDS
        + OBJECT_KINDS
    )
)
"""Every token; its index is its id."""

CHAT_TEMPLATE = (
    "{{- bos_token }}"
    "{%- for message in messages %}"
    "{%- if message['role'] == 'assistant' %}"
    "{{- ' ' }}{% generation %}{{ message['content'] + '\\n' }}{% endgeneration %}"
    "{%- else %}"
    "{{- message['content'] + '\\n>' }}"
    "{%- endif %}"
    "{%- endfor %}"
)
"""``<bos>``, then ``observation\\n>`` and `` thought command\\n`` in turn; a generation prompt adds nothing.

Append-only by construction: the text of k messages, and its tokens, are a prefix of those of k + 1.
"""


def _word_pattern() -> str:
    """Regular expression of what is a token; all else (blanks, commas, full stops, function words) falls away."""
    phrases = sorted((phrase for phrase in TOKENS if " " in phrase or ":" in phrase), key=len, reverse=True)
    either = "|".join(re.escape(phrase).replace(r"\ ", " ") for phrase in phrases)
    dropped = "|".join(DROPPED_WORDS)
    before, after = "(?<![A-Za-z])", "(?![A-Za-z])"
    return rf"{before}(?:{either}){after}|{before}(?!(?:{dropped}){after})[A-Za-z]+|\d+|[^\sA-Za-z\d,.]"


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer that is saved next to the weights, chat template included."""
    backend = Tokenizer(models.WordLevel({token: i for i, token in enumerate(TOKENS)}, unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(_word_pattern()), behavior="removed", invert=True)
    backend.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, TOKENS.index(BOS))]
    )
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


@lru_cache(maxsize=1)
def _backend() -> Tokenizer:
    return build_tokenizer().backend_tokenizer


@lru_cache(maxsize=1 << 16)
def encode(text: str) -> tuple[int, ...]:
    """Token ids of a piece of text, without a leading ``<bos>``."""
    return tuple(_backend().encode(text, add_special_tokens=False).ids)


ID = {token: i for i, token in enumerate(TOKENS)}
