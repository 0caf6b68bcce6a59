"""Each agent renders a task and reads a reply in its own way; hints and examples can be cut out by position."""

from __future__ import annotations

from typing import ClassVar

import pytest

from distillery.agents import Agent, Message, PromptPrefix, Span, remove_spans
from distillery.agents.plain import Plain
from distillery.agents.react import ReAct
from distillery.agents.stateact import StateAct
from distillery.core.contracts.messages import read_text
from distillery.episodes import build_history
from tests.fakes.agents import FakeEnvironment, task, turn

OPENING = "You see a shelf 1 and a desk 1.\nYour task is to: put mug 1 in shelf."
HINTS = ("look for a mug in desk", "open the drawer before you look into it")

AGENTS = [ReAct(FakeEnvironment()), StateAct(FakeEnvironment()), Plain(FakeEnvironment())]


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
def test_teachers_prompt_without_its_spans_equals_the_students(agent: Agent):
    taught = agent.build_prefix(task(), OPENING, hints=HINTS, examples=min(1, agent.examples))
    plain = agent.build_prefix(task(), OPENING, hints=(), examples=0)
    assert all(hint in str(taught.messages) for hint in HINTS)
    assert remove_spans(taught, "hints", "examples") == plain.messages


def test_span_is_refused_when_its_message_has_parts():
    message: Message = {"role": "user", "content": [{"type": "text", "text": "Look for the mug."}]}
    with pytest.raises(TypeError, match="message 0 is not of text alone"):
        remove_spans(PromptPrefix((message,), {"hints": Span(0, 0, 4)}), "hints")


def test_removing_a_span_keeps_the_other_keys_of_a_message():
    message: Message = {"role": "assistant", "content": "Look for the mug.", "reasoning_content": "Hm."}
    (cut,) = remove_spans(PromptPrefix((message,), {"hints": Span(0, 4, 16)}), "hints")
    assert cut == {"role": "assistant", "content": "Look.", "reasoning_content": "Hm."}


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
def test_prefix_has_no_hint_span_when_there_are_no_hints(agent: Agent):
    assert "hints" not in agent.build_prefix(task(), OPENING, hints=(), examples=0).spans


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
def test_prompt_only_grows_with_each_turn(agent: Agent):
    prefix = agent.build_prefix(task(), OPENING, hints=HINTS, examples=0)
    turns = [turn("go to desk 1", "You arrive."), turn("take mug 1 from desk 1", "You have it.")]
    prompts = [build_history(prefix.messages, turns[:count]) for count in range(3)]
    assert prompts[1][: len(prompts[0])] == prompts[0]
    assert prompts[2][: len(prompts[1])] == prompts[1]


@pytest.mark.parametrize("agent", [ReAct(FakeEnvironment()), StateAct(FakeEnvironment())], ids=lambda agent: agent.name)
def test_prefix_begins_with_what_many_tasks_share(agent: Agent):
    one = read_text(agent.build_prefix(task(1), OPENING, hints=HINTS[:1], examples=1).messages[0])
    other = agent.build_prefix(task(2), OPENING.replace("desk 1", "bed 1"), hints=HINTS[1:], examples=1)
    shared = one[: one.index("Here is the task.")]
    assert read_text(other.messages[0]).startswith(shared)
    assert one.index(HINTS[0]) > one.index(OPENING)


def test_hint_block_holds_the_three_rules():
    text = read_text(ReAct(FakeEnvironment()).build_prefix(task(), OPENING, hints=HINTS, examples=0).messages[0])
    for rule in ("silently", "Never quote", "trust the observation"):
        assert text.count(rule) == 1


def test_react_answers_ok_and_takes_no_step_when_the_reply_is_a_thought():
    reply = ReAct(FakeEnvironment()).parse("think: the mug may be on the desk\ngo to desk 1")
    assert (reply.text, reply.action, reply.feedback) == ("think: the mug may be on the desk", None, "OK.")


def test_react_reads_a_command_as_the_examples_show_it():
    assert ReAct(FakeEnvironment()).parse("> go to desk 1").action == "go to desk 1"


def test_stateact_takes_the_last_action():
    reply = StateAct(FakeEnvironment()).parse("goal: action: x\nthought: None\naction: go to desk 1\nmore")
    assert reply.action == "go to desk 1"
    assert reply.text.endswith("action: go to desk 1")


@pytest.mark.parametrize("text", ["", "goal: something", "action: None", "action:"])
def test_stateact_asks_for_an_action_when_there_is_none(text: str):
    reply = StateAct(FakeEnvironment()).parse(text)
    assert reply.action is None
    assert not reply.valid
    assert "action:" in reply.feedback


def test_stateact_shows_the_state_in_its_examples():
    text = read_text(StateAct(FakeEnvironment()).build_prefix(task(), OPENING, hints=(), examples=1).messages[0])
    assert "goal: find the quill\ncurrent location: start\nthought: the quill" in text
    assert "thought: None\naction: take quill 1 from desk 7" in text


def test_plain_starts_the_command_at_the_first_verb():
    assert Plain(FakeEnvironment()).parse(" mug no desk 1 go to shelf 2\n").action == "go to shelf 2"


@pytest.mark.parametrize("text", ["", "mug no desk", "overtake mug"])
def test_plain_refuses_a_reply_when_it_has_no_verb(text: str):
    reply = Plain(FakeEnvironment()).parse(text)
    assert reply.action is None
    assert not reply.valid


def test_plain_puts_hints_on_one_line_after_the_task():
    text = read_text(Plain(FakeEnvironment()).build_prefix(task(), OPENING, hints=HINTS, examples=0).messages[0])
    assert text == f"{OPENING}\nHints: {HINTS[0]}. {HINTS[1]}."


def test_plain_refuses_examples():
    with pytest.raises(ValueError, match=r"spec\.agent\.fewShotExamples"):
        Plain(FakeEnvironment()).build_prefix(task(), OPENING, hints=(), examples=1)


def test_react_asks_for_no_thoughts_when_the_environment_has_none():
    class Thoughtless(FakeEnvironment):
        thoughts: ClassVar[bool] = False

    prefix = ReAct(Thoughtless()).build_prefix(task(), "You are in a shop.", hints=[], examples=1)
    assert "think" not in read_text(prefix.messages[0])
    assert "> go to desk 7" in read_text(prefix.messages[0])
    assert ReAct(Thoughtless()).parse("think[this one?]").action is None


def test_plain_reads_commands_with_brackets():
    class Shop(FakeEnvironment):
        verbs: ClassVar[tuple[str, ...]] = ("search", "click")

    assert Plain(Shop()).parse("red one click[b01]").action == "click[b01]"
    assert Plain(Shop()).parse("searching clicks").action is None


def test_plain_reads_every_line_as_a_command_when_there_are_no_verbs():
    class Anything(FakeEnvironment):
        verbs: ClassVar[tuple[str, ...]] = ()

    assert Plain(Anything()).parse(" forty  two\nmore").action == "forty two"
    assert Plain(Anything()).parse("\n").action is None
