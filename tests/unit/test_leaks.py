"""Nothing of a hint reaches a student; the environment's own words are no leak."""

from __future__ import annotations

from dataclasses import replace

import pytest

from distillery.agents.plain import Plain
from distillery.agents.react import ReAct
from distillery.api import parse
from distillery.planning import Dataset
from distillery.training.dataset import build, choose, keep
from distillery.training.leaks import LeakError, Quotations, check_leaks, quoted_hint
from distillery.training.samples import Sample
from tests.unit.documents import document
from tests.unit.fakes import FakeEnvironment, episode, task, turn
from tests.unit.test_samples import renderer

OPENING = "You see a shelf 1 and a desk 1.\nYour task is to: put mug 1 in shelf."
HINT = "Before you heat the {object}, open the {container} and look whether it is empty."
SPEC = parse(document()).spec


def played(
    *replies: str, agent: Plain | ReAct | None = None, number: int = 1, success: bool = True, valid: bool = True
):
    agent = agent or ReAct(FakeEnvironment())
    head = agent.head(task(number), OPENING, hints=[HINT], examples=0)
    turns = [turn(reply, "Nothing special.", valid=valid) for reply in replies]
    return episode(turns, head=head, opening=OPENING, of=task(number), number=number, success=success, hints=[HINT])


def check(sample_text: str) -> None:
    of = played("go to desk 1")
    check_leaks(
        of,
        ({"role": "user", "content": OPENING},),
        [Sample(of.id, (1, 2), (1,), sample_text)],
        hints=Quotations([HINT]),
        examples=None,
        instructions="",
    )


def test_a_whole_hint_is_found_whatever_its_case_and_punctuation():
    with pytest.raises(LeakError, match=r"episode 1, task train/1, holds 'before you heat the object"):
        check("x " + HINT.upper().replace(",", " ;") + " y")


def test_eight_words_of_a_hint_are_a_leak_and_seven_are_not():
    with pytest.raises(LeakError):
        check("and look whether it is empty, open the container and look whether it is")
    check("you open the container and look whether it")


def test_what_the_environment_says_itself_is_no_leak():
    of = replace(played("go to desk 1"), opening=HINT)
    assert Quotations([HINT]).find(HINT, allowed=[of.opening]) is None


def test_a_short_hint_counts_as_a_whole():
    found = Quotations(["look in drawers"]).find("first I look in drawers of course")
    assert found is not None
    assert found.words == "look in drawers"


def test_two_words_say_nothing():
    assert Quotations(["go on"]).find("go on") is None


def test_an_agent_that_quotes_its_hint_is_found_out():
    assert quoted_hint(played(f"think: the hint says: {HINT}"), Quotations([HINT]))
    assert quoted_hint(played("think: I had better check the desk"), Quotations([HINT])) is None


def test_what_is_dropped_is_counted_by_reason():
    episodes = [
        played("go to desk 1", number=1),
        played("go to desk 1", number=2, success=False),
        played("go to desk 1", "go to desk 1", number=3, valid=False),
        played(f"think: {HINT}", number=4),
        replace(played(number=5), turns=()),
    ]
    selection = keep(episodes, SPEC, Quotations([HINT]), filtered=True)
    assert [e.id for e in selection.kept] == [1]
    assert selection.dropped == {"failed": 1, "invalid actions": 1, "quotes a hint": 1, "broken": 1}


def test_the_unfiltered_control_keeps_failures_but_no_quotations():
    episodes = [played("go to desk 1", number=2, success=False), played(f"think: {HINT}", number=4)]
    assert [e.id for e in keep(episodes, SPEC, Quotations([HINT]), filtered=False).kept] == [2]


def test_keep_counts_an_episode_when_its_sample_is_too_long():
    episodes = [played("go to desk 1", number=1), played("go to desk 1", number=2)]
    selection = keep(episodes, SPEC, Quotations([]), filtered=True, too_long=lambda episode: episode.id == 2)
    assert [e.id for e in selection.kept] == [1]
    assert selection.dropped == {"too long": 1}


def test_a_matched_dataset_is_as_large_as_the_smallest_arm_and_always_the_same():
    many = keep([played("go to desk 1", number=n) for n in range(9)], SPEC, Quotations([]), filtered=True)
    few = keep([played("go to desk 1", number=n) for n in range(4)], SPEC, Quotations([]), filtered=True)
    arms = {"own": few, "teacher": many}
    one, two = (choose(arms, Dataset("teacher", matched=True), seed=1) for _ in range(2))
    assert len(one) == 4
    assert one == two


def test_a_hint_left_in_the_prompt_fails_the_build():
    agent = ReAct(FakeEnvironment())
    of = played("go to desk 1", agent=agent)
    with pytest.raises(AssertionError, match="does not give the student's prompt"):
        build(
            [replace(of, head=replace(of.head, spans={}))],
            spec=SPEC,
            agent=agent,
            environment=FakeEnvironment(),
            renderer=renderer(),
            hints=Quotations([HINT]),
        )


def test_a_worked_example_in_the_students_prompt_is_a_leak():
    of = played("go to desk 1")
    example = FakeEnvironment().examples("put")[0].turns[0].thought
    with pytest.raises(LeakError, match="quill"):
        check_leaks(
            of,
            ({"role": "user", "content": f"{example}\n{OPENING}"},),
            [Sample(of.id, (1, 2), (1,), "nothing")],
            hints=Quotations([]),
            examples=Quotations([example]),
            instructions="",
        )
