"""kubectl apply, and the run goes to Complete with a student that answers."""

from __future__ import annotations

import json
import re
from typing import Any

import openai
import pytest
import yaml

from tests.e2e.cluster import RUN, Namespace
from tests.e2e.conftest import ROOT
from tests.e2e.documents import small

STAGES = [
    "prepare", "r1-rollout", "r1-hints", "r1-teach", "r1-evaluate-base", "r1-train-distilled", "r1-evaluate-distilled",
    "r1-promote",
]  # fmt: skip

TASK = """\
You are in the middle of a room. Looking quickly around you, you see a bed 1, a desk 1, a drawer 1, and a shelf 1.
Your task is to: put some book in bed."""


def assert_ended_as_undisturbed(team: Namespace, run: str, *, train: int = 24, evaluate: int = 16) -> dict[str, Any]:
    """The end state that every run comes to, whatever happened on the way: nothing lost, counted twice or left over."""
    status = team.status(run)
    assert status["phase"] == "Complete", team.describe()
    assert sorted(s["name"] for s in status["stages"]) == sorted(STAGES)
    assert {s["phase"] for s in status["stages"]} == {"Succeeded"}
    (ended,) = status["rounds"]
    assert {name: arm["n"] for name, arm in ended["arms"].items()} == {"base": evaluate, "distilled": evaluate}
    episodes = query(
        team, run,
        """SELECT arm, count(*) AS n, count(DISTINCT task_id) AS tasks,
                  count(*) FILTER (WHERE phase <> 'finished' OR stop = 'broken') AS bad FROM episode GROUP BY arm""",
    )  # fmt: skip
    assert {row["arm"]: (row["n"], row["tasks"], row["bad"]) for row in episodes} == {
        "own": (train, train, 0),
        "teacher": (train, train, 0),
        "base": (evaluate, evaluate, 0),
        "distilled": (evaluate, evaluate, 0),
    }
    assert_no_orphans(team, [run])
    return status


def assert_no_orphans(team: Namespace, runs: list[str]) -> None:
    """Everything in the namespace belongs to one of the runs."""
    uids = {team.get(RUN, run)["metadata"]["uid"] for run in runs}
    for kind in ("jobs", "configmaps", "statefulsets", "deployments", "services", "serviceaccounts", "networkpolicies"):
        for thing in team.list(kind, "app.kubernetes.io/managed-by=distillery"):
            owners = {owner["uid"] for owner in thing["metadata"].get("ownerReferences", [])}
            assert owners & uids, f"{kind}/{thing['metadata']['name']} belongs to none of {runs}"


def query(team: Namespace, run: str, sql: str) -> list[dict[str, Any]]:
    """Rows of the run's quick-start database."""
    wrapped = f"SELECT coalesce(json_agg(found), '[]') FROM ({sql}) AS found"
    pod = f"{run}-database-0"
    printed = team.kubectl("exec", pod, "--", "psql", "-U", "distillery", "-h", "127.0.0.1", "-Atc", wrapped)
    return json.loads(printed)


def ask(team: Namespace, run: str) -> str:
    """The promoted student's reply to a task, by the openai client through its Service."""
    with team.forward(f"service/{run}", 8000) as address:
        client = openai.OpenAI(base_url=f"http://{address}/v1", api_key="none")
        assert [model.id for model in client.models.list()] == [run]
        messages: Any = [{"role": "user", "content": TASK}]
        answer = client.chat.completions.create(model=run, messages=messages, temperature=0, max_tokens=48, stop=["\n"])
        return (answer.choices[0].message.content or "").strip()


def test_a_run_goes_to_complete_and_its_student_answers(team: Namespace):
    document = yaml.safe_load((ROOT / "examples/kubernetes/demo.yaml").read_text())
    tasks = document["spec"]["environment"]["tasks"]
    tasks |= {"train": 48, "evaluate": 32}  # fewer than a person would, for the time it takes
    name = document["metadata"]["name"]
    team.apply(document)
    team.wait_for("a first stage", lambda: team.stage(name, "r1-rollout"), run=name)
    columns = team.kubectl("get", RUN).splitlines()[0].split()
    assert columns == ["NAME", "PHASE", "ROUND", "STAGE", "PROGRESS", "BASE", "STUDENT", "SERVING", "AGE"]
    team.wait_for("progress", lambda: team.status(name).get("progress", {}).get("total") == 48, run=name)

    team.wait_for("the end", lambda: team.condition(name, "Complete").get("status") == "True", run=name)
    waited = team.kubectl("wait", f"{RUN}/{name}", "--for=condition=Complete", "--timeout=5s")
    assert "condition met" in waited
    status = team.status(name)
    assert re.fullmatch(r"\d+\.\d", status["scores"]["base"])
    if status["rounds"][0]["promoted"]:
        assert re.match(r"book (no|\d)", ask(team, name))
    else:
        pytest.fail(f"the student was expected to win: {status['rounds'][0]['reason']}")
    events = team.kubectl("get", "events", f"--field-selector=involvedObject.name={name}", "--output=json")
    reasons = [event["reason"] for event in json.loads(events)["items"]]
    assert reasons.count("StageSucceeded") == len(STAGES)
    assert reasons.count("Complete") == 1
    for pod in team.list("pods", "app.kubernetes.io/managed-by=distillery"):
        logs = team.try_kubectl("logs", pod["metadata"]["name"], "--all-containers").stdout
        assert "postgresql://" not in logs


def test_two_runs_in_two_namespaces_do_not_disturb_each_other(team: Namespace):
    other = team.cluster.namespace(f"{team.name}-b")
    other.create()
    try:
        for namespace in (team, other):
            namespace.apply(small(rollout={"temperature": 0.7, "workers": 2, "leaseSeconds": 15}))
        for namespace in (team, other):
            namespace.wait_for(
                "the end", lambda n=namespace: n.condition("small", "Complete").get("status") == "True", run="small"
            )
            assert_ended_as_undisturbed(namespace, "small")
        workers = query(team, "small", "SELECT count(DISTINCT worker) AS n FROM episode WHERE arm = 'own'")
        assert workers == [{"n": 2}]
    finally:
        other.kubectl("delete", "namespace", other.name, "--wait=false")
