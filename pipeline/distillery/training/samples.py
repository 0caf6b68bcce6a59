"""The samples of an episode as token ids: the very ids that the student will see when it plays.

Messages become text by the model's own chat template, as they do in the server, and the text becomes tokens in one go.
The tokens that the agent wrote, up to and with the token that ends the turn, are the ones that are learned. Where a
template asks for the date, it gets the same one here and in the servers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from distillery.agents import Agent, remove_spans
from distillery.core.contracts.messages import Message
from distillery.core.model_files import CHAT_TEMPLATE_ARGUMENTS
from distillery.episodes import Episode, build_history

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


_MARK = "xyzzy"  # stands in no template

_REWRITES = (
    "the chat template changes what stands before message {index} when more is appended; "
    "choose a model whose template only appends (no removal of earlier thoughts)"
)


class TemplateError(Exception):
    """A chat template that can't be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A training sample: an episode, or a part of one.

    Attributes:
        episode_id: the episode that it comes from.
        ids: token ids, the whole sequence.
        targets: positions in ``ids`` that are learned; position 0 is never among them.
        text: the text behind ``ids``.
    """

    episode_id: int
    ids: tuple[int, ...]
    targets: tuple[int, ...]
    text: str


class ChatRenderer:
    """A tokenizer with its chat template.

    Raises:
        TemplateError: there is no template, or it puts today's date into prompts.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not tokenizer.chat_template:
            raise TemplateError("the model has no chat template; choose an instruction-tuned model")
        self._tokenizer = tokenizer
        self._refuse_clock()
        self._end = self._find_end()

    def render_text(self, messages: list[Message], *, generate: bool, **arguments: Any) -> str:
        """Render the chat as text; ``generate`` adds what invites the model's reply."""
        chat: list[dict[str, Any]] = [{**message} for message in messages]  # a template may change what it gets
        rendered = self._tokenizer.apply_chat_template(
            chat, tokenize=False, add_generation_prompt=generate, **CHAT_TEMPLATE_ARGUMENTS, **arguments
        )
        assert isinstance(rendered, str)
        return rendered

    def _refuse_clock(self) -> None:
        probe: list[Message] = [{"role": "user", "content": "a"}]
        if _MARK in self.render_text(probe, generate=True, strftime_now=lambda _: _MARK):
            raise TemplateError(
                "the chat template puts today's date into every prompt, so a student would never see again what it "
                "was trained on; choose a model whose template writes no date, or takes it as date_string"
            )

    def _find_end(self) -> int | None:
        """Return the token that ends a reply, which need not be the tokenizer's eos; None if there is none.

        Gemma's is <end_of_turn>, Phi's <|end|>, Llama's <|eot_id|>.
        """
        chat: list[Message] = [{"role": "user", "content": "a"}, {"role": "assistant", "content": _MARK}]
        after = self.render_text(chat, generate=False).rpartition(_MARK)[2]
        special = {*self._tokenizer.all_special_ids, *self._tokenizer.added_tokens_decoder}
        return next((token for token in self._encode(after)["input_ids"] if token in special), None)

    def render_prompt(self, messages: list[Message]) -> list[int]:
        """Return the ids of a prompt, as a server computes them from the same messages."""
        return self._encode(self.render_text(messages, generate=True))["input_ids"]

    def count_tokens(self, messages: list[Message]) -> int:
        """Return the number of tokens of a chat."""
        return len(self._encode(self.render_text(messages, generate=False))["input_ids"])

    def render_sample(self, episode_id: int, messages: list[Message], learned: Collection[int]) -> Sample:
        """Render a chat as ids, with the replies among ``messages[i], i in learned`` as targets.

        Raises:
            TemplateError: the template rewrites earlier messages, or a token spans the border of a reply; then what
                is trained could not be what was seen.
        """
        text = self.render_text(messages, generate=False)
        replies = []
        for index in learned:
            if messages[index]["role"] != "assistant":
                continue
            before = self.render_text(messages[:index], generate=True)
            through = self.render_text(messages[: index + 1], generate=False)
            # some templates end a chat with a token of its own (Phi's <|endoftext|>): it never follows a reply
            same = _measure_shared_beginning(text, through)
            if not text.startswith(before) or same <= len(before) or (self._end is None and same < len(through)):
                raise TemplateError(_REWRITES.format(index=index))
            replies.append((index, len(before), same))
        encoding = self._encode(text)
        ids, offsets = encoding["input_ids"], encoding["offset_mapping"]
        return Sample(episode_id, tuple(ids), tuple(self._find_targets(ids, offsets, replies)), text)

    def _encode(self, text: str) -> Any:
        return self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)

    def _find_targets(
        self, ids: list[int], offsets: list[tuple[int, int]], replies: list[tuple[int, int, int]]
    ) -> list[int]:
        """Return the positions of the replies, each given by its message and its first and last character."""
        targets: list[int] = []
        position = 0
        for index, start, end in replies:
            while position < len(ids) and offsets[position][1] <= start:
                position += 1
            if position < len(ids) and offsets[position][0] < start:
                raise TemplateError(f"the token at characters {offsets[position]} spans the beginning of a reply")
            while position < len(ids) and offsets[position][1] <= end:
                targets.append(position)
                position += 1
                if ids[position - 1] == self._end:
                    break  # what the template puts after a reply's end is never generated
            else:
                if self._end is not None:
                    raise TemplateError(_REWRITES.format(index=index))
        return targets


