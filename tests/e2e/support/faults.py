"""Ending what works for a run, and finding what there is to end."""

from __future__ import annotations

from tests.e2e.support.cluster import RELEASE, Namespace


def leader(operator: Namespace) -> str:
    """The pod of the replica that leads."""
    return operator.get("lease", f"{RELEASE}-operator")["spec"]["holderIdentity"]


def kill(namespace: Namespace, pod: str) -> None:
    """End a pod at once."""
    namespace.try_kubectl("delete", "pod", pod, "--grace-period=0", "--force", "--wait=false")


def running_worker(team: Namespace, stage: str) -> str:
    """A pod of a stage whose worker runs."""
    for pod in team.pods_of(stage):
        for status in pod["status"].get("containerStatuses", []):
            if status["name"] == "worker" and "running" in status.get("state", {}):
                return pod["metadata"]["name"]
    return ""


def checkpoint(team: Namespace) -> bool:
    """Whether the trainer has left one."""
    worker = running_worker(team, "r1-train-distilled")
    path = "/artifacts/work/r1-train-distilled/checkpoint/state.pt"
    return bool(worker) and team.try_kubectl("exec", worker, "--", "test", "-f", path).returncode == 0


def finished(team: Namespace, run: str, arm: str) -> int:
    """Finished episodes of an arm."""
    done = team.try_kubectl(
        "exec", f"{run}-database-0", "--", "psql", "-U", "distillery", "-h", "127.0.0.1", "-Atc",
        f"SELECT count(*) FROM episode WHERE arm = '{arm}' AND phase = 'finished'",
    )  # fmt: skip
    return int(done.stdout or 0) if done.returncode == 0 else 0


def active_pods(team: Namespace, stage: str) -> list[str]:
    """The pods of a stage that have not ended."""
    return [p["metadata"]["name"] for p in team.pods_of(stage) if p["status"].get("phase") in ("Pending", "Running")]
