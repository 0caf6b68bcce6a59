"""Training ids are the prompt's ids, and exactly the agent's own tokens are learned."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tokenizers import Regex, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from distillery.agents.plain import Plain
from distillery.agents.react import ReAct
from distillery.core.contracts.messages import Message, read_text
from distillery.core.model_servers import ServedModel, server_arguments
from distillery.episodes import build_history
from distillery.training.samples import (
    ChatRenderer,
    TemplateError,
    build_samples,
    build_student_prefix,
    count_longest_sample,
)
from tests.fakes.agents import FakeEnvironment, episode, task, turn
from tests.unit.templates import (
    CHATML,
    GEMMA3,
    GPT_OSS,
    GRANITE4,
    LFM2,
    LLAMA3,
    MISTRAL,
    PHI3,
    PHI4,
    QWEN3,
    QWEN3_5,
    tokenizer,
)

OPENING = "You see a shelf 1 and a desk 1.\nYour task is to: put mug 1 in shelf."

# Drops what was said in earlier replies before a mark, as templates of reasoning models do.
FORGETFUL = CHATML.replace("{{ m.content }}", "{{ m.content if loop.last else m.content.split('!')[-1] }}")


def renderer(template: str = CHATML) -> ChatRenderer:
    return ChatRenderer(tokenizer(template))


def texts(made: PreTrainedTokenizerFast, ids: tuple[int, ...], positions: tuple[int, ...]) -> str:
    return "".join(made.convert_ids_to_tokens([ids[p] for p in positions]))


TURNS = [
    turn("think: hm", "OK."),
    turn("go to desk 1", "You arrive at desk 1."),
    turn("take mug 1 from desk 1", "You have it."),
]


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_cut_reply_is_history_and_not_learned(reason: str):
    agent = ReAct(FakeEnvironment())
    prefix = agent.build_prefix(task(), OPENING, hints=(), examples=0)
    turns = [TURNS[0], replace(TURNS[1], finish_reason=reason), replace(TURNS[2], finish_reason="stop")]
    (sample,) = build_samples(
        renderer(), agent, episode(turns, prefix=prefix, initial_observation=OPENING), keep_examples=False
    )
    assert "go to desk 1" in sample.text
    learned = texts(tokenizer(CHATML), sample.ids, sample.targets)
    assert learned == "think: hm<|im_end|>take mug 1 from desk 1<|im_end|>"


def test_no_sample_is_made_when_every_reply_was_cut():
    agent = ReAct(FakeEnvironment())
    prefix = agent.build_prefix(task(), OPENING, hints=(), examples=0)
    turns = [replace(turn, finish_reason="length") for turn in TURNS]
    played = episode(turns, prefix=prefix, initial_observation=OPENING)
    assert build_samples(renderer(), agent, played, keep_examples=False) == []


def test_only_replies_and_their_ends_are_learned():
    agent = ReAct(FakeEnvironment())
    prefix = agent.build_prefix(task(), OPENING, hints=["look on the desk first"], examples=1)
    played = episode(TURNS, prefix=prefix, initial_observation=OPENING, examples=1)
    (sample,) = build_samples(renderer(), agent, played, keep_examples=False)
    learned = texts(tokenizer(CHATML), sample.ids, sample.targets)
    assert learned == "think: hm<|im_end|>go to desk 1<|im_end|>take mug 1 from desk 1<|im_end|>"


CHAT: list[Message] = [
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": "go to desk 1"},
    {"role": "user", "content": "c"},
    {"role": "assistant", "content": "look"},
]


@pytest.mark.parametrize(
    ("template", "eos", "end"),
    [
        (CHATML, "<|im_end|>", "<|im_end|>"),
        (CHATML, "<|endoftext|>", "<|im_end|>"),
        (LFM2, "<|im_end|>", "<|im_end|>"),
        (LLAMA3, "<|end_of_text|>", "<|eot_id|>"),
        (GEMMA3, "<eos>", "<end_of_turn>"),
        (PHI3, "<|endoftext|>", "<|end|>"),
        (PHI4, "<|endoftext|>", "<|im_end|>"),
        (GRANITE4, "<|end_of_text|>", "<|end_of_text|>"),
    ],
)
def test_targets_end_with_the_turn_when_eos_is_another(template: str, eos: str, end: str):
    made = tokenizer(template, eos=eos)
    sample = ChatRenderer(made).render_sample(1, CHAT, range(4))
    assert texts(made, sample.ids, sample.targets) == f"go to desk 1{end}look{end}"


def test_targets_hold_the_space_when_a_template_puts_it_first():
    made = tokenizer(MISTRAL, eos="</s>")
    sample = ChatRenderer(made).render_sample(1, CHAT, range(4))
    assert texts(made, sample.ids, sample.targets) == " go to desk 1</s> look</s>"


BARE = "{% for m in messages %}{{ m.content }}\n{% endfor %}"  # no token ends a reply


def test_reply_is_learned_whole_when_no_token_ends_it():
    made = tokenizer(BARE)
    chat: list[Message] = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "think\nlook"}]
    sample = ChatRenderer(made).render_sample(1, chat, range(2))
    assert texts(made, sample.ids, sample.targets) == "think\nlook\n"


def test_empty_reply_is_refused_when_no_token_ends_it():
    chat: list[Message] = [{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}]
    with pytest.raises(TemplateError, match="choose a model whose template only appends"):
        renderer(BARE.replace("\n", "")).render_sample(1, chat, range(2))


def test_template_is_refused_when_only_the_last_reply_has_its_end():
    last = CHATML.replace("<|im_end|>", "{{ '<|im_end|>' if loop.last or m.role == 'user' }}")
    with pytest.raises(TemplateError, match="what stands before message 1"):
        renderer(last).render_sample(1, CHAT, range(4))


def test_reply_is_refused_when_no_token_is_left_for_it():
    with pytest.raises(TemplateError, match="what stands before message 1"):
        renderer()._find_targets([5, 6], [(0, 1), (1, 2)], [(1, 3, 4)])


def test_reply_is_refused_when_a_token_spans_its_beginning():
    made = tokenizer(CHATML)
    made.backend_tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n?[\s\S]"), behavior="isolated")
    with pytest.raises(TemplateError, match="spans the beginning of a reply"):
        ChatRenderer(made).render_sample(1, CHAT, range(4))


@pytest.mark.parametrize("template", [QWEN3, QWEN3_5])
def test_template_is_refused_when_it_drops_thoughts(template: str):
    with pytest.raises(TemplateError, match="choose a model whose template only appends"):
        renderer(template).render_sample(1, CHAT, range(4))


def test_template_is_refused_when_it_always_writes_todays_date():
    with pytest.raises(TemplateError, match="puts today's date into every prompt"):
        renderer(GPT_OSS)


def test_prompt_has_the_servers_date_when_the_template_takes_one():
    made = tokenizer(LLAMA3, eos="<|eot_id|>")
    sample = ChatRenderer(made).render_sample(1, CHAT, range(4))
    assert "Today Date: 26 Jul 2024" in sample.text
    arguments = server_arguments(ServedModel("base", "base"), port=1, gpu=False, load_adapter=False)
    sent = json.loads(arguments[arguments.index("--default-chat-template-kwargs") + 1])
    chat = [{"role": str(message["role"]), "content": read_text(message)} for message in CHAT]
    assert made.apply_chat_template(chat, tokenize=False, **sent) == sample.text


@pytest.mark.parametrize("template", [CHATML, BARE])
def test_the_sample_begins_with_every_prompt_that_was_seen(template: str):
    agent = ReAct(FakeEnvironment())
    prefix = agent.build_prefix(task(), OPENING, hints=(), examples=0)
    played = episode(TURNS, prefix=prefix, initial_observation=OPENING)
    (sample,) = build_samples(renderer(template), agent, played, keep_examples=False)
    for count in range(len(TURNS)):
        prompt = renderer(template).render_prompt(build_history(prefix.messages, TURNS[:count]))
        assert list(sample.ids[: len(prompt)]) == prompt


def test_hints_and_examples_are_gone_from_the_sample():
    agent = ReAct(FakeEnvironment())
    prefix = agent.build_prefix(task(), OPENING, hints=["look on the desk first"], examples=1)
    (sample,) = build_samples(
        renderer(), agent, episode(TURNS, prefix=prefix, initial_observation=OPENING, examples=1), keep_examples=False
    )
    assert "look on the desk first" not in sample.text
    assert "quill" not in sample.text
    assert OPENING in sample.text


def test_examples_stay_in_the_sample_when_they_are_kept():
    agent = ReAct(FakeEnvironment())
    prefix = agent.build_prefix(task(), OPENING, hints=["look on the desk first"], examples=1)
    (sample,) = build_samples(
        renderer(), agent, episode(TURNS, prefix=prefix, initial_observation=OPENING, examples=1), keep_examples=True
    )
    assert "look on the desk first" not in sample.text
    assert "quill" in sample.text


def test_samples_are_as_seen_when_the_oldest_turns_were_dropped():
    agent = Plain(FakeEnvironment())
    prefix = agent.build_prefix(task(), OPENING, hints=(), examples=0)
    turns = [
        turn("a go to desk 1", "first"),
        turn("b go to desk 2", "second"),
        turn("c go to desk 3", "third", first_turn=1),
        turn("d go to desk 4", "fourth", first_turn=1),
    ]
    before, after = build_samples(
        renderer(), agent, episode(turns, prefix=prefix, initial_observation=OPENING), keep_examples=False
    )
    made = tokenizer(CHATML)
    assert texts(made, before.ids, before.targets) == "a go to desk 1<|im_end|>b go to desk 2<|im_end|>"
    assert texts(made, after.ids, after.targets) == "c go to desk 3<|im_end|>d go to desk 4<|im_end|>"
    assert "first" not in after.text
    assert "b go to desk 2" in after.text
    longest = count_longest_sample(
        renderer(), agent, episode(turns, prefix=prefix, initial_observation=OPENING), keep_examples=False
    )
    assert longest == max(len(before.ids), len(after.ids))


def test_a_template_that_rewrites_earlier_turns_is_refused():
    chat: list[Message] = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "hidden!b"},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "d"},
    ]
    with pytest.raises(TemplateError, match="choose a model whose template only appends"):
        renderer(FORGETFUL).render_sample(1, chat, range(4))


def test_a_model_without_a_template_is_refused():
    with pytest.raises(TemplateError, match="instruction-tuned"):
        renderer("")


def test_sample_is_refused_when_the_prefix_is_not_the_agents():
    agent = Plain(FakeEnvironment())
    prefix = agent.build_prefix(task(), OPENING, hints=["look on the desk first"], examples=0)
    stray = prefix.spans["hints"]
    wrong = type(prefix)(prefix.messages, {"hints": type(stray)(stray.message, stray.start + 1, stray.end)})
    with pytest.raises(AssertionError, match="does not give the student's prompt"):
        build_student_prefix(agent, episode(TURNS, prefix=wrong, initial_observation=OPENING), keep_examples=False)
