"""Names, weights and sessions; and that nothing is ever sent to what is not there."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from distillery_gateway.errors import Refusal
from distillery_gateway.routing.document import Desired, DesiredFile, InvalidDesired, Target
from distillery_gateway.routing.table import Routes
from tests.unit.gateway.conftest import desired

SESSIONS = [f"session-{number}" for number in range(4000)]


def canary(weight: int, generation: int = 1) -> Desired:
    return desired(generation, bot=(Target("old", 100 - weight), Target("new", weight)))


def chosen(table: Desired) -> dict[str, str]:
    found = {session: table.choose("bot", session) for session in SESSIONS}
    return {session: target.model for session, target in found.items() if target}


def test_weights_are_shares_of_sessions():
    shares = Counter(chosen(canary(10)).values())
    assert 0.08 < shares["new"] / len(SESSIONS) < 0.12
    assert set(chosen(canary(0)).values()) == {"old"}
    assert set(chosen(canary(100)).values()) == {"new"}


def test_a_session_stays_where_it_is():
    assert chosen(canary(30)) == chosen(canary(30))


def test_a_session_that_was_given_the_newcomer_keeps_it_as_its_share_grows():
    before, after = chosen(canary(10)), chosen(canary(50))
    assert all(after[session] == "new" for session, model in before.items() if model == "new")


def test_a_session_whose_name_is_no_text_has_its_place_too():
    assert canary(10).choose("bot", "\ud800")


def test_a_table_is_taken_over_only_once_the_incumbents_in_it_are_held():
    routes = Routes()
    assert not routes.offer(canary(10), {"new"})
    with pytest.raises(Refusal) as refusal:
        routes.target("bot", "s")
    assert refusal.value.status == 503, "nobody knows yet that there is no such model"
    assert routes.offer(canary(10), {"old", "new"})
    assert routes.generation == 1
    with pytest.raises(Refusal) as refusal:
        routes.target("nosuch", "s")
    assert refusal.value.status == 404
    assert not routes.offer(desired(2, bot=(Target("newer"),)), {"old", "new"})
    assert routes.target("bot", "s").model in ("old", "new")


def test_what_has_no_share_need_not_be_held():
    routes = Routes()
    assert routes.offer(canary(0), {"old"})


def test_requests_are_to_come_as_long_as_what_they_are_sent_to_is_there():
    routes = Routes()
    assert routes.waits_for == "nothing is served yet"
    routes.offer(canary(10), {"old", "new"})
    assert routes.waits_for == ""
    routes.see(())  # vLLM is away
    assert routes.waits_for == "vLLM does not hold old"
    routes.see({"old", "new"})
    assert not routes.offer(desired(2, bot=(Target("newer"),)), {"old", "new"})
    assert routes.waits_for == "", "a newcomer that is not there yet stops nobody"


def test_a_newcomer_that_is_not_there_stops_no_pod_and_the_incumbent_answers_for_it():
    routes = Routes()
    shadow = desired(1, bot=(Target("old"),))
    table = Desired(1, shadow.adapters, canary(50).aliases, {"bot": Target("new")})
    assert not routes.offer(table, {"old"})
    assert (routes.generation, routes.waits_for) == (0, ""), "it serves, but not yet what it was told"
    assert {routes.target("bot", session).model for session in SESSIONS} == {"old"}
    assert routes.shadow("bot") is None
    assert "new" in routes.in_use, "it is not unloaded just when it came"
    assert routes.offer(table, {"old", "new"})
    assert routes.generation == 1
    assert {routes.target("bot", session).model for session in SESSIONS} == {"old", "new"}
    assert routes.shadow("bot") == Target("new")
    routes.see({"old"})  # vLLM started again
    assert (routes.generation, routes.waits_for) == (1, "")
    assert {routes.target("bot", session).model for session in SESSIONS} == {"old"}
    routes.see(())
    assert {routes.target("bot", session).model for session in SESSIONS} == {"old", "new"}, "both fail"


def test_a_model_is_in_use_until_its_last_request_ended():
    routes = Routes()
    routes.offer(canary(10), {"old", "new"})
    with routes.running("old"):
        routes.offer(desired(2, bot=(Target("new"),)), {"old", "new"})
        assert routes.in_use == {"old", "new"}
    assert routes.in_use == {"new"}


def test_a_file_is_read_when_it_changes_and_a_wrong_one_changes_nothing(tmp_path: Path):
    path = tmp_path / "desired"
    file = DesiredFile(path)
    assert not file.refresh()
    document = {
        "generation": 3,
        "adapters": [{"name": "new", "artifact": "r1-train-distilled", "digest": "00"}],
        "aliases": {"bot": [{"model": "base", "weight": 90}, {"model": "new", "weight": 10}]},
        "shadows": {"bot": {"model": "newer", "upstream": "http://there", "student": "0123456789ab"}},
    }
    path.write_text(json.dumps(document))
    assert file.refresh()
    assert not file.refresh()
    assert file.current.aliases["bot"][1] == Target("new", 10)
    assert file.current.shadows["bot"] == Target("newer", upstream="http://there", student="0123456789ab")
    for wrong in (
        "{",
        "[]",
        '{"aliases": {}}',
        '{"generation": 4, "aliases": {"bot": [{"modle": "x"}]}}',
        '{"generation": 4, "shadows": {"bot": "newer"}}',
    ):
        path.write_text(wrong)
        with pytest.raises(InvalidDesired):
            file.refresh()
        assert not file.refresh()  # told of once
        assert file.current.generation == 3


def test_document_of_a_newer_operator_is_read_as_far_as_it_is_known():
    target, adapter = {"model": "x"}, {"name": "a", "artifact": "b", "digest": "c"}
    known = {"generation": 4, "aliases": {"bot": [target]}, "adapters": [adapter]}
    more = {"speculation": True}
    newer = {**known, **more, "aliases": {"bot": [target | more]}, "adapters": [adapter | more]}
    assert Desired.parse(json.dumps(newer)) == Desired.parse(json.dumps(known))
