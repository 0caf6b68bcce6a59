"""Training ids are the prompt's ids, and exactly the agent's own tokens are learnt."""

from __future__ import annotations

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from distillery.agents import Message, history
from distillery.agents.plain import Plain
from distillery.agents.react import ReAct
from distillery.training.samples import ChatRenderer, TemplateError, longest_sample, samples_of, student_head
from tests.unit.fakes import FakeEnvironment, episode, task, turn

OPENING = "You see a shelf 1 and a desk 1.\nYour task is to: put mug 1 in shelf."

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Drops what was said in earlier replies before a mark, as templates of reasoning models do.
FORGETFUL = CHATML.replace("{{ m.content }}", "{{ m.content if loop.last else m.content.split('!')[-1] }}")


def tokenizer(template: str) -> PreTrainedTokenizerFast:
    """Every character a token, but for the control tokens of ChatML."""
    marks = ["<|im_start|>", "<|im_end|>"]
    vocabulary = {token: number for number, token in enumerate([*marks, "<unk>", *map(chr, range(10, 127))])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    made = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|im_end|>", unk_token="<unk>", additional_special_tokens=marks
    )
    made.chat_template = template
    return made


def renderer(template: str = CHATML) -> ChatRenderer:
    return ChatRenderer(tokenizer(template))


def texts(made: PreTrainedTokenizerFast, ids: tuple[int, ...], positions: tuple[int, ...]) -> str:
    return "".join(made.convert_ids_to_tokens([ids[p] for p in positions]))


TURNS = [
    turn("think: hm", "OK."),
    turn("go to desk 1", "You arrive at desk 1."),
    turn("take mug 1 from desk 1", "You have it."),
]


def test_only_replies_and_their_ends_are_learnt():
    agent = ReAct(FakeEnvironment())
    head = agent.head(task(), OPENING, hints=["look on the desk first"], examples=1)
    played = episode(TURNS, head=head, opening=OPENING, examples=1)
    (sample,) = samples_of(renderer(), agent, played, keep_examples=False)
    learnt = texts(tokenizer(CHATML), sample.ids, sample.targets)
    assert learnt == "think: hm<|im_end|>go to desk 1<|im_end|>take mug 1 from desk 1<|im_end|>"


@pytest.mark.parametrize("template", [CHATML, "{% for m in messages %}{{ m.content }}\n{% endfor %}"])
def test_the_sample_begins_with_every_prompt_that_was_seen(template: str):
    agent = ReAct(FakeEnvironment())
    head = agent.head(task(), OPENING, hints=(), examples=0)
    played = episode(TURNS, head=head, opening=OPENING)
    (sample,) = samples_of(renderer(template), agent, played, keep_examples=False)
    for count in range(len(TURNS)):
        prompt = renderer(template).prompt_ids(history(head.messages, TURNS[:count]))
        assert list(sample.ids[: len(prompt)]) == prompt


def test_hints_and_examples_are_gone_from_the_sample():
    agent = ReAct(FakeEnvironment())
    head = agent.head(task(), OPENING, hints=["look on the desk first"], examples=1)
    (sample,) = samples_of(
        renderer(), agent, episode(TURNS, head=head, opening=OPENING, examples=1), keep_examples=False
    )
    assert "look on the desk first" not in sample.text
    assert "quill" not in sample.text
    assert OPENING in sample.text


def test_kept_examples_stay():
    agent = ReAct(FakeEnvironment())
    head = agent.head(task(), OPENING, hints=["look on the desk first"], examples=1)
    (sample,) = samples_of(
        renderer(), agent, episode(TURNS, head=head, opening=OPENING, examples=1), keep_examples=True
    )
    assert "look on the desk first" not in sample.text
    assert "quill" in sample.text


def test_an_episode_whose_oldest_turns_were_dropped_is_learnt_as_it_was_seen():
    agent = Plain(FakeEnvironment())
    head = agent.head(task(), OPENING, hints=(), examples=0)
    turns = [
        turn("a go to desk 1", "first"),
        turn("b go to desk 2", "second"),
        turn("c go to desk 3", "third", first_turn=1),
        turn("d go to desk 4", "fourth", first_turn=1),
    ]
    before, after = samples_of(renderer(), agent, episode(turns, head=head, opening=OPENING), keep_examples=False)
    made = tokenizer(CHATML)
    assert texts(made, before.ids, before.targets) == "a go to desk 1<|im_end|>b go to desk 2<|im_end|>"
    assert texts(made, after.ids, after.targets) == "c go to desk 3<|im_end|>d go to desk 4<|im_end|>"
    assert "first" not in after.text
    assert "b go to desk 2" in after.text
    longest = longest_sample(renderer(), agent, episode(turns, head=head, opening=OPENING), keep_examples=False)
    assert longest == max(len(before.ids), len(after.ids))


def test_a_template_that_rewrites_earlier_turns_is_refused():
    chat: list[Message] = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "hidden!b"},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "d"},
    ]
    with pytest.raises(TemplateError, match="choose a model whose template only appends"):
        renderer(FORGETFUL).sample(1, chat, range(4))


def test_a_model_without_a_template_is_refused():
    with pytest.raises(TemplateError, match="instruction-tuned"):
        renderer("")


def test_a_head_that_was_tampered_with_is_never_trained_on():
    agent = Plain(FakeEnvironment())
    head = agent.head(task(), OPENING, hints=["look on the desk first"], examples=0)
    stray = head.spans["hints"]
    wrong = type(head)(head.messages, {"hints": type(stray)(stray.message, stray.start + 1, stray.end)})
    with pytest.raises(AssertionError, match="does not give the student's prompt"):
        student_head(agent, episode(TURNS, head=wrong, opening=OPENING), keep_examples=False)
