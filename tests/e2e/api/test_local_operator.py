"""The operator as a process of this machine, with the chart's rights, on an API server without a node.

What a node would do, these tests do in its place: they write the statuses of Jobs and StatefulSets. On a node the
operator is the chart's, and other tests say more.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from distillery.cli.commands import cluster
from distillery.core.api import SERVE_ANNOTATION
from distillery.core.child_processes import free_port
from distillery_operator.model.names import INSTANCE_LABEL, MANAGED_BY
from hack.testbed.client import audit
from hack.testbed.client.api import Api, ApiError
from hack.testbed.client.kubectl import eventually
from hack.testbed.places import Places
from tests.e2e.conftest import CHART, WHY_NO_NODE
from tests.e2e.support.documents import small
from tests.e2e.support.runs import Runs, space

pytestmark = pytest.mark.api

RELEASE, LEASE = "distillery", "distillery-operator"
ACCOUNT = "operator"
NOW = "2026-01-01T00:00:00Z"


@dataclass(frozen=True)
class Operator:
    """A process that looks after the runs of a namespace, in the name of a service account with the chart's rights."""

    users: Runs
    environment: dict[str, str]
    log: Path

    @property
    def user(self) -> str:
        """What the API server calls it."""
        return f"system:serviceaccount:{self.users.namespace}:{ACCOUNT}"

    @contextmanager
    def running(self) -> Generator[subprocess.Popen[bytes]]:
        """Run it; it is killed on leaving."""
        command = [sys.executable, "-m", "distillery_operator.main"]
        with (
            self.log.open("ab") as log,
            subprocess.Popen(command, env=self.environment, stdout=log, stderr=subprocess.STDOUT) as process,
        ):
            try:
                yield process
            finally:
                process.kill()

    def wait_for(self, what: str, holds: Callable[[], object]) -> None:
        """Wait until something holds; fail with the operator's log if it does not."""
        try:
            eventually(what, holds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log.read_text()[-4000:]}") from None

    def condition(self, run: str, kind: str) -> str:
        """The status of a condition of a run; empty before it is set."""
        conditions = self.users.get(run).get("status", {}).get("conditions", [])
        return next((c["status"] for c in conditions if c["type"] == kind), "")

    def children(self, group: str, plural: str) -> dict[str, dict[str, Any]]:
        """The objects of a kind that it made, by name."""
        selector = ",".join(f"{key}%3D{value}" for key, value in MANAGED_BY.items())
        path = f"/{group}/namespaces/{self.users.namespace}/{plural}?labelSelector={selector}"
        return {item["metadata"]["name"]: item for item in self.users.api.get(path)["items"]}

    def complete(self, job: str) -> None:
        """Write the status that a Job has whose pods did their work."""
        job_conditions = [
            {"type": kind, "status": "True", "lastTransitionTime": NOW} for kind in ("SuccessCriteriaMet", "Complete")
        ]
        status = {"startTime": NOW, "completionTime": NOW, "succeeded": 1, "conditions": job_conditions}
        path = f"/apis/batch/v1/namespaces/{self.users.namespace}/jobs/{job}/status"
        self.users.api.merge(path, {"status": status})


def chart_rules() -> list[dict[str, Any]]:
    """The rights that the chart grants the operator where runs are."""
    text = (CHART / "templates" / "_helpers.tpl").read_text()
    found = re.search(r'define "distillery\.rules" -}}\n(.*?){{- end }}', text, re.DOTALL)
    assert found
    return yaml.safe_load(found[1])


def lead_rules() -> list[dict[str, Any]]:
    """The rights by which replicas agree on who leads."""
    text = (CHART / "templates" / "rbac.yaml").read_text().partition("# The lead among the replicas.")[2]
    found = re.search(r"^rules:\n((?: .*\n)+)", text, re.MULTILINE)
    assert found
    return yaml.safe_load(found[1].replace("{{ $name }}", RELEASE))


@pytest.fixture(scope="module")
def operator(
    api: Api, places: Places, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Operator]:
    """The operator's account and namespace; each test runs it as it needs."""
    if not request.config.stash[WHY_NO_NODE]:
        pytest.skip("on a node the operator is the one that the chart installs")
    folder = tmp_path_factory.mktemp("operator")
    with space(api, "e2e-operator") as users:
        namespace = users.namespace
        core, rbac = f"/api/v1/namespaces/{namespace}", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
        api.create(f"{core}/serviceaccounts", {"metadata": {"name": ACCOUNT}})
        api.create(f"{rbac}/roles", {"metadata": {"name": ACCOUNT}, "rules": [*chart_rules(), *lead_rules()]})
        binding = {
            "metadata": {"name": ACCOUNT},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": ACCOUNT},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}],
        }
        api.create(f"{rbac}/rolebindings", binding)
        token = api.create(f"{core}/serviceaccounts/{ACCOUNT}/token", {"spec": {}})["status"]["token"]
        kubeconfig = json.loads(places.kubeconfig.read_text())
        kubeconfig["users"][0]["user"] = {"token": token}
        path = folder / "kubeconfig"
        path.touch(0o600)
        path.write_text(json.dumps(kubeconfig))
        settings = {"KUBECONFIG": path, "DISTILLERY_NAMESPACE": namespace, "DISTILLERY_NAMESPACES": namespace}
        settings["DISTILLERY_LEASE_NAME"] = LEASE
        environment = {**os.environ, **{n: str(v) for n, v in settings.items()}, "DISTILLERY_PORT": str(free_port())}
        yield Operator(users, environment, folder / "log")


