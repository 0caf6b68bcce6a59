"""Whatever dies of two serving pods: no wrong model answers, the other pod does, and what comes next goes through."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from tests.e2e.support import serving
from tests.e2e.support.cluster import Namespace
from tests.e2e.support.serving import (
    NAME,
    SERVICE,
    Answer,
    Phase,
    clients,
    failed,
    is_ready,
    kill,
    pods,
    restarts,
    serve,
)

SECONDS_TO_LEAVE = (
    30.0  # until no request gets to a pod that can't answer: two probes that fail, and the Service's rules
)
SETTLE = 5.0
ARTIFACT = 'glob.glob("/artifacts/*-*/r1-train-distilled")[0]'
DATABASE = f"{NAME}-database"

# Twice it is what it was.
CORRUPT = f"""
import glob
path = {ARTIFACT} + "/adapter/adapter_model.safetensors"
with open(path, "r+b") as file:
    file.seek(-1, 2)
    last = file.read(1)[0]
    file.seek(-1, 2)
    file.write(bytes([last ^ 0x55]))
"""
# What lies in the store is then whole, as if it had been trained so.
SEAL = f"""
import glob, hashlib, json
folder = {ARTIFACT}
with open(folder + "/result.json", "r+") as file:
    manifest = json.load(file)
    for name, entry in manifest["files"].items():
        entry["sha256"] = hashlib.sha256(open(folder + "/" + name, "rb").read()).hexdigest()
    file.seek(0)
    file.truncate()
    json.dump(manifest, file)
"""
ASK = f"""
import http.client, json
connection = http.client.HTTPConnection("127.0.0.1", 8000, timeout=60)
body = {{"model": "{NAME}", "messages": [{{"role": "user", "content": "x"}}], "max_tokens": 1}}
connection.request("POST", "/v1/chat/completions", json.dumps(body), {{"Content-Type": "application/json"}})
print(connection.getresponse().status)
"""


def program(team: Namespace, pod: str, container: str, text: str) -> str:
    """What a program in a container prints."""
    return team.kubectl("exec", pod, f"--container={container}", "--", "python3", "-c", text)


def wait_for_restart(team: Namespace, pod: str, container: str, before: int) -> None:
    """Until a container was started once more, and its pod gets requests again."""

    def back() -> bool:
        return restarts(team.get("pod", pod))[container] > before and is_ready(team, pod)

    team.wait_for(f"container {container} of {pod} once more, and the pod ready", back, seconds=900)


def promote_and_roll_back(team: Namespace) -> list[Phase]:
    """The base model, then the student again: what may answer from when on."""
    models, phases = serving.models(team), list[Phase]()
    for old, new in ((1, 0), (0, 1)):
        phases.append(Phase(time.time(), frozenset({models[old], models[new]})))
        serve(team, new)
        phases.append(Phase(time.time(), frozenset({models[new]})))
        time.sleep(SETTLE)
    return phases


_FULL = [pytest.param(container, marks=pytest.mark.full) for container in ("gateway", "syncer")]


@pytest.mark.parametrize("container", ["server", *_FULL])
def test_no_wrong_model_answers_when_a_container_is_killed(adapters: Namespace, container: str):
    models = serving.models(adapters)
    serve(adapters, 1)
    before = pods(adapters)
    victim, other = sorted(before)
    with clients(adapters, before) as answers:
        phases = [Phase(0, frozenset({models[1]}))]
        killed = time.time()
        kill(adapters, victim, container)
        wait_for_restart(adapters, victim, container, restarts(before[victim])[container])
        back = time.time()
        time.sleep(SETTLE)
        phases += promote_and_roll_back(adapters)
        found = answers()
    # the victim is asked past the Service all the time: while it can't answer rightly it doesn't answer
    assert serving.wrongly_answered(found, phases) == []
    missed = failed(found)
    assert {answer.to for answer in missed} <= (set() if container == "syncer" else {SERVICE, victim}), missed
    assert {answer.status for answer in missed} <= {0, 200, 503}, missed  # refused, broken off, asked to retry
    assert [answer for answer in missed if answer.ended < killed or answer.began > back + SETTLE] == []
    assert [a for a in missed if a.to == SERVICE and a.began > killed + SECONDS_TO_LEAVE] == []
    # one that was being answered meanwhile: a syncer is back in less time than an answer takes on a slow machine
    assert [a for a in found if a.to == other and a.began < back and a.ended > killed and not a.problem]
    assert [answer for answer in found if answer.to == victim and answer.began > back and not answer.problem]
    after = pods(adapters)
    expected = {name: restarts(pod) for name, pod in before.items()}
    expected[victim][container] += 1
    assert {name: restarts(pod) for name, pod in after.items()} == expected


@pytest.mark.full
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("configmap", f"{NAME}-serving"),
        ("networkpolicy", f"{NAME}-serving"),
        ("poddisruptionbudget", NAME),
        ("serviceaccount", NAME),
        ("service", NAME),
        ("deployment", NAME),
    ],
)
def test_serving_objects_are_created_again_when_deleted(adapters: Namespace, kind: str, name: str):
    before, there = adapters.get(kind, name)["metadata"]["uid"], pods(adapters)
    with clients(adapters, there) as answers:
        pods_stay = ("--cascade=orphan",) if kind == "deployment" else ()
        adapters.kubectl("delete", kind, name, "--wait=false", *pods_stay)
        adapters.wait_for(
            f"another {kind}", lambda: adapters.get(kind, name).get("metadata", {}).get("uid", before) != before
        )
        time.sleep(SETTLE)
        found = answers()
    # a Service that is made again has another address: only clients that look it up again reach it
    assert {answer.to for answer in failed(found)} <= ({SERVICE} if kind == "service" else set())
    assert {n: restarts(p) for n, p in pods(adapters).items()} == {n: restarts(p) for n, p in there.items()}
    serving.wait_until_served(adapters, 1)


@pytest.mark.full
def test_deleted_pod_comes_back_and_no_request_of_the_service_is_lost(adapters: Namespace):
    gone, kept = sorted(pods(adapters))
    with clients(adapters) as answers:
        adapters.kubectl("delete", "pod", gone, "--wait=false")
        adapters.wait_for("a new pod", lambda: len(pods(adapters)) == 2 and gone not in pods(adapters))
        (new,) = pods(adapters).keys() - {kept}
        adapters.wait_for("the new pod", lambda: is_ready(adapters, new), seconds=900)
        time.sleep(SETTLE)
        found = answers()
    assert failed(found) == []
    assert len(found) > 1


@pytest.mark.full
def test_servers_come_back_when_they_were_deleted_with_all_their_pods(adapters: Namespace):
    before = pods(adapters)
    adapters.kubectl("delete", "deployment", NAME, "--wait=false")
    adapters.wait_for("new pods", lambda: len(pods(adapters)) == 2 and not pods(adapters).keys() & before.keys())
    adapters.wait_for("both ready", lambda: all(is_ready(adapters, pod) for pod in pods(adapters)), seconds=900)
    serving.wait_until_served(adapters, 1)


@contextmanager
def corrupted(team: Namespace, pod: str) -> Generator[None]:
    """The student's weights in the store are others, for a while."""
    program(team, pod, "server", CORRUPT)
    try:
        yield
    finally:
        program(team, pod, "server", CORRUPT + SEAL)


