"""What is served, from a promotion to its last replica, and back."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from distillery.core.contracts.traffic import Counts
from distillery_operator.decide.canary.pods import list_pods_to_poll
from distillery_operator.manifests.gateway import GENERATION
from distillery_operator.manifests.jobs import HISTORY
from distillery_operator.model.names import STAGE_LABEL
from distillery_operator.model.objects import Manifest
from distillery_operator.model.observed import Observed
from distillery_operator.pods import serving
from distillery_operator.pods.serving import PodReport
from distillery_operator.settings import Settings
from tests.fakes.cluster import FakeCluster, result_of, run_object
from tests.paths import ROOT
from tests.unit.operator.decide.canary.scenario import BAD, CanaryScenario

FIRST, SECOND = "student-1abcdef01234", "student-2abcdef01234"


def cluster_after_round(number: int, *, weights: str = "adapter", **spec: Any) -> FakeCluster:
    """A cluster where round ``number`` has just been won, and whose servers have not been asked since."""
    spec = {"rounds": {"maxRounds": 3}, "promotion": {"weights": weights}, "serving": {"replicas": 2}, **spec}
    cluster = FakeCluster(run_object(**spec))
    for _ in range(400):
        cluster.reconcile()
        if len(cluster.status.get("rounds", [])) == number:
            return cluster
        cluster.get_ready()
        for job in cluster.running_jobs():
            cluster.end_job(job, "Complete", word={"result": result_of(job["metadata"]["labels"][STAGE_LABEL])})
    raise AssertionError(f"the round does not end: {cluster.status}")


def served_model(cluster: FakeCluster) -> str:
    (target,) = cluster.desired()["aliases"]["test"]
    return target["model"]


def template(cluster: FakeCluster) -> Manifest:
    return cluster.objects["Deployment", "test"]["spec"]["template"]


def pin(cluster: FakeCluster, number: int | None) -> None:
    cluster.body["spec"]["serving"].pop("pinnedRound", None)
    if number is not None:
        cluster.body["spec"]["serving"]["pinnedRound"] = number


def history(cluster: FakeCluster) -> list[tuple[str, int]]:
    return [(entry["student"], entry["round"]) for entry in cluster.status["serving"]["history"]]


def test_promoted_adapter_changes_the_routing_and_not_the_pods():
    cluster = cluster_after_round(1)
    before, routing = template(cluster), cluster.desired()
    assert served_model(cluster) == FIRST
    while len(cluster.status["rounds"]) < 2:
        cluster.reconcile()
        cluster.get_ready()
        for job in cluster.running_jobs():
            cluster.end_job(job, "Complete", word={"result": result_of(job["metadata"]["labels"][STAGE_LABEL])})
    assert template(cluster) == before
    assert served_model(cluster) == SECOND
    assert cluster.desired()["generation"] != routing["generation"]


def test_a_promotion_of_merged_weights_replaces_the_pods():
    first, second = cluster_after_round(1, weights="merged"), cluster_after_round(2, weights="merged")
    assert template(first) != template(second)
    assert served_model(first) == served_model(second) == "test"


def test_student_is_served_when_every_replica_reports_its_generation():
    cluster = cluster_after_round(1)
    cluster.get_ready()
    cluster.generations = {"test-0": cluster.desired()["generation"], "test-1": 0}
    decision = cluster.reconcile()
    serving = cluster.condition("Serving")
    assert (serving["status"], serving["reason"]) == ("False", "RollingOut")
    assert serving["message"] == "1 of 2 servers of student 1abcdef01234 are ready."
    assert cluster.status["serving"]["readyReplicas"] == 1
    assert decision.requeue == 1.0
    cluster.generations["test-1"] = cluster.desired()["generation"]
    cluster.reconcile()
    assert cluster.condition("Serving")["status"] == "True"
    assert cluster.status["serving"]["student"] == "1abcdef01234"


def test_pod_is_polled_less_often_when_it_stays_silent():
    cluster = cluster_after_round(1)
    cluster.get_ready()
    cluster.generations.clear()
    assert cluster.reconcile().requeue == 1.0
    for _ in range(61):
        cluster.reconcile()
    assert cluster.reconcile().requeue == 15.0
    assert cluster.condition("Serving")["status"] == "False"


def test_serving_needs_no_reported_generation_when_weights_are_merged():
    cluster = cluster_after_round(1, weights="merged")
    cluster.get_ready()
    cluster.generations.clear()
    cluster.reconcile()
    assert cluster.condition("Serving")["status"] == "True"


def test_pods_are_annotated_once_when_their_routing_changes():
    cluster = cluster_after_round(1)
    cluster.get_ready()
    decision = cluster.reconcile()
    generation = cluster.desired()["generation"]
    assert {(reference.name, generation) for reference, generation in decision.annotate} == {
        ("test-0", generation),
        ("test-1", generation),
    }
    assert cluster.reconcile().annotate == ()
    pin(cluster, 0)
    assert (
        {annotated for _, annotated in cluster.reconcile().annotate}
        == {cluster.desired()["generation"]}
        != {generation}
    )


def test_student_is_rolled_back_and_promoted_again():
    cluster = FakeCluster(run_object(rounds={"maxRounds": 2}, promotion={"weights": "adapter"}))
    assert cluster.run() == "Complete"
    before = template(cluster)
    assert served_model(cluster) == SECOND
    for number, model, student in ((1, FIRST, "1abcdef01234"), (0, "base", "base"), (None, SECOND, "2abcdef01234")):
        pin(cluster, number)
        cluster.reconcile()
        assert served_model(cluster) == model
        assert cluster.condition("Serving")["status"] == "False"
        cluster.get_ready()
        cluster.reconcile()
        assert cluster.condition("Serving")["status"] == "True"
        assert cluster.status["serving"]["student"] == student
        assert cluster.status["phase"] == "Complete"
    assert template(cluster) == before
    assert history(cluster) == [
        ("2abcdef01234", 2), ("base", 0), ("1abcdef01234", 1), ("2abcdef01234", 2), ("1abcdef01234", 1),
    ]  # fmt: skip
    reasons = [entry["reason"] for entry in cluster.status["serving"]["history"]]
    assert reasons[:3] == [
        "Because.",
        "spec.serving.pinnedRound is 0, the base model.",
        "spec.serving.pinnedRound is 1.",
    ]


def test_merged_weights_are_replaced_when_an_earlier_round_is_pinned():
    cluster = FakeCluster(run_object(promotion={"weights": "merged"}))
    assert cluster.run() == "Complete"
    pin(cluster, 0)
    cluster.reconcile()
    assert template(cluster)["metadata"]["labels"]["distillery.dev/student"] == "base"
    server = template(cluster)["spec"]["initContainers"][1]
    assert server["command"][server["command"].index("--model") + 1] == "/models/tiny"


def test_failed_candidate_is_served_when_its_round_is_pinned():
    cluster = FakeCluster(run_object(promotion={"weights": "adapter"}, serving={"pinnedRound": 1}))
    assert cluster.run(result=lambda stage: result_of(stage, promoted=False)) == "Complete"
    assert served_model(cluster) == FIRST
    assert history(cluster) == [("1abcdef01234", 1)]
    pin(cluster, None)
    cluster.reconcile()
    assert served_model(cluster) == "base"
    assert history(cluster) == [("base", 0), ("1abcdef01234", 1)]


@pytest.mark.parametrize(("student", "message"), [(None, "trained no student"), ("later", "has not ended")])
def test_serving_stays_when_the_pinned_student_is_missing(student: str | None, message: str):
    number = 1 if student is None else 2
    cluster = FakeCluster(run_object(rounds={"maxRounds": 2, "patience": 1}, serving={"pinnedRound": number}))

    def result(stage: str) -> dict[str, Any]:
        given = result_of(stage, promoted=False)
        return given | {"student": student} if "student" in given else given

    assert cluster.run(result=result) == "Complete"
    assert ("Deployment", "test") not in cluster.objects
    serving = cluster.condition("Serving")
    assert (serving["status"], serving["reason"]) == ("False", "StudentNotFound")
    assert message in serving["message"]


def test_the_history_is_bounded_and_repeats_nothing():
    cluster = FakeCluster(run_object(promotion={"weights": "adapter"}))
    cluster.run()
    for number in range(60):
        pin(cluster, number % 2)
        cluster.reconcile()
        cluster.reconcile()
    assert len(history(cluster)) == 20
    assert history(cluster)[:3] == [("1abcdef01234", 1), ("base", 0), ("1abcdef01234", 1)]


def kept(cluster: FakeCluster) -> list[list[dict[str, Any]]]:
    """Return the entries that each Job of the history stores."""
    entries: list[list[dict[str, Any]]] = []
    for (kind, _), thing in cluster.objects.items():
        if kind == "Job" and thing["metadata"]["labels"][STAGE_LABEL] == HISTORY:
            (worker,) = thing["spec"]["template"]["spec"]["containers"]
            entries += [json.loads(v["value"]) for v in worker["env"] if v["name"] == "DISTILLERY_SERVING_HISTORY"]
    return entries


def test_job_of_the_present_history_stays_when_older_jobs_are_deleted():
    cluster = FakeCluster(run_object(ttlSecondsAfterFinished=3600, promotion={"weights": "adapter"}))
    cluster.run()
    for late in range(3):
        cluster.now += timedelta(hours=late)
        pin(cluster, late % 2)
        before = kept(cluster)
        cluster.reconcile()
        cluster.get_ready()
        assert (cluster.reconcile().requeue or 0) > 20
        assert kept(cluster) == before, "it may not be the last change"
        cluster.now += timedelta(seconds=30)
        cluster.reconcile()
        assert kept(cluster) == [cluster.status["serving"]["history"]]
        writes, created = cluster.writes, cluster.reconcile().create
        assert (created, cluster.writes) == ((), writes)
    assert len([kind for kind, _ in cluster.objects if kind == "Job"]) == 1


def test_history_is_not_stored_when_the_database_lacks_the_run():
    cluster = FakeCluster(run_object(serving={"pinnedRound": 0}))
    cluster.reconcile()
    assert history(cluster) == [("base", 0)]
    assert kept(cluster) == []
    while not cluster.created or cluster.created[-1] == "migrate":
        cluster.get_ready()
        cluster.reconcile()
        for job in cluster.running_jobs():
            cluster.end_job(job, "Complete", word={"result": result_of(job["metadata"]["labels"][STAGE_LABEL])})
        assert kept(cluster) == []
        cluster.now += timedelta(minutes=1)
    cluster.reconcile()
    assert kept(cluster) == [cluster.status["serving"]["history"]]


def test_only_pods_without_a_confirmed_generation_are_polled():
    cluster = cluster_after_round(1)
    cluster.get_ready()
    cluster.reconcile()
    pods = tuple(thing for (kind, name), thing in cluster.objects.items() if kind == "Pod" and name.startswith("test-"))
    generation = cluster.desired()["generation"]

    def asked(said: dict[str, int]) -> set[str]:
        return {pod["metadata"]["name"] for pod in list_pods_to_poll(Observed(pods=pods), said)} & {"test-0", "test-1"}

    assert asked({}) == {"test-0", "test-1"}
    assert asked({"test-0": generation, "test-1": 7}) == {"test-1"}


async def test_poll_pods_reports_what_pods_serve_or_their_problem():
    counts = {"requests": 9, "errors": 1, "outcomes": 4, "successes": 3}
    answers: list[Any] = [
        {"generation": 7, "modelsInUse": [], "traffic": {"base": counts}},
        {"generation": 6},
        {"generation": "x"},
        {"generation": float("inf")},
        [],
        {"generation": 7, "traffic": {"base": {**counts, "errors": 10}}},
        {"generation": 7, "traffic": ["base"]},
    ]

    async def state(_: web.Request) -> web.Response:
        return web.json_response(answers[0])

    async def problem(_: web.Request) -> web.Response:
        return web.json_response({"generation": 0, "problem": "no such file" * 100})

    gateway_app, syncer_app = web.Application(), web.Application()
    gateway_app.router.add_get("/state", state)
    syncer_app.router.add_get("/state", problem)
    metadata = {"uid": "u", "name": "p", "annotations": {GENERATION: "7"}}
    spec = {"initContainers": [{"name": "syncer"}]}
    pod: Manifest = {"metadata": metadata, "spec": spec, "status": {"podIP": "127.0.0.1"}}
    async with TestServer(gateway_app) as server, TestServer(syncer_app) as syncer:
        assert server.port
        assert syncer.port
        ports = {"port": server.port, "syncer_port": syncer.port}
        assert await serving.poll_pods([pod], **ports) == {"u": PodReport(7, traffic={"base": Counts(9, 1, 4, 3)})}
        answers.pop(0)
        assert await serving.poll_pods([pod], **ports) == {"u": PodReport(6, ("no such file" * 100)[:300])}
        merged: Manifest = {**pod, "spec": {}}
        assert await serving.poll_pods([merged], **ports) == {"u": PodReport(6)}, "there is no syncer to be asked"
        for _ in range(5):
            answers.pop(0)
            assert await serving.poll_pods([pod], **ports) == {}
    assert await serving.poll_pods([pod], **ports) == {}


def test_serving_condition_says_why_a_student_is_not_served():
    cluster = cluster_after_round(1)
    cluster.get_ready()
    cluster.generations = {"test-0": cluster.desired()["generation"], "test-1": 0}
    cluster.problems = {"test-1": "adapter student-x: its weights have the digest 1, not 2"}
    cluster.reconcile()
    message = (
        "1 of 2 servers of student 1abcdef01234 are ready. One says: adapter student-x: its weights have the digest"
    )
    assert cluster.condition("Serving")["message"].startswith(message)


def granted() -> set[tuple[str, str]]:
    """The chart's rights, as resource and verb."""
    text = (ROOT / "charts/distillery/templates/_helpers.tpl").read_text()
    rules = yaml.safe_load(text.partition('define "distillery.rules" -}}')[2].partition("{{- end }}")[0])
    return {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}


