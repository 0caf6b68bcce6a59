"""The report as data: everything that the page shows, and nothing that is not in the database or the artifacts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from distillery import __version__
from distillery.core.api import DistillationRun, canonical, without_defaults
from distillery.core.api.problems import flatten
from distillery.core.artifacts import ArtifactNotFound, Store
from distillery.core.planner.graph import Kind, StageId
from distillery.core.planner.plays import BASELINE, teacher_plays_alike
from distillery.core.planner.prepared import open_prepared
from distillery.database import Database
from distillery.database.episodes import EpisodeStore
from distillery.database.extractions import ExtractionStore
from distillery.database.stages import StageStore
from distillery.hints.bank import HintBank
from distillery.report.pairs import solved_pairs

_PLAYS = (Kind.ROLLOUT, Kind.TEACH, Kind.EVALUATE)


class NoReport(Exception):
    """A request for the report of a run of which no round has ended."""


async def build_report(
    database: Database,
    run_id: int,
    run: DistillationRun,
    store: Store,
    ended: Mapping[int, Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the report over the rounds that ended.

    Args:
        database: with the run's episodes and hints.
        run_id: the run.
        run: its resource.
        store: its artifacts.
        ended: results of stage promote that are not in the database yet, by round.

    Raises:
        NoReport: no round ended.
    """
    stages = {row["name"]: row for row in await StageStore(database, run_id).read()}
    results = dict(ended)
    for name, row in stages.items():
        if name.endswith("-promote") and row["result"]:
            results.setdefault(int(name[1 : name.index("-")]), row["result"])
    if not results:
        raise NoReport(f"no round of run {run.key} has ended yet; see distillery status {run.key}")
    spec = run.spec
    _, prepared = open_prepared(store, spec.environment.tasks.evaluate)
    bank = HintBank.of(run, database)
    rounds = [
        {"round": number, **_drop_files(results[number]), **_describe_round(number, stages)}
        for number in sorted(results)
    ]
    last = rounds[-1]
    candidate = candidate_of(last)
    extracted = await ExtractionStore(database).count_tokens(run_id)
    stage_facts = [_describe_stage(name, row, extracted) for name, row in stages.items()]
    return {
        "run": run.key,
        **_find_dates(stages.values()),
        "settings": list_settings(run),
        "adapter": _find_adapter(store, rounds),
        "next": suggest_commands(run.key, rounds),
        "summary": summarize(last),
        "distillery": __version__,
        "environment": prepared["environment"],
        "tasks": prepared["tasks"],
        "agent": spec.agent.name,
        "maxSteps": spec.environment.max_steps,
        "base": prepared["base"],
        "retriever": {"name": spec.hints.retriever, "topK": spec.hints.top_k},
        "arms": last["arms"],
        "comparisons": last["comparisons"],
        "candidate": candidate,
        "costs": last.get("costs", {}),
        "confirm": last.get("confirm"),
        "gate": last["gate"],
        "promoted": last["promoted"],
        "rounds": rounds,
        "hints": [describe_hint(row) for row in await bank.statistics(plays_alike=teacher_plays_alike(spec))],
        "episodes": await solved_pairs(EpisodeStore(database, run_id), round=last["round"], candidate=candidate),
        "tokens": _sum_tokens([stage["tokens"] for stage in stage_facts if stage["tokens"]]),
        "stages": stage_facts,
    }


def candidate_of(ended: Mapping[str, Any]) -> str:
    """Return the student that a round judged; earlier releases always judged the same."""
    return ended.get("candidate", "distilled")


def list_settings(run: DistillationRun) -> dict[str, Any]:
    """Return the settings that differ from the defaults, and every seed, by their paths."""
    given = flatten(without_defaults(run)["spec"], "spec")
    return {
        path: value
        for path, value in flatten(canonical(run)["spec"], "spec").items()
        if path in given or path.rpartition(".")[2] == "seed"
    }


def _find_dates(stages: Collection[Mapping[str, Any]]) -> dict[str, str | None]:
    """Return when the first stage started, and when the last one that ended did."""
    ends = [row["finished_at"] for row in stages if row["finished_at"]]
    return {
        "started": min(row["started_at"] for row in stages).isoformat(),
        "finished": max(ends).isoformat() if ends else None,
    }