def _measure_shared_beginning(one: str, other: str) -> int:
    """Return the length of what both texts begin with."""
    if one.startswith(other):
        return len(other)
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def check_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that a chat of two replies can be learned from.

    Raises:
        TemplateError: it can't.
    """
    chat: list[Message] = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "d"},
    ]
    ChatRenderer(tokenizer).render_sample(0, chat, range(4))


def build_student_prefix(agent: Agent, episode: Episode, *, keep_examples: bool) -> tuple[Message, ...]:
    """Return the first messages as the student sees them, without recorded hints and, unless kept, examples.

    Raises:
        AssertionError: the cut messages are not what the agent renders without hints; nothing may be trained then.
    """
    cut = (
        remove_spans(episode.prompt_prefix, "hints")
        if keep_examples
        else remove_spans(episode.prompt_prefix, "hints", "examples")
    )
    expected = agent.build_prefix(
        episode.task, episode.initial_observation, hints=(), examples=episode.examples if keep_examples else 0
    )
    if cut != expected.messages:
        raise AssertionError(f"episode {episode.id}: cutting the hints out does not give the student's prompt")
    return cut


def build_samples(renderer: ChatRenderer, agent: Agent, episode: Episode, *, keep_examples: bool) -> list[Sample]:
    """Return one sample per stretch of turns that were played on the same beginning; one unless turns were dropped."""
    return [
        renderer.render_sample(episode.id, messages, learned)
        for messages, learned in _find_stretches(agent, episode, keep_examples=keep_examples)
    ]


def count_longest_sample(renderer: ChatRenderer, agent: Agent, episode: Episode, *, keep_examples: bool) -> int:
    """Count the tokens of the longest of :func:`build_samples`, without the work of finding what is learned of each."""
    return max(
        (
            renderer.count_tokens(messages)
            for messages, _ in _find_stretches(agent, episode, keep_examples=keep_examples)
        ),
        default=0,
    )


def _find_stretches(
    agent: Agent, episode: Episode, *, keep_examples: bool
) -> Iterator[tuple[list[Message], list[int]]]:
    """Yield messages that end with a reply, and which of them are learned."""
    prefix = build_student_prefix(agent, episode, keep_examples=keep_examples)
    for first_turn, indexed in groupby(enumerate(episode.turns), key=lambda pair: pair[1].first_turn):
        numbers = [number for number, _ in indexed]
        messages = build_history(prefix, episode.turns[: numbers[-1] + 1], first_turn)[:-1]  # ends with the last reply
        # a reply that the server cut is history: learned, it would teach to stop in the middle
        learned = [len(prefix) + 2 * (number - first_turn) for number in numbers if not episode.turns[number].cut]
        if learned:
            yield messages, learned
