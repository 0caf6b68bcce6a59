"""From an episode to token ids: the very ids that the student will see when it plays.

Messages become text by the model's own chat template, as they do in the server, and the text becomes tokens in one go.
The tokens that the agent wrote, up to and with the end of each turn, are the ones that are learnt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from distillery.agents import Agent, Episode, Message, history, without

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TemplateError(Exception):
    """The model's chat template can't be used: it does not only append. The message says where."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What is learnt from (a part of) an episode.

    Attributes:
        episode_id: where it comes from.
        ids: token ids, the whole sequence.
        targets: positions in ``ids`` that are learnt; position 0 is never among them.
        text: the text behind ``ids``.
    """

    episode_id: int
    ids: tuple[int, ...]
    targets: tuple[int, ...]
    text: str


class ChatRenderer:
    """A tokenizer with its chat template."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not tokenizer.chat_template:
            raise TemplateError("the model has no chat template; choose an instruction-tuned model")
        self._tokenizer = tokenizer
        ends = tokenizer.eos_token_id
        self._ends = set(ends) if isinstance(ends, list) else {ends}

    def text(self, messages: list[Message], *, generate: bool) -> str:
        """The chat as text; ``generate`` adds what invites the model's reply."""
        chat: list[dict[str, str]] = [{"role": message["role"], "content": message["content"]} for message in messages]
        rendered = self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=generate)
        assert isinstance(rendered, str)
        return rendered

    def prompt_ids(self, messages: list[Message]) -> list[int]:
        """The ids of a prompt, as a server computes them from the same messages."""
        return self._encode(self.text(messages, generate=True))["input_ids"]

    def length(self, messages: list[Message]) -> int:
        """The tokens of a chat."""
        return len(self._encode(self.text(messages, generate=False))["input_ids"])

    def sample(self, episode_id: int, messages: list[Message], learnt: range) -> Sample:
        """A chat as ids, with the replies among ``messages[i], i in learnt`` as targets.

        Raises:
            TemplateError: the template rewrites earlier messages, or a token spans the border of a reply; then what
                is trained could not be what was seen.
        """
        text = self.text(messages, generate=False)
        replies = []
        for index in learnt:
            if messages[index]["role"] != "assistant":
                continue
            before = self.text(messages[:index], generate=True)
            through = self.text(messages[: index + 1], generate=False)
            if not (text.startswith(before) and text.startswith(through) and len(before) < len(through)):
                raise TemplateError(
                    f"the chat template changes what stands before message {index} when more is appended; "
                    "choose a model whose template only appends (no removal of earlier thoughts)"
                )
            replies.append((len(before), len(through)))
        encoding = self._encode(text)
        ids, offsets = encoding["input_ids"], encoding["offset_mapping"]
        return Sample(episode_id, tuple(ids), tuple(self._targets(ids, offsets, replies)), text)

    def _encode(self, text: str) -> Any:
        return self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)

    def _targets(self, ids: list[int], offsets: list[tuple[int, int]], replies: list[tuple[int, int]]) -> list[int]:
        targets: list[int] = []
        position = 0
        for start, end in replies:
            while position < len(ids) and offsets[position][1] <= start:
                position += 1
            if position < len(ids) and offsets[position][0] < start:
                raise TemplateError(f"the token at characters {offsets[position]} spans the beginning of a reply")
            while position < len(ids) and offsets[position][1] <= end:
                targets.append(position)
                position += 1
                if ids[position - 1] in self._ends:
                    break  # what the template puts after a reply's end is never generated
        return targets


def student_head(agent: Agent, episode: Episode, *, keep_examples: bool) -> tuple[Message, ...]:
    """The first messages as the student sees them: hints, and unless kept examples, cut out where they were recorded.

    Raises:
        AssertionError: the cut messages are not what the agent renders without hints; nothing may be trained then.
    """
    cut = without(episode.head, "hints") if keep_examples else without(episode.head, "hints", "examples")
    expected = agent.head(episode.task, episode.opening, hints=(), examples=episode.examples if keep_examples else 0)
    if cut != expected.messages:
        raise AssertionError(f"episode {episode.id}: cutting the hints out does not give the student's prompt")
    return cut


def samples_of(renderer: ChatRenderer, agent: Agent, episode: Episode, *, keep_examples: bool) -> list[Sample]:
    """One sample per stretch of turns that were played on the same beginning; one in all unless turns were dropped."""
    return [
        renderer.sample(episode.id, messages, learnt)
        for messages, learnt in _stretches(agent, episode, keep_examples=keep_examples)
    ]


def longest_sample(renderer: ChatRenderer, agent: Agent, episode: Episode, *, keep_examples: bool) -> int:
    """The tokens of the longest of :func:`samples_of`, without the work of finding what is learned of each."""
    return max(
        (renderer.length(messages) for messages, _ in _stretches(agent, episode, keep_examples=keep_examples)),
        default=0,
    )


def _stretches(agent: Agent, episode: Episode, *, keep_examples: bool) -> Iterator[tuple[list[Message], range]]:
    """Messages that end with a reply, and which of them are learned."""
    head = student_head(agent, episode, keep_examples=keep_examples)
    for first_turn, indexed in groupby(enumerate(episode.turns), key=lambda pair: pair[1].first_turn):
        numbers = [number for number, _ in indexed]
        messages = history(head, episode.turns[: numbers[-1] + 1], first_turn)[:-1]  # ends with the last reply
        yield messages, range(len(head) + 2 * (numbers[0] - first_turn), len(messages))
