"""A run with a canary, whose traffic and time a test decides."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Self

from distillery.core.contracts.traffic import Counts
from distillery_operator.model.names import STAGE_LABEL
from distillery_operator.model.objects import Manifest
from tests.fakes.cluster import FakeCluster, result_of, run_object

STEPS = [
    {"shadow": True, "minDurationSeconds": 60},
    {"weight": 10, "minDurationSeconds": 60},
    {"weight": 50, "minDurationSeconds": 60},
]
OLD, NEW = "1abcdef01234", "2abcdef01234"
GOOD, BAD = Counts(1000), Counts(1000, 300)


class CanaryScenario(FakeCluster):
    """A cluster with verbs for what happens during a canary. The student of round 2 is the canary."""

    @classmethod
    def begin(cls, *, weights: str = "adapter", rounds: int = 2, **serving: Any) -> Self:
        """Return a cluster in which round 2 has just ended, and no pod has applied the first step."""
        spec = {"replicas": 1, "canary": {"steps": STEPS}, **serving}
        cluster = cls(run_object(rounds={"maxRounds": rounds}, promotion={"weights": weights}, serving=spec))
        cluster.run_rounds(2)
        return cluster

    @classmethod
    def start(cls, *, weights: str = "adapter", rounds: int = 2, replicas: int = 2, **canary: Any) -> Self:
        """Return a cluster in which every pod has applied the first step."""
        canary = {"steps": STEPS, **canary}
        cluster = cls.begin(weights=weights, rounds=rounds, replicas=replicas, canary=canary)
        cluster.settle()
        return cluster

    def run_rounds(self, number: int, *, promoted: bool = True) -> None:
        """Run stages until so many rounds have ended."""
        for _ in range(400):
            if len(self.status.get("rounds", [])) == number:
                return
            self.reconcile()
            self.get_ready()
            for job in self.running_jobs():
                result = result_of(job["metadata"]["labels"][STAGE_LABEL], promoted=promoted)
                self.end_job(job, "Complete", word={"result": result})
        raise AssertionError(f"the round does not end: {self.status}")

    def settle(self, polls: int = 4) -> None:
        """Let pods apply the routing document, and report it."""
        for _ in range(polls):
            self.get_ready()
            self.reconcile()

    def report_traffic(self, canary: Counts, stable: Counts = GOOD) -> None:
        """Set the traffic that both pods report together."""
        none = Counts()
        self.traffic = {"test-0": {OLD: stable, NEW: canary}, "test-1": {OLD: none, NEW: none}}

    def wait(self, seconds: float = 60) -> None:
        """Let time pass, and reconcile."""
        self.now += timedelta(seconds=seconds)
        self.reconcile()

    def pin(self, number: int | None) -> None:
        """Set or remove the pinned round, and reconcile."""
        self.body["spec"]["serving"].pop("pinnedRound", None)
        if number is not None:
            self.body["spec"]["serving"]["pinnedRound"] = number
        self.reconcile()

    def edit_canary(self, **canary: Any) -> None:
        """Edit spec.serving.canary, and reconcile."""
        self.body["spec"]["serving"]["canary"] |= canary
        self.reconcile()

    def scale(self, replicas: int) -> None:
        """Edit spec.serving.replicas, and reconcile."""
        self.body["spec"]["serving"]["replicas"] = replicas
        self.reconcile()

    @property
    def canary(self) -> dict[str, Any]:
        """The canary in the status."""
        return self.status["serving"]["canary"]

    @property
    def step(self) -> tuple[int, str]:
        """The number of the canary's step, and its phase."""
        return self.canary["step"], self.canary["phase"]

    @property
    def progress(self) -> tuple[str, str]:
        """The status and the reason of CanaryProgressing."""
        condition = self.condition("CanaryProgressing")
        return condition["status"], condition["reason"]

    @property
    def targets(self) -> list[tuple[str, int]]:
        """The students that get sessions, with their shares."""
        return [(target["student"], target.get("weight", 100)) for target in self.desired()["aliases"]["test"]]

    @property
    def canary_deployment(self) -> Manifest | None:
        """The Deployment of the canary's own servers."""
        return self.objects.get(("Deployment", "test-canary"))
