"""Nothing of a hint reaches a student; the environment's own words are no leak."""

from __future__ import annotations

from dataclasses import replace

import pytest

from distillery.agents.plain import Plain
from distillery.agents.react import ReAct
from distillery.core.api import parse
from distillery.core.planner import Dataset
from distillery.training.dataset import EpisodeFilter, SampleBuilder, choose_for_dataset
from distillery.training.leaks import ForbiddenTexts, LeakError, NgramIndex, Recitation, check_leaks, find_quoted_hint
from distillery.training.samples import Sample
from tests.fakes.agents import FakeEnvironment, episode, task, turn
from tests.unit.documents import document
from tests.unit.training.test_samples import renderer

OPENING = "You see a shelf 1 and a desk 1.\nYour task is to: put mug 1 in shelf."
HINT = "Before you heat the {object}, open the {container} and look whether it is empty."
SETTINGS = parse(document()).spec.data_filter


def played(
    *replies: str, agent: Plain | ReAct | None = None, number: int = 1, success: bool = True, valid: bool = True
):
    agent = agent or ReAct(FakeEnvironment())
    prefix = agent.build_prefix(task(number), OPENING, hints=[HINT], examples=0)
    turns = [turn(reply, "Nothing special.", valid=valid) for reply in replies]
    return episode(
        turns, prefix=prefix, initial_observation=OPENING, of=task(number), number=number, success=success, hints=[HINT]
    )


def check(sample_text: str) -> None:
    of = played("go to desk 1")
    check_leaks(
        of,
        ({"role": "user", "content": OPENING},),
        [Sample(of.id, (1, 2), (1,), sample_text)],
        forbidden=ForbiddenTexts(NgramIndex([HINT]), None),
        instructions="",
    )


def test_a_whole_hint_is_found_whatever_its_case_and_punctuation():
    with pytest.raises(LeakError, match=r"episode 1, task train/1, holds 'before you heat the object"):
        check("x " + HINT.upper().replace(",", " ;") + " y")


def test_eight_words_of_a_hint_are_a_leak_and_seven_are_not():
    with pytest.raises(LeakError):
        check("and look whether it is empty, open the container and look whether it is")
    check("you open the container and look whether it")


def test_quotation_is_allowed_when_the_environment_wrote_it():
    of = replace(played("go to desk 1"), initial_observation=HINT)
    assert NgramIndex([HINT]).find(HINT, allowed=[of.initial_observation]) is None


def test_short_hint_is_found_as_a_whole():
    match = NgramIndex(["look in drawers"]).find("first I look in drawers of course")
    assert match is not None
    assert match.words == "look in drawers"


def test_hint_of_two_words_is_never_a_quotation():
    assert NgramIndex(["look around"]).find("look around") is None


def test_quoted_hint_is_found_in_the_agents_replies():
    assert find_quoted_hint(played(f"think: the hint says: {HINT}"), NgramIndex([HINT]))
    assert find_quoted_hint(played("think: I had better check the desk"), NgramIndex([HINT])) is None


def test_dropped_episodes_are_counted_by_reason():
    episodes = [
        played("go to desk 1", number=1),
        played("go to desk 1", number=2, success=False),
        played("go to desk 1", "go to desk 1", number=3, valid=False),
        played(f"think: {HINT}", number=4),
        replace(played(number=5), turns=()),
    ]
    selection = EpisodeFilter(SETTINGS, NgramIndex([HINT])).select(episodes, filtered=True)
    assert [e.id for e in selection.kept] == [1]
    assert selection.dropped == {"failed": 1, "invalid actions": 1, "quotes a hint": 1, "broken": 1}


def test_the_unfiltered_control_keeps_failures_but_no_quotations():
    episodes = [played("go to desk 1", number=2, success=False), played(f"think: {HINT}", number=4)]
    assert [e.id for e in EpisodeFilter(SETTINGS, NgramIndex([HINT])).select(episodes, filtered=False).kept] == [2]


def test_episode_is_dropped_when_its_sample_is_too_long():
    episodes = [played("go to desk 1", number=1), played("go to desk 1", number=2)]
    long_ones = EpisodeFilter(SETTINGS, NgramIndex([]), is_too_long=lambda episode: episode.id == 2)
    selection = long_ones.select(episodes, filtered=True)
    assert [e.id for e in selection.kept] == [1]
    assert selection.dropped == {"too long": 1}


def test_matched_datasets_have_equally_many_episodes_of_each_task():
    teacher = [played("go to desk 1", number=n) for n in (1, 2, 2, 2, 3)]
    own = [played("go to desk 1", number=n) for n in (2, 2, 3, 3, 4)]
    episode_filter = EpisodeFilter(SETTINGS, NgramIndex([]))
    arms = {name: episode_filter.select(es, filtered=True) for name, es in (("teacher", teacher), ("own", own))}
    for arm in arms:
        one, two = (choose_for_dataset(arms, Dataset(arm, matched=True), seed=1) for _ in range(2))
        assert [e.task.id for e in one] == ["train/2", "train/2", "train/3"]
        assert one == two


