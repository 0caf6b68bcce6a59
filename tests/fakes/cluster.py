"""A fake cluster: it carries decisions out on dicts, and lets Jobs end as a test says.

What the API server, the scheduler and the kubelet do beyond that is proved on a real cluster, in hack/testbed.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from distillery.core.api import parse
from distillery.core.contracts.traffic import Counts
from distillery_operator.cache import Cache
from distillery_operator.decide.decide import decide
from distillery_operator.decide.events import Event, events_between
from distillery_operator.manifests.gateway import GENERATION
from distillery_operator.manifests.jobs import HISTORY
from distillery_operator.model.decision import Decision
from distillery_operator.model.names import STAGE_LABEL
from distillery_operator.model.objects import Manifest, ObjectRef, rfc3339
from distillery_operator.settings import Settings

UID = "11111111-2222-3333-4444-555555555555"


def run_object(name: str = "test", **spec: Any) -> Manifest:
    """A run as the API server has it: defaults filled in."""
    document = {
        "apiVersion": "distillery.dev/v1alpha1",
        "kind": "DistillationRun",
        "metadata": {"name": name, "namespace": "team"},
        "spec": {
            "models": {"student": {"model": "/models/tiny"}},
            "evaluation": {"arms": ["baseline", "distilled"]},
            **spec,
        },
    }
    body = json.loads(parse(document).model_dump_json(by_alias=True, exclude_none=True))
    body["metadata"] |= {"uid": UID, "generation": 1}
    return body


def result_of(stage: str, *, promoted: bool = True) -> dict[str, Any]:
    """What a stage that succeeds says of itself."""
    if "train" in stage:
        return {"student": f"{stage[1]}abcdef012345678"}
    if "promote" in stage:
        verdict = "Successful" if promoted else "Inconclusive"
        arms = {
            "baseline": {"n": 9, "success": 0.4, "ci": [0.2, 0.6]},
            "distilled": {"n": 9, "success": 0.8, "ci": [0.6, 1]},
        }
        return {
            "gate": {"verdict": verdict, "reason": "Because."},
            "promoted": promoted,
            "metric": 0.8,
            "student": f"{stage[1]}abcdef012345678",
            "arms": arms,
        }
    return {}


def owned_by(kind: str, workload: Manifest) -> list[dict[str, Any]]:
    """The owner references of a pod of a workload."""
    name, uid = workload["metadata"]["name"], workload["metadata"]["uid"]
    return [{"kind": kind, "name": name, "uid": uid, "controller": True}]


class FakeCluster:
    """Holds the objects of one run.

    Attributes:
        body: the run.
        status: as the controller wrote it last.
        objects: what was applied and created.
        created: stages in the order in which Jobs were created for them.
        writes: times that the status changed.
        events: the events that the operator created.
        generations: what serving pods say that they serve, by name; they follow the ConfigMap in :meth:`get_ready`.
        problems: why they don't serve what they should, likewise.
        failures: of users, which recorders would count.
        traffic: what they say became of their traffic, likewise.
        seconds_since_last_report: of one of them.
        rights: what was asked of the API server, as kind and verb.
    """

    def __init__(self, body: Manifest) -> None:
        self.body = body
        self.status: dict[str, Any] = {}
        self.objects: dict[tuple[str, str], Manifest] = {}
        self.created: list[str] = []
        self.writes = 0
        self.events: list[Event] = []
        self.generations: dict[str, int] = {}
        self.problems: dict[str, str] = {}
        self.failures = 0
        self.traffic: dict[str, dict[str, Counts]] = {}
        self.seconds_since_last_report = 0.0
        self.rights: set[tuple[str, str]] = set()
        self.now = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
        self.settings = Settings(namespace="distillery")

    def reconcile(self) -> Decision:
        """One look at the run by an operator that knows nothing but what the cluster holds."""
        cache = Cache()
        for thing in self.objects.values():
            cache.keep(copy.deepcopy(thing))
        observed = cache.observe(("team", self.body["metadata"]["name"]), UID)
        said = {"generations": self.generations, "problems": self.problems, "traffic": self.traffic}
        seconds = self.seconds_since_last_report
        observed = replace(observed, failures=self.failures, seconds_since_last_report=seconds, **copy.deepcopy(said))
        decision = decide(self.body, copy.deepcopy(self.status), observed, self.settings, self.now)
        self.now += timedelta(seconds=1)
        for manifest in decision.apply:
            key = (manifest["kind"], manifest["metadata"]["name"])
            kept = self.objects.get(key, {"metadata": self._born(f"uid-{key}")})
            born = {name: kept["metadata"][name] for name in ("uid", "creationTimestamp")}
            metadata = {**manifest["metadata"], **born, "generation": 1}
            self.objects[key] = {**manifest, "metadata": metadata, "status": kept.get("status", {})}
            self.rights |= {(manifest["kind"], "create"), (manifest["kind"], "patch")}
        for reference, generation in decision.annotate:
            pod = self.objects[reference.kind, reference.name]
            pod["metadata"].setdefault("annotations", {})[GENERATION] = str(generation)
            self.rights.add(("Pod", "patch"))
        for manifest in decision.create:
            self.rights.add((manifest["kind"], "create"))
            key = (manifest["kind"], manifest["metadata"]["name"])
            if key in self.objects:
                continue
            metadata = {**manifest["metadata"], **self._born(f"uid-{key}")}
            self.objects[key] = {**manifest, "metadata": metadata, "status": {}}
            if manifest["kind"] == "Job" and (stage := manifest["metadata"]["labels"][STAGE_LABEL]) != HISTORY:
                self.created.append(stage)
        for reference, _ in decision.delete:
            self.remove(reference)
            self.rights.add((reference.kind, "delete"))
        if decision.status != self.status:
            self.writes += 1
            self.events += events_between(self.status, decision.status)
            self.status = json.loads(json.dumps(decision.status))
        return decision

    def _born(self, uid: str) -> dict[str, str]:
        return {"uid": uid, "creationTimestamp": rfc3339(self.now)}

    def remove(self, reference: ObjectRef) -> None:
        """Delete an object, and the pods of a Job."""
        self.objects.pop((reference.kind, reference.name), None)
        for key in [k for k, o in self.objects.items() if k[0] == "Pod" and o["metadata"].get("job") == reference.name]:
            del self.objects[key]

    def running_jobs(self) -> list[Manifest]:
        """Jobs that have not ended."""
        return [o for (kind, _), o in self.objects.items() if kind == "Job" and not o["status"].get("conditions")]

    def end_job(self, job: Manifest, condition: str, reason: str = "", word: dict[str, Any] | None = None) -> None:
        """Let a Job end, with one pod that says so."""
        name = job["metadata"]["name"]
        job["status"] = {"conditions": [{"type": condition, "status": "True", "reason": reason, "message": reason}]}
        labels = {**job["metadata"]["labels"], "batch.kubernetes.io/job-name": name}
        terminated = {"exitCode": 0, "message": json.dumps(word) if word is not None else ""}
        self.objects["Pod", f"{name}-0-x"] = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{name}-0-x",
                "namespace": "team",
                "labels": labels,
                **self._born(name),
                "job": name,
                "ownerReferences": owned_by("Job", job),
            },
            "status": {
                "phase": "Succeeded" if condition == "Complete" else "Failed",
                "containerStatuses": [{"name": "worker", "state": {"terminated": terminated}}],
            },
        }

    def get_ready(self) -> None:
        """What starts, starts: databases, and servers, which serve what they should."""
        for (kind, name), thing in list(self.objects.items()):
            if kind == "Deployment":
                self._start_pods(name, thing)
                generation: int = self.desired()["generation"]
                self.generations = dict.fromkeys(self.generations, generation)
            if kind in ("StatefulSet", "Deployment"):
                n = thing["spec"]["replicas"]
                counts = ("replicas", "readyReplicas", "updatedReplicas", "availableReplicas")
                thing["status"] = dict.fromkeys(counts, n) | {"observedGeneration": 1}
            if kind == "PersistentVolumeClaim":
                thing["status"] = {"phase": "Bound"}

    def _start_pods(self, name: str, deployment: Manifest) -> None:
        """A Deployment's pods."""
        template = deployment["spec"]["template"]
        for number in range(deployment["spec"]["replicas"]):
            pod = f"{name}-{number}"
            kept = self.objects.get(("Pod", pod), {"metadata": {}})["metadata"].get("annotations", {})
            metadata = {
                "name": pod,
                "namespace": "team",
                **self._born(pod),
                **template["metadata"],
                "annotations": kept,
                "ownerReferences": [{"kind": "ReplicaSet", "name": f"{name}-5d4f", "uid": "rs", "controller": True}],
            }
            status = {"phase": "Running", "podIP": "10.0.0.1"}
            self.objects["Pod", pod] = {
                "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"], "status": status,
            }  # fmt: skip
            self.generations.setdefault(pod, 0)

    def desired(self) -> dict[str, Any]:
        """Return the routing document of serving pods."""
        return json.loads(self.objects["ConfigMap", f"{self.body['metadata']['name']}-serving"]["data"]["desired"])

    def run(self, *, result: Callable[[str], dict[str, Any]] = result_of, most: int = 400) -> str:
        """Reconcile, and let every Job succeed, until the run ends; its phase."""
        for _ in range(most):
            self.reconcile()
            if self.status["phase"] in ("Complete", "Failed"):
                return self.status["phase"]
            self.get_ready()
            for job in self.running_jobs():
                self.end_job(job, "Complete", word={"result": result(job["metadata"]["labels"][STAGE_LABEL])})
        raise AssertionError(f"the run does not end: {self.status}")

    def condition(self, kind: str) -> dict[str, Any]:
        """A condition of the run."""
        return next(c for c in self.status["conditions"] if c["type"] == kind)