def _find_adapter(store: Store, rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the adapter of the student promoted last, or of the last one that was trained; None if it is not there."""
    trained = [one for one in rounds if one["student"]]
    chosen = [one for one in trained if one["promoted"]] or trained
    if not chosen:
        return None
    number = chosen[-1]["round"]
    try:
        place = store.place(str(StageId(number, Kind.TRAIN, candidate_of(chosen[-1]))))
    except ArtifactNotFound:
        return None
    return {"round": number, "place": place, "digest": chosen[-1]["student"]}


def suggest_commands(key: str, rounds: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return the commands that make sense after the last round, each with its purpose."""
    last = rounds[-1]
    commands = list[dict[str, str]]()
    if any(one["promoted"] for one in rounds):
        commands.append(
            {"command": f"distillery serve {key}", "purpose": "serve the promoted student on the run's machine"}
        )
    if last["student"] and not last["promoted"]:
        chosen = f"{key} --round {last['round']}"
        commands.append({"command": f"distillery serve {chosen}", "purpose": "try its student all the same"})
        commands.append({"command": f"distillery promote {chosen}", "purpose": "on a cluster, serve it to users"})
    return [*commands, {"command": f"distillery hints {key}", "purpose": "see all hints"}]


def describe_hint(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a hint with its origin and the success of episodes with it and without it."""
    return {
        "text": row["text"],
        "category": row["category"],
        "support": row["support"],
        "round": row["round"],
        "extractor": row["extractor"],
        "model": row["model"],
        "uses": row["uses"],
        "successWith": row["success_with"],
        "successWithout": row["success_without"],
        "successWithoutHints": row["success_without_hints"],
    }


def summarize(ended: Mapping[str, Any]) -> str:
    """Describe the end of a round in plain words: how much was solved, what became of the student, and why."""
    arms = (ended.get("confirm") or ended)["arms"]
    base, student = arms.get(BASELINE), arms.get(candidate_of(ended))
    fate = "Promoted." if ended["promoted"] else "Not promoted."
    if not (base and student):
        return f"{fate} {ended['gate']['reason']}"
    what = "tasks" if student["n"] == student["tasks"] else "episodes"
    seen = " that no gate had seen" if ended.get("confirm") else ""
    return (
        f"{fate} The student solved {student['successes']} of {student['n']} held-out {what}{seen}; the model that the "
        f"round started with solved {base['successes']} of {base['n']}. {ended['gate']['reason']}"
    )


def _describe_stage(
    name: str, row: Mapping[str, Any], extracted: Mapping[int, dict[str, int | None]]
) -> dict[str, Any]:
    """Return when a stage ran, and its tokens.

    The tokens are those that its arms played, that the extractor used on failures of its round, or that its student
    read.
    """
    result, sid = row["result"] or {}, StageId.parse(name)
    arms = list(result.get("arms", {}).values()) if sid.kind in _PLAYS else []
    return {
        "name": name,
        "kind": sid.kind.value,
        "round": sid.round,
        "phase": row["phase"],
        "attempts": row["attempts"],
        "started": row["started_at"].isoformat(),
        "finished": row["finished_at"].isoformat() if row["finished_at"] else None,
        "seconds": (row["finished_at"] - row["started_at"]).total_seconds() if row["finished_at"] else None,
        "episodes": sum(arm["n"] for arm in arms) if arms else None,
        "tokens": _sum_played_tokens(arms) if arms else extracted.get(sid.round) if sid.kind is Kind.HINTS else None,
        "tokensRead": result.get("metrics", {}).get("tokens"),
    }


def _sum_played_tokens(arms: Sequence[Mapping[str, Any]]) -> dict[str, int | None]:
    """Return the tokens that the arms of a stage played."""
    return _sum_tokens(
        [
            {"prompt": arm["promptTokens"], "completion": arm["completionTokens"], "cached": arm["cachedTokens"]}
            for arm in arms
        ]
    )


def _sum_tokens(tokens: Sequence[Mapping[str, int | None]]) -> dict[str, int | None]:
    """Return the tokens together; those from the server's cache are None unless every server reported them."""
    cached = [count["cached"] for count in tokens]
    return {
        "prompt": sum(count["prompt"] or 0 for count in tokens),
        "completion": sum(count["completion"] or 0 for count in tokens),
        "cached": None if None in cached else sum(count or 0 for count in cached),
    }


def _describe_round(number: int, stages: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the round learned from: its play on training tasks, its hints, its students."""

    def result(name: str) -> dict[str, Any]:
        row = stages.get(f"r{number}-{name}")
        return dict(row["result"] or {}) if row else {}

    played: dict[str, Any] = {}
    for name, row in stages.items():
        sid = StageId.parse(name)
        if sid.round == number and sid.kind in (Kind.ROLLOUT, Kind.TEACH):
            played |= (row["result"] or {}).get("arms", {})
    prefix = f"r{number}-train-"
    return {
        "training": played,
        "bank": _drop_files(result("hints")),
        "students": {
            name.removeprefix(prefix): _drop_files(row["result"])
            for name, row in stages.items()
            if name.startswith(prefix) and row["result"]
        },
    }


def _drop_files(result: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key not in ("files", "run", "stage")}
