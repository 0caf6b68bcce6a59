"""kubectl apply, and the run goes to Complete with a student that answers."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Generator
from typing import Any

import openai
import pytest
import yaml

from tests.e2e.conftest import ROOT, namespace, template
from tests.e2e.support import s3
from tests.e2e.support.cluster import RUN, Cluster, Namespace
from tests.e2e.support.documents import TASK, small
from tests.e2e.support.prometheus import SECONDS, Prometheus

pytestmark = pytest.mark.full

EXAMPLE = "alfworld-micro"

STAGES = [
    "prepare", "r1-rollout", "r1-hints", "r1-teach", "r1-evaluate-baseline", "r1-train-distilled",
    "r1-evaluate-distilled", "r1-promote",
]  # fmt: skip


def assert_ended_as_undisturbed(team: Namespace, run: str) -> dict[str, Any]:
    """The end state that every run comes to, whatever happened on the way."""
    status = team.status(run)
    assert status["phase"] == "Complete", team.describe()
    assert sorted(s["name"] for s in status["stages"]) == sorted(STAGES)
    assert {s["phase"] for s in status["stages"]} == {"Succeeded"}
    assert_nothing_was_lost(team, run)
    return status


def assert_nothing_was_lost(team: Namespace, run: str, *, train: int = 24, evaluate: int = 16) -> None:
    """Every task of the one round was played once in each arm, and nothing is left over."""
    (ended,) = team.status(run)["rounds"]
    assert {name: arm["n"] for name, arm in ended["arms"].items()} == {"baseline": evaluate, "distilled": evaluate}
    episodes = query(
        team, run,
        """SELECT arm, count(*) AS n, count(DISTINCT task_id) AS tasks,
                  count(*) FILTER (WHERE phase <> 'finished' OR stop_reason = 'broken') AS bad
           FROM episode GROUP BY arm""",
    )  # fmt: skip
    assert {row["arm"]: (row["n"], row["tasks"], row["bad"]) for row in episodes} == {
        "own": (train, train, 0),
        "teacher": (train, train, 0),
        "baseline": (evaluate, evaluate, 0),
        "distilled": (evaluate, evaluate, 0),
    }
    assert_no_orphans(team, [run])


def assert_no_orphans(team: Namespace, runs: list[str]) -> None:
    """Everything in the namespace belongs to one of the runs."""
    uids = {team.get(RUN, run)["metadata"]["uid"] for run in runs}
    for kind in ("jobs", "configmaps", "statefulsets", "deployments", "services", "serviceaccounts", "networkpolicies"):
        for thing in team.list(kind, "app.kubernetes.io/managed-by=distillery"):
            owners = {owner["uid"] for owner in thing["metadata"].get("ownerReferences", [])}
            assert owners & uids, f"{kind}/{thing['metadata']['name']} belongs to none of {runs}"


def query(team: Namespace, run: str, sql: str) -> list[dict[str, Any]]:
    """Rows of the run's quick-start database."""
    open_database(team, run)
    wrapped = f"SELECT coalesce(json_agg(found), '[]') FROM ({sql}) AS found"
    pod = f"{run}-database-0"
    printed = team.kubectl("exec", pod, "--", "psql", "-U", "distillery", "-h", "127.0.0.1", "-Atc", wrapped)
    return json.loads(printed)


def open_database(team: Namespace, run: str) -> None:
    """Start the quick-start database of a complete run again, once the operator has stopped it."""
    name, feedback = f"{run}-database", team.get(RUN, run)["spec"]["serving"].get("feedback")
    if team.status(run).get("phase") != "Complete" or feedback is not None:
        return

    def stopped() -> bool:
        return "distillery.dev/stopped" in team.get("statefulset", name)["metadata"].get("annotations", {})

    team.wait_for("the end of its database", stopped)
    team.kubectl("scale", "statefulset", name, "--replicas=1")
    team.kubectl("rollout", "status", f"statefulset/{name}", "--timeout=600s")


def ask(team: Namespace, run: str) -> str:
    """The promoted student's reply to a task, by the openai client through its Service."""
    with team.forward(f"service/{run}", 8000) as address:
        client = openai.OpenAI(base_url=f"http://{address}/v1", api_key="none")
        assert [model.id for model in client.models.list()] == [run]
        messages: Any = [{"role": "user", "content": TASK}]
        answer = client.chat.completions.create(model=run, messages=messages, temperature=0, max_tokens=48, stop=["\n"])
        return (answer.choices[0].message.content or "").strip()


@pytest.fixture(scope="module")
def example(cluster: Cluster, operator: Namespace, prometheus: Prometheus) -> Generator[Namespace]:
    """A user's namespace where the example was applied."""
    with namespace(cluster, "e2e-example") as made:
        document = yaml.safe_load((ROOT / "examples/kubernetes/demo.yaml").read_text())
        document["spec"]["environment"]["tasks"] |= {"train": 72, "evaluate": 64}  # fewer, for the time it takes,
        document["spec"]["promotion"] = {"gate": {"confidence": 0.5}}  # and a gate that so few can pass
        made.apply(document)
        yield made


