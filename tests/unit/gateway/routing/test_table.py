"""Routes: names, weights and sessions. No request is ever sent to a model that is not loaded."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from distillery.core.contracts.routing import InvalidRoutingConfig, RoutingConfig, Target
from distillery_gateway.errors import ApiError
from distillery_gateway.routing.file import RoutingFile
from distillery_gateway.routing.selection import select_target
from distillery_gateway.routing.table import Routes
from tests.unit.gateway.conftest import routing_config

SESSIONS = [f"session-{number}" for number in range(4000)]


def canary(weight: int, generation: int = 1) -> RoutingConfig:
    return routing_config(generation, bot=(Target("old", 100 - weight), Target("new", weight)))


def chosen(table: RoutingConfig) -> dict[str, str]:
    targets = {session: select_target(table, "bot", session) for session in SESSIONS}
    return {session: target.model for session, target in targets.items() if target}


def test_weights_are_shares_of_sessions():
    shares = Counter(chosen(canary(10)).values())
    assert 0.08 < shares["new"] / len(SESSIONS) < 0.12
    assert set(chosen(canary(0)).values()) == {"old"}
    assert set(chosen(canary(100)).values()) == {"new"}


def test_session_keeps_its_target_when_weights_stay():
    assert chosen(canary(30)) == chosen(canary(30))


def test_session_keeps_the_canary_when_its_share_grows():
    before, after = chosen(canary(10)), chosen(canary(50))
    assert all(after[session] == "new" for session, model in before.items() if model == "new")


def test_session_has_a_target_when_its_name_has_half_a_character():
    assert select_target(canary(10), "bot", "\ud800")


def test_config_is_applied_when_its_stable_models_are_loaded():
    routes = Routes()
    assert not routes.try_apply(canary(10), {"new"})
    with pytest.raises(ApiError) as refusal:
        routes.target("bot", "s")
    assert refusal.value.status == 503, "nobody knows yet that there is no such model"
    assert routes.try_apply(canary(10), {"old", "new"})
    assert routes.generation == 1
    with pytest.raises(ApiError) as refusal:
        routes.target("nosuch", "s")
    assert refusal.value.status == 404
    assert not routes.try_apply(routing_config(2, bot=(Target("newer"),)), {"old", "new"})
    assert routes.target("bot", "s").model in ("old", "new")


def test_config_is_applied_when_a_model_without_share_is_missing():
    routes = Routes()
    assert routes.try_apply(canary(0), {"old"})


def test_routes_are_ready_while_stable_models_are_loaded():
    routes = Routes()
    assert routes.not_ready_reason == "nothing is served yet"
    routes.try_apply(canary(10), {"old", "new"})
    assert routes.not_ready_reason == ""
    routes.set_loaded_models(())  # vLLM is away
    assert routes.not_ready_reason == "vLLM does not hold old"
    routes.set_loaded_models({"old", "new"})
    assert not routes.try_apply(routing_config(2, bot=(Target("newer"),)), {"old", "new"})
    assert routes.not_ready_reason == "", "a canary that is not loaded yet stops no request"


def test_stable_answers_when_the_canary_is_not_loaded():
    routes = Routes()
    shadow = routing_config(1, bot=(Target("old"),))
    table = RoutingConfig(1, shadow.adapters, canary(50).aliases, {"bot": Target("new")})
    assert not routes.try_apply(table, {"old"})
    assert (routes.generation, routes.not_ready_reason) == (0, ""), "it serves, but not yet the new config"
    assert {routes.target("bot", session).model for session in SESSIONS} == {"old"}
    assert routes.shadow("bot") is None
    assert "new" in routes.in_use, "it is not unloaded just when it came"
    assert routes.try_apply(table, {"old", "new"})
    assert routes.generation == 1
    assert {routes.target("bot", session).model for session in SESSIONS} == {"old", "new"}
    assert routes.shadow("bot") == Target("new")
    routes.set_loaded_models({"old"})  # vLLM started again
    assert (routes.generation, routes.not_ready_reason) == (1, "")
    assert {routes.target("bot", session).model for session in SESSIONS} == {"old"}
    routes.set_loaded_models(())
    assert {routes.target("bot", session).model for session in SESSIONS} == {"old", "new"}, "both fail"


def test_model_behind_another_gateway_needs_not_be_loaded():
    routes, elsewhere = Routes(), Target("new", 50, upstream="http://there")
    config = routing_config(1, bot=(Target("old", 50), elsewhere))
    assert routes.try_apply(RoutingConfig(1, (), config.aliases, {"bot": elsewhere}), {"old"}) is True
    assert {routes.target("bot", session).model for session in SESSIONS} == {"old", "new"}
    assert routes.shadow("bot") == elsewhere
    assert routes.in_use == {"old"}


def test_routes_are_not_fully_loaded_before_the_canary_is():
    routes = Routes()
    assert routes.fully_loaded is False
    assert routes.try_apply(canary(10), {"old"}) is False
    assert routes.try_apply(canary(10), {"old", "new"}) is True
    assert routes.fully_loaded is True


def test_routes_tell_their_names_and_the_loaded_models():
    routes = Routes()
    routes.try_apply(canary(10), ["old", "new"])
    assert (list(routes.aliases), routes.loaded_models) == (["bot"], {"old", "new"})


def test_new_config_is_applied_only_once():
    routes = Routes()
    routes.try_apply(canary(10), {"old", "new"})
    traffic = routes.traffic
    routes.try_apply(canary(10), {"old", "new"})
    assert routes.traffic is traffic
    routes.try_apply(canary(20, generation=2), {"old", "new"})
    assert routes.traffic is not traffic


def test_alias_has_no_shadow_unless_it_is_named():
    routes = Routes()
    routes.try_apply(canary(10), {"old", "new"})
    assert routes.shadow("bot") is None


def test_model_is_in_use_until_its_last_request_ends():
    routes = Routes()
    routes.try_apply(canary(10), {"old", "new"})
    with routes.running("old"):
        routes.try_apply(routing_config(2, bot=(Target("new"),)), {"old", "new"})
        assert routes.in_use == {"old", "new"}
    assert routes.in_use == {"new"}


def test_routing_file_keeps_its_document_when_a_new_text_is_invalid(tmp_path: Path):
    path = tmp_path / "desired"
    file = RoutingFile(path)
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
        with pytest.raises(InvalidRoutingConfig):
            file.refresh()
        assert not file.refresh()  # reported once
        assert file.current.generation == 3