def test_the_chart_grants_the_writes_that_are_used_and_no_others():
    """The API server's word for it is in tests/e2e/api/test_rights.py."""
    cluster = FakeCluster(run_object(promotion={"weights": "adapter"}, ttlSecondsAfterFinished=0))
    assert cluster.run() == "Complete"
    for _ in range(2):
        cluster.reconcile()
    merged = CanaryScenario.start(weights="merged")
    merged.report_traffic(BAD)
    merged.settle()
    cluster.rights |= merged.rights
    plurals = {"NetworkPolicy": "networkpolicies"}
    used = {(plurals.get(kind, f"{kind.lower()}s"), verb) for kind, verb in cluster.rights}
    # whose an object is is looked at before it is applied
    used |= {(resource, "get") for resource, verb in used if verb == "patch" and resource != "pods"}
    used |= {("secrets", "create"), ("events", "create"), ("distillationruns/status", "patch")}
    assert {right for right in granted() if right[1] not in ("list", "watch")} == used


def test_metrics_peers_are_json():
    peers = '[{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]'
    settings = Settings.from_environment({"DISTILLERY_METRICS_FROM": peers})
    assert settings.metrics_from == ({"namespaceSelector": {"matchLabels": {"name": "monitoring"}}},)
    with pytest.raises(ValueError, match=r"DISTILLERY_METRICS_FROM is '\{': write a JSON list"):
        Settings.from_environment({"DISTILLERY_METRICS_FROM": "{"})