@pytest.fixture(scope="module")
def in_s3(cluster: Cluster, operator: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Generator[Namespace]:
    """Another namespace, at the same time: two workers a stage, and artifacts in S3."""
    with namespace(cluster, "e2e-s3") as made:
        for manifest in s3.server(s3.image(cluster, tmp_path_factory.mktemp("s3"))):
            made.apply(manifest)
        made.kubectl("wait", "pod/s3", "--for=condition=Ready", "--timeout=600s")
        made.apply(small(rollout={"temperature": 0.7, "workers": 2, "leaseSeconds": 15}, storage=s3.STORAGE))
        yield made


def test_example_reports_its_progress(example: Namespace, in_s3: Namespace):
    example.wait_for("a first stage", lambda: example.stage(EXAMPLE, "r1-rollout"), run=EXAMPLE)
    columns = example.kubectl("get", RUN).splitlines()[0].split()
    assert columns == ["NAME", "PHASE", "READY", "ROUND", "STAGE", "PROGRESS", "BASE", "STUDENT", "SERVING", "AGE"]
    example.wait_for("progress", lambda: example.status(EXAMPLE).get("progress", {}).get("total") == 72, run=EXAMPLE)


def test_example_completes_and_its_student_answers(example: Namespace, in_s3: Namespace):
    example.wait_for("the end", lambda: example.condition(EXAMPLE, "Complete").get("status") == "True", run=EXAMPLE)
    waited = example.kubectl("wait", f"{RUN}/{EXAMPLE}", "--for=condition=Complete", "--timeout=5s")
    assert "condition met" in waited
    status = example.status(EXAMPLE)
    assert re.fullmatch(r"\d+\.\d", status["scores"]["baseline"])
    (ended,) = status["rounds"]
    assert ended["promoted"], f"the student was expected to win: {ended['reason']}"
    assert status["serving"]["url"] == f"http://{EXAMPLE}.{example.name}.svc:8000/v1"
    assert re.match(r"book (no|\d)", ask(example, EXAMPLE))


def test_each_stage_is_reported_once_and_no_log_holds_a_secret(example: Namespace):
    events = example.kubectl("get", "events", f"--field-selector=involvedObject.name={EXAMPLE}", "--output=json")
    reasons = [event["reason"] for event in json.loads(events)["items"]]
    assert reasons.count("StageSucceeded") == len(STAGES)
    assert reasons.count("RunCompleted") == 1
    logs = [
        example.try_kubectl("logs", pod["metadata"]["name"], "--all-containers").stdout
        for pod in example.list("pods", "app.kubernetes.io/managed-by=distillery")
    ]
    assert any("stage r1-rollout: 72 of 72 episodes" in log for log in logs)
    assert not any("postgresql://" in log for log in logs)


def test_workers_share_games_when_artifacts_are_in_s3(in_s3: Namespace, example: Namespace):
    in_s3.wait_for("the end", lambda: in_s3.condition("small", "Complete").get("status") == "True", run="small")
    status = assert_ended_as_undisturbed(in_s3, "small")
    (rollout,) = (job for job in in_s3.list("jobs", "distillery.dev/stage=r1-rollout"))
    assert rollout["status"]["succeeded"] == 2
    names = [claim["metadata"]["name"] for claim in in_s3.list("persistentvolumeclaims")]
    assert names == ["data-small-database-0"]
    stored = in_s3.kubectl("exec", "s3", "--", "find", "/data/runs", "-name", "result.json").split()
    assert len(stored) == len(STAGES)
    if status["rounds"][0]["promoted"]:
        assert ask(in_s3, "small")


def test_recreated_run_has_its_own_results_in_the_same_prefix(in_s3: Namespace):
    """Last of those in the bucket: the run and its database go, and another of its name comes."""

    def manifests() -> dict[str, dict[str, Any]]:
        found = in_s3.kubectl("exec", "s3", "--", "find", "/data/runs", "-name", "result.json").split()
        return {path: json.loads(in_s3.kubectl("exec", "s3", "--", "cat", path)) for path in found}

    before, uid = manifests(), in_s3.get(RUN, "small")["metadata"]["uid"]
    again = small(rollout={"temperature": 0.7, "workers": 2, "leaseSeconds": 15}, storage=s3.STORAGE)
    again["spec"]["training"]["seed"] = 7
    in_s3.kubectl("delete", RUN, "small", "--wait", "--cascade=foreground", "--timeout=300s")
    in_s3.kubectl("delete", "persistentvolumeclaim", "data-small-database-0", "--ignore-not-found", "--timeout=300s")
    in_s3.apply(again)
    in_s3.wait_for("the end", lambda: in_s3.condition("small", "Complete").get("status") == "True", run="small")
    status = assert_ended_as_undisturbed(in_s3, "small")
    after, now = manifests(), in_s3.get(RUN, "small")["metadata"]["uid"]
    assert {path: after[path] for path in before} == before
    made = {m["stage"]: m for path, m in after.items() if path not in before}
    assert sorted(made) == sorted(STAGES)
    assert now != uid
    assert all(manifest["run"].startswith(now) for manifest in made.values())
    (train,) = (m for m in before.values() if m["stage"] == "r1-train-distilled")
    assert made["r1-train-distilled"]["seed"] == 7
    assert status["rounds"][0]["student"] == made["r1-train-distilled"]["student"] != train["student"]


def test_every_panel_of_the_dashboard_shows_data(cluster: Cluster, example: Namespace, prometheus: Prometheus):
    for _ in range(3):  # a rate takes two looks at what changed between them
        ask(example, EXAMPLE)
        time.sleep(2 * SECONDS)
    rendered = template(cluster, "dashboards.enabled=true")
    (board,) = (json.loads(m["data"]["distillery.json"]) for m in rendered if m["kind"] == "ConfigMap")
    asked = {(panel["title"], target["expr"]) for panel in board["panels"] for target in panel["targets"]}
    assert len(asked) > 10
    assert [title for title, expression in sorted(asked) if not prometheus.shows(expression)] == []