def test_build_fails_when_a_hint_is_left_in_the_prompt():
    agent = ReAct(FakeEnvironment())
    of = played("go to desk 1", agent=agent)
    builder = SampleBuilder(agent, FakeEnvironment(), renderer(), NgramIndex([HINT]), keep_examples=False)
    with pytest.raises(AssertionError, match="does not give the student's prompt"):
        builder.build([replace(of, prompt_prefix=replace(of.prompt_prefix, spans={}))])


def test_a_worked_example_in_the_students_prompt_is_a_leak():
    of = played("go to desk 1")
    example = FakeEnvironment().examples("put")[0].turns[0].thought
    with pytest.raises(LeakError, match="quill"):
        check_leaks(
            of,
            ({"role": "user", "content": f"{example}\n{OPENING}"},),
            [Sample(of.id, (1, 2), (1,), "nothing")],
            forbidden=ForbiddenTexts(NgramIndex([]), NgramIndex([example])),
            instructions="",
        )


@pytest.mark.parametrize(
    ("hint", "quoting"),
    [
        (
            "перед тем как греть предмет, открой печь и посмотри внутрь",
            "Так: перед тем как ГРЕТЬ предмет, открой печь и посмотри",
        ),
        (
            "πριν ζεστάνεις κάτι, άνοιξε τον φούρνο και κοίτα μέσα",
            "ΠΡΙΝ ΖΕΣΤΑΝΕΙΣ ΚΑΤΙ ΑΝΟΙΞΕ ΤΟΝ ΦΟΥΡΝΟ ΚΑΙ ΚΟΙΤΑ",
        ),
        ("加热物品之前先打开微波炉看看里面是不是空的", "我想：加热物品之前先打开微波炉，然后走"),
        ("温める前に、電子レンジを開けて中を見る", "次は温める前に電子レンジを開けて"),
        ("ก่อนอุ่นของให้เปิดเตาอบแล้วมองดูข้างใน", "คิด: ก่อนอุ่นของให้เปิดเตาอบ"),
        ("avant de réchauffer, ouvre le four et vérifie à l'intérieur", "avant de rechauffer ouvre le four et verifie"),
        ("cherche dans l'étagère", "je cherche dans l’e\u0301tagère"),
    ],
)
def test_a_quotation_is_found_in_every_script(hint: str, quoting: str):
    assert NgramIndex([hint]).find(quoting)


@pytest.mark.parametrize(
    ("hint", "innocent"),
    [
        ("перед тем как греть предмет, открой печь и посмотри внутрь", "перед тем как греть предмет открой окно"),
        ("加热物品之前先打开微波炉看看里面是不是空的", "先打开微波炉看看里面"),
        ("sésame ouvre toi", "sé same ouvre toi"),
    ],
)
def test_shorter_passage_is_no_quotation_in_any_script(hint: str, innocent: str):
    assert NgramIndex([hint]).find(innocent) is None


PLACES = "look for a clock in dresser, sidetable, desk, shelf"
HINTS = [
    PLACES,
    *(f"look for a {thing} in cabinet, drawer" for thing in ("mug", "pan", "book", "cup", "pen", "key")),
    *(f"look for a {thing} in fridge, sinkbasin" for thing in ("egg", "apple", "bread")),
]


def recites(*replies: str, seen: str = "Nothing special.", hints: list[str] | None = None) -> bool:
    turns = [turn(reply, seen, action=reply[reply.find("go to") :]) for reply in replies]
    of = replace(played("x"), turns=tuple(turns), hints=tuple([PLACES] if hints is None else hints))
    return Recitation(HINTS).is_in(of, of.hints)


def test_two_content_words_of_a_hint_in_its_order_recite_it():
    assert recites("the clock may be in dresser or in sidetable go to dresser 1")
    assert not recites("the clock may be in sidetable or in dresser go to dresser 1")
    assert not recites("in dresser first and sidetable go to dresser 1")


def test_recitation_ignores_commands_goals_and_wording_of_hints():
    assert not recites("go to dresser sidetable")
    assert not recites("look for a clock in shelf go to shelf 1")
    assert not recites("dresser 1 sidetable 2 go to desk 1")


def test_recitation_ignores_words_of_the_environment():
    assert not recites("dresser sidetable go to dresser 1", seen="You see a dresser, a sidetable.")


def test_recitation_rate_of_own_play_uses_the_teachers_hints():
    thought = turn("dresser sidetable go to desk 1", "Nothing.", action="go to desk 1")
    hinted = [replace(played("go to desk 1", number=n), hints=(PLACES,)) for n in range(3)]
    hinted[0] = replace(hinted[0], turns=(thought,))
    own = [replace(e, hints=()) for e in hinted]
    recitation = Recitation(HINTS)
    assert recitation.rate(hinted, {}) == pytest.approx(1 / 3)
    assert recitation.rate(own, {}) == 0
    assert recitation.rate(own, {own[0].task.id: (PLACES,)}) == pytest.approx(1 / 3)
    assert recitation.rate([], {}) is None