def test_rights_of_the_chart_suffice_for_the_first_stage(operator: Operator, places: Places):
    users = operator.users
    with operator.running():
        users.apply(small("first"))
        operator.wait_for("a database", lambda: operator.children("apis/apps/v1", "statefulsets"))
        (database,) = operator.children("apis/apps/v1", "statefulsets")
        path = f"/apis/apps/v1/namespaces/{users.namespace}/statefulsets/{database}/status"
        users.api.merge(path, {"status": {"replicas": 1, "readyReplicas": 1, "availableReplicas": 1}})
        operator.wait_for("a Job for the schema", lambda: operator.children("apis/batch/v1", "jobs"))
        (migration,) = operator.children("apis/batch/v1", "jobs")
        operator.complete(migration)
        operator.wait_for("the first stage", lambda: users.get("first")["status"].get("stage") == "prepare")
    (stage,) = operator.children("apis/batch/v1", "jobs").keys() - {migration}
    assert stage.startswith("first-prepare")
    assert operator.condition("first", "DatabaseReady") == "True"
    refused = {request for request in audit.requests(places, operator.user) if not request.allowed}
    assert refused == set()
    managers = {(m["manager"], m.get("subresource", "")) for m in users.get("first")["metadata"]["managedFields"]}
    assert managers == {("kubectl", ""), ("distillery", "status")}


def test_operator_writes_nothing_new_when_it_was_killed_and_restarts(operator: Operator):
    users = operator.users
    before = users.get("first")["metadata"]["resourceVersion"]
    jobs = operator.children("apis/batch/v1", "jobs")
    with operator.running():
        users.apply(small("later", suspend=True))
        operator.wait_for(
            "its look at another", lambda: users.get("later").get("status", {}).get("phase") == "Suspended"
        )
    assert users.get("first")["metadata"]["resourceVersion"] == before
    assert operator.children("apis/batch/v1", "jobs") == jobs


@dataclass(frozen=True)
class ApiKubectl:
    """kubectl's annotate and get, by the API server alone."""

    users: Runs

    def __call__(self, run: str, verb: str, *arguments: str, context: str | None) -> str:
        """Do what the command line asks of kubectl."""
        if verb == "annotate":
            manager, assignment = arguments[-2].removeprefix("--field-manager="), arguments[-1]
            annotation, _, value = assignment.partition("=")
            path = f"{self.users.collection}/{run}?fieldManager={manager}"
            self.users.api.merge(path, {"metadata": {"annotations": {annotation: value}}})
        return json.dumps(self.users.get(run))


def test_request_outlives_a_sync_and_ends_when_its_field_changes(operator: Operator, monkeypatch: pytest.MonkeyPatch):
    users = operator.users
    monkeypatch.setattr(cluster, "_kubectl", ApiKubectl(users))

    def phase() -> str:
        answers = users.get("asked").get("status", {}).get("requests", [])
        return next((one["phase"] for one in answers if one["name"] == SERVE_ANNOTATION), "")

    with operator.running():
        users.apply(small("asked", suspend=True), fieldManager="gitops")
        assert "the base model is to be served" in cluster.promote("asked", 0)
        with pytest.raises(RuntimeError, match="no canary is on trial"):
            cluster.abort("asked")
        users.apply(small("asked", suspend=True), fieldManager="gitops")
        asked = users.get("asked")
        assert asked["metadata"]["annotations"][SERVE_ANNOTATION].startswith("0@")
        assert (asked["metadata"]["generation"], asked["status"]["serving"]["round"]) == (1, 0)
        users.apply(small("asked", suspend=True, serving={"pinnedRound": 1}), fieldManager="gitops")
        operator.wait_for("the end of the request", lambda: phase() == "Ended")


def test_operator_acts_only_on_runs_of_its_instance(operator: Operator):
    users, label = operator.users, INSTANCE_LABEL
    theirs = small("theirs", suspend=True)
    theirs["metadata"]["labels"] = {label: "blue"}

    def phase(run: str) -> str:
        return users.get(run).get("status", {}).get("phase", "")

    users.apply(theirs)
    users.apply(small("nobodys", suspend=True))
    blue = replace(operator, environment={**operator.environment, "DISTILLERY_CONTROLLER_INSTANCE_ID": "blue"})
    with blue.running():
        blue.wait_for("its own run", lambda: phase("theirs") == "Suspended")
    assert phase("nobodys") == ""
    # a run is handed over by its label
    theirs["spec"]["ttlSecondsAfterFinished"] = 5
    users.apply(theirs)
    with operator.running():
        operator.wait_for("the run without a label", lambda: phase("nobodys") == "Suspended")
        before = users.get("theirs")
        assert before["status"]["observedGeneration"] < before["metadata"]["generation"]
        users.apply({**theirs, "metadata": {"name": "theirs", "namespace": users.namespace}})
        operator.wait_for(
            "the run that was handed over",
            lambda: users.get("theirs")["status"]["observedGeneration"] == before["metadata"]["generation"],
        )


def test_run_is_deleted_while_no_operator_runs(operator: Operator):
    operator.users.api.delete(f"{operator.users.collection}/later")
    with pytest.raises(ApiError, match="not found"):
        operator.users.get("later")


def test_operator_may_list_runs_and_read_no_secret(operator: Operator, api: Api):
    def may(user: str, group: str, resource: str) -> bool:
        asked = {"namespace": operator.users.namespace, "group": group, "resource": resource, "verb": "list"}
        review = {"spec": {"user": user, "resourceAttributes": asked}}
        return api.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)["status"]["allowed"]

    assert may(operator.user, "distillery.dev", "distillationruns")
    assert not may(operator.user, "", "secrets")
    assert not may(f"system:serviceaccount:{operator.users.namespace}:default", "distillery.dev", "distillationruns")
