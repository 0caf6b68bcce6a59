"""The worked examples are whole, and say what they show."""

from __future__ import annotations

from pathlib import Path

import pytest

from distillery.core.api import parse
from distillery.environments.base import Environment
from distillery.stages.runtime.prepared_run import open_environment
from distillery_webshop import actions, pages, prompts
from distillery_webshop.environment import WebShop
from distillery_webshop.products import CATEGORIES
from tests.unit.documents import document


def environment_in(folder: Path, shown: int = 10) -> Environment:
    return WebShop({"catalog": "generated", "shown": shown}, folder)


@pytest.mark.parametrize("category", sorted(CATEGORIES.values()))
def test_category_has_two_examples_that_end_in_a_purchase(tmp_path: Path, category: str) -> None:
    examples = environment_in(tmp_path).examples(category)
    assert len(examples) == 2
    for example in examples:
        assert example.opening.startswith("WebShop [SEP] Instruction: [SEP] ")
        assert example.turns[-1].action == "click[Buy Now]"
        assert " [SEP] 1.0 [SEP] " in example.turns[-1].observation


def test_unknown_category_has_no_examples(tmp_path: Path) -> None:
    assert environment_in(tmp_path).examples("toys") == ()


@pytest.mark.parametrize("steps", [6, 15])
def test_instructions_state_the_limit_when_a_stage_plays(tmp_path: Path, steps: int) -> None:
    limits = {"name": "webshop", "maxSteps": steps, "options": {"catalog": "generated"}}
    run = parse(document(environment=limits))
    assert f"You have {steps} commands, and without" in open_environment(run.spec, tmp_path).instructions


def test_instructions_state_no_number_when_none_is_known(tmp_path: Path) -> None:
    assert "The number of commands is limited, and without" in environment_in(tmp_path).instructions


def test_examples_have_no_thoughts(tmp_path: Path) -> None:
    assert not any(turn.thought for turn in environment_in(tmp_path).examples("food")[0].turns)


def test_states_of_examples_follow_from_their_commands() -> None:
    for example in (example for examples in prompts.read_examples(10).values() for example in examples):
        location, selection = "search page", ""
        for turn in example.turns:
            assert set(turn.state) <= set(prompts.STATE_KEYS)
            assert turn.state["goal"] in example.opening
            assert turn.state["current location"] == location
            assert turn.state.get("current selection", "") == selection
            command = actions.parse_action(turn.action)
            assert command is not None
            parts = turn.observation.split(pages.SEPARATOR)
            shown = command.argument.upper()
            if pages.NEXT in parts:
                location, selection = "results page 1", ""
            elif shown.startswith("B0"):
                location = f"page of {shown}"
            elif command.argument == "features":
                location = location.replace("page of", "features of")
            elif command.argument == "< prev":
                location = location.replace("features of", "page of")
            elif command.argument != "buy now":
                name = parts[: parts.index(turn.action[6:-1])][::-1]
                chosen = next(
                    text for text in name if text in ("color", "size", "style", "scent", "flavor", "flavor name")
                )
                selection += f"{', ' if selection else ''}{chosen}: {command.argument}"


@pytest.mark.parametrize("shown", [3, 10])
def test_examples_show_as_many_products_as_sessions(tmp_path: Path, shown: int) -> None:
    for turn in environment_in(tmp_path, shown).examples("beauty")[0].turns:
        parts = turn.observation.split(pages.SEPARATOR)
        if pages.NEXT in parts:
            assert len(parts[parts.index(pages.NEXT) + 1 :]) == 3 * shown


def test_commands_of_examples_begin_with_a_verb() -> None:
    for example in (example for examples in prompts.read_examples(10).values() for example in examples):
        for turn in example.turns:
            assert turn.action.startswith(prompts.VERBS)


@pytest.mark.parametrize("shown", [1, 3, 10])
def test_examples_click_only_what_they_show(shown: int) -> None:
    for example in (example for examples in prompts.read_examples(shown).values() for example in examples):
        results = example.turns[0].observation.split(pages.SEPARATOR)
        clicked = {turn.action[6:-1] for turn in example.turns if turn.action.startswith("click[B0")}
        assert clicked <= set(results)
