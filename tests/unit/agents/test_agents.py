"""Each agent renders a task and reads a reply in its own way; hints and examples can be cut out by position."""

from __future__ import annotations

from typing import ClassVar

import pytest

from distillery.agents import Agent, without
from distillery.agents.plain import Plain
from distillery.agents.react import ReAct
from distillery.agents.stateact import StateAct
from distillery.episodes import history
from tests.fakes.agents import FakeEnvironment, task, turn

OPENING = "You see a shelf 1 and a desk 1.\nYour task is to: put mug 1 in shelf."
HINTS = ("look for a mug in desk", "open the drawer before you look into it")

AGENTS = [ReAct(FakeEnvironment()), StateAct(FakeEnvironment()), Plain(FakeEnvironment())]


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
def test_cutting_the_spans_out_gives_the_students_prompt(agent: Agent):
    taught = agent.head(task(), OPENING, hints=HINTS, examples=min(1, agent.examples))
    plain = agent.head(task(), OPENING, hints=(), examples=0)
    assert all(hint in str(taught.messages) for hint in HINTS)
    assert without(taught, "hints", "examples") == plain.messages


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
def test_the_prompt_without_hints_has_no_hint_span(agent: Agent):
    assert "hints" not in agent.head(task(), OPENING, hints=(), examples=0).spans


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
def test_a_prompt_only_ever_grows(agent: Agent):
    head = agent.head(task(), OPENING, hints=HINTS, examples=0)
    turns = [turn("go to desk 1", "You arrive."), turn("take mug 1 from desk 1", "You have it.")]
    prompts = [history(head.messages, turns[:count]) for count in range(3)]
    assert prompts[1][: len(prompts[0])] == prompts[0]
    assert prompts[2][: len(prompts[1])] == prompts[1]


@pytest.mark.parametrize("agent", [ReAct(FakeEnvironment()), StateAct(FakeEnvironment())], ids=lambda agent: agent.name)
def test_what_is_the_same_for_many_tasks_comes_first(agent: Agent):
    one = agent.head(task(1), OPENING, hints=HINTS[:1], examples=1).messages[0]["content"]
    two = agent.head(task(2), OPENING.replace("desk 1", "bed 1"), hints=HINTS[1:], examples=1).messages[0]["content"]
    shared = one[: one.index("Here is the task.")]
    assert two.startswith(shared)
    assert one.index(HINTS[0]) > one.index(OPENING)


def test_the_hint_block_holds_the_three_rules():
    text = ReAct(FakeEnvironment()).head(task(), OPENING, hints=HINTS, examples=0).messages[0]["content"]
    for rule in ("silently", "Never quote", "trust the observation"):
        assert text.count(rule) == 1


def test_react_answers_a_thought_without_a_step():
    reply = ReAct(FakeEnvironment()).parse("think: the mug may be on the desk\ngo to desk 1")
    assert (reply.text, reply.action, reply.answer) == ("think: the mug may be on the desk", None, "OK.")


def test_react_reads_a_command_as_the_examples_show_it():
    assert ReAct(FakeEnvironment()).parse("> go to desk 1").action == "go to desk 1"


def test_stateact_takes_the_last_action():
    reply = StateAct(FakeEnvironment()).parse("goal: action: x\nthought: None\naction: go to desk 1\nmore")
    assert reply.action == "go to desk 1"
    assert reply.text.endswith("action: go to desk 1")


@pytest.mark.parametrize("text", ["", "goal: something", "action: None", "action:"])
def test_stateact_asks_for_an_action_where_there_is_none(text: str):
    reply = StateAct(FakeEnvironment()).parse(text)
    assert reply.action is None
    assert not reply.valid
    assert "action:" in reply.answer


def test_stateact_shows_the_state_in_its_examples():
    text = StateAct(FakeEnvironment()).head(task(), OPENING, hints=(), examples=1).messages[0]["content"]
    assert "goal: find the quill\ncurrent location: start\nthought: the quill" in text
    assert "thought: None\naction: take quill 1 from desk 7" in text


def test_plain_starts_the_command_at_the_first_verb():
    assert Plain(FakeEnvironment()).parse(" mug no desk 1 go to shelf 2\n").action == "go to shelf 2"


@pytest.mark.parametrize("text", ["", "mug no desk", "overtake mug"])
def test_plain_without_a_verb_is_refused_like_a_wrong_command(text: str):
    reply = Plain(FakeEnvironment()).parse(text)
    assert reply.action is None
    assert not reply.valid


def test_plain_puts_hints_on_one_line_after_the_task():
    text = Plain(FakeEnvironment()).head(task(), OPENING, hints=HINTS, examples=0).messages[0]["content"]
    assert text == f"{OPENING}\nHints: {HINTS[0]}. {HINTS[1]}."


def test_plain_refuses_examples():
    with pytest.raises(ValueError, match=r"spec\.agent\.fewShotExamples"):
        Plain(FakeEnvironment()).head(task(), OPENING, hints=(), examples=1)


def test_react_does_not_think_where_thoughts_hurt():
    class Thoughtless(FakeEnvironment):
        thoughts: ClassVar[bool] = False

    head = ReAct(Thoughtless()).head(task(), "You are in a shop.", hints=[], examples=1)
    assert "think" not in head.messages[0]["content"]
    assert "> go to desk 7" in head.messages[0]["content"]
    assert ReAct(Thoughtless()).parse("think[this one?]").action is None


def test_plain_reads_commands_with_brackets():
    class Shop(FakeEnvironment):
        verbs: ClassVar[tuple[str, ...]] = ("search", "click")

    assert Plain(Shop()).parse("red one click[b01]").action == "click[b01]"
    assert Plain(Shop()).parse("searching clicks").action is None


def test_plain_takes_every_line_for_a_command_where_the_environment_has_no_verbs():
    class Anything(FakeEnvironment):
        verbs: ClassVar[tuple[str, ...]] = ()

    assert Plain(Anything()).parse(" forty  two\nmore").action == "forty two"
    assert Plain(Anything()).parse("\n").action is None