@pytest.mark.full
def test_changed_adapter_is_not_served_when_a_pod_starts(adapters: Namespace):
    models = serving.models(adapters)
    serve(adapters, 1)
    kept, gone = sorted(pods(adapters))

    def logged(words: str) -> bool:
        condition = adapters.condition(NAME, "Serving")
        return condition["status"] == "False" and words in condition["message"]

    with clients(adapters) as answers:
        with corrupted(adapters, kept):
            adapters.kubectl("delete", "pod", gone, "--wait=false")
            adapters.wait_for("a new pod", lambda: len(pods(adapters)) == 2 and gone not in pods(adapters))
            (new,) = pods(adapters).keys() - {kept}
            adapters.wait_for("a word about the manifest", lambda: logged("is not what the manifest says"), seconds=900)
            assert not is_ready(adapters, new)
            assert program(adapters, new, "gateway", ASK).strip() == "503"
            # another adapter in its place, whole: by its digest alone it is not what was promoted
            program(adapters, kept, "server", SEAL)
            adapters.wait_for("a word about the digest", lambda: logged("its weights have the digest"), seconds=120)
            assert models[1] in adapters.condition(NAME, "Serving")["message"]
            time.sleep(SETTLE)
            assert not is_ready(adapters, new)
            assert program(adapters, new, "gateway", ASK).strip() == "503"
        adapters.wait_for("the new pod", lambda: is_ready(adapters, new), seconds=120)
        adapters.wait_for("both", lambda: adapters.condition(NAME, "Serving")["status"] == "True", seconds=120)
        time.sleep(SETTLE)
        found = answers()
    assert failed(found) == []
    assert serving.wrongly_answered(found, [Phase(0, frozenset({models[1]}))]) == []
    assert set(restarts(pods(adapters)[new]).values()) == {0}


@contextmanager
def no_database(adapters: Namespace) -> Generator[None]:
    """The database's pod is gone, and a quota keeps it from coming back."""
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "no-room"},
        "spec": {"hard": {"pods": str(len(pods(adapters)) + 1)}},  # those that serve, and the clients
    }
    adapters.apply(quota)
    try:
        adapters.kubectl("delete", "pod", f"{DATABASE}-0", "--timeout=300s")
        yield
    finally:
        adapters.kubectl("delete", "resourcequota", "no-room")
        # its controller tries again later and later, but at once after a change
        adapters.kubectl("annotate", "statefulset", DATABASE, "note=there is room", "--overwrite")
        adapters.kubectl("rollout", "status", f"statefulset/{DATABASE}", "--timeout=600s")


@pytest.mark.full
def test_serving_and_promotions_need_no_database(adapters: Namespace):
    models = serving.models(adapters)
    serve(adapters, 1)
    before = pods(adapters)
    with clients(adapters, before) as answers, no_database(adapters):
        away = time.time()
        phases = [Phase(0, frozenset({models[1]})), *promote_and_roll_back(adapters)]
        time.sleep(30)
        found = answers()
        assert not adapters.get("pod", f"{DATABASE}-0")
    assert failed(found) == []
    assert serving.wrongly_answered(found, phases) == []
    assert answered_by(found, since=away) == {SERVICE, *before}
    assert {n: restarts(p) for n, p in pods(adapters).items()} == {n: restarts(p) for n, p in before.items()}


def answered_by(answers: list[Answer], *, since: float) -> set[str]:
    """Who answered what began since then."""
    return {answer.to for answer in answers if answer.began > since and not answer.problem}
