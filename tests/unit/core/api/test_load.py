"""A run file is checked before anything starts; every problem names field, value and fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from distillery.core.api import DistillationRun, InvalidRun, canonical, load, parse, parse_known, without_defaults
from distillery.core.api.learned import learned_changes
from distillery_gateway.auth.rate_limits import Limits
from distillery_gateway.settings import parse_limits as gateway_limits
from tests.unit.documents import MINIMAL, document

ENDPOINT = {"baseURL": "https://host/v1", "model": "m"}
EXAMPLES = sorted((Path(__file__).parents[4] / "examples").glob("*.yaml"))


def problems(spec: dict[str, Any]) -> list[str]:
    with pytest.raises(InvalidRun) as caught:
        parse(document(**spec))
    return [str(problem) for problem in caught.value.problems]


def test_parse_takes_the_papers_defaults_when_fields_are_left_out():
    run = parse(document())
    assert run.key == "default/test"
    assert run.spec.environment.max_steps == 50
    assert (run.spec.training.lora.rank, run.spec.training.lora.alpha) == (64, 128)


def test_canonical_document_parses_to_the_same_run():
    run = parse(document(rounds={"maxRounds": 3, "patience": 1}))
    assert parse(canonical(run)) == run


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"rounds": {"maxRound": 3}}, "spec.rounds.maxRound: 3: unknown field; did you mean maxRounds?"),
        ({"rounds": {"maxRounds": "3"}}, 'spec.rounds.maxRounds: "3": write a whole number, without quotes or unit'),
        ({"rounds": {"maxRounds": 0}}, "spec.rounds.maxRounds: 0: write 1 or more"),
        ({"rollout": {"temperature": 3}}, "spec.rollout.temperature: 3: write 2.0 or less"),
        ({"rollout": {"leaseSeconds": "2m"}}, 'spec.rollout.leaseSeconds: "2m": write a whole number, without quotes'),
        (
            {"evaluation": {"arms": ["baseline", "distilled", "gold"]}},
            'spec.evaluation.arms: ["baseline", "distilled", "gold"]: each arm is one of base',
        ),
        ({"models": {}}, "spec.models.student: is missing; it is required"),
        (
            {"training": {"learningRate": "2e-4"}},
            'spec.training.learningRate: "2e-4": YAML takes this for a text: write it with a point, as 2.0e-4 or',
        ),
        ({"podTemplate": {"ingress": 1}}, "spec.podTemplate.ingress: 1: unknown field; known here: image, "),
        ({"podTemplate": {"annotations": 1}}, "spec.podTemplate.annotations: 1: unknown field; known here: image, "),
        ({"gpus": 1}, "spec.gpus: 1: unknown field; known here: environment, agent, models"),
        ({"volumes": 1}, "spec.volumes: 1: unknown field; known here: environment, agent, models"),
        (
            {"training": {"quantization": "nf4"}},
            "spec.stages.train.resources.limits: nf4 needs a GPU: ask for one",
        ),
        (
            {"stages": {"train": {"resources": {"limits": {"memory": "10GB"}}}}},
            'spec.stages.train.resources.limits.memory: "10GB": write a Kubernetes quantity in quotes',
        ),
        (
            {"stages": {"train": {"resources": {"limits": {"nvidia.com/gpu": 1}}}}},
            'spec.stages.train.resources.limits.nvidia.com/gpu: 1: write a Kubernetes quantity in quotes: "1"',
        ),
        (
            {"storage": {"uri": "/data"}},
            'spec.storage.uri: "/data": write s3://bucket/prefix, or a folder as file:///absolute/path',
        ),
        (
            {"models": {"student": {"model": "a/b", "revision": "main"}}},
            'spec.models.student.revision: "main": write the commit',
        ),
        (
            {"models": {"student": {"model": "a/b"}}},
            "spec.models.student.revision: pin the model: a repository needs the revision (its commit: git ls-remote ",
        ),
        (
            {"models": {"student": {"model": "/m"}, "teacher": {"model": "/t", "endpoint": ENDPOINT}}},
            "spec.models.teacher: ",
        ),
        (
            {"models": {"student": {"model": "/m", "endpoint": {**ENDPOINT, "parameters": {"stream": True}}}}},
            'spec.models.student.endpoint.parameters: {"stream": true}: value error, leave out stream',
        ),
        ({"hints": {"extractor": "llm"}}, 'spec.hints.extractor: "llm": llm needs spec.models.extractor.endpoint'),
        (
            {
                "models": {"student": {"model": "/m"}, "extractor": {"endpoint": ENDPOINT}},
                "hints": {"extractor": "rules"},
            },
            "spec.models.extractor: ",
        ),
        ({"hints": {"retriever": "none"}}, 'spec.hints.retriever: "none": without hints there is nothing to distil'),
        ({"evaluation": {"arms": ["baseline", "sft"]}}, "spec.evaluation.arms: "),
        ({"evaluation": {"arms": ["baseline", "distilled", "baseline"]}}, "spec.evaluation.arms: "),
        ({"evaluation": {"arms": ["baseline", "distilled", "distilled-matched"]}}, "spec.evaluation.arms: "),
        ({"evaluation": {"rolloutsPerTask": 3}}, "spec.evaluation.rolloutsPerTask: 3: greedy episodes are all alike"),
        (
            {"teacherRollout": {"rolloutsPerTask": 2}},
            "spec.teacherRollout.rolloutsPerTask: 2: greedy episodes are all alike",
        ),
        ({"agent": {"maxTurns": 10}}, "spec.agent.maxTurns: 10: must be at least spec.environment.maxSteps"),
        ({"rollout": {"leaseSeconds": 5}}, "spec.rollout.leaseSeconds: 5: write 10 or more"),
        ({"rounds": {"patience": 2}}, "spec.rounds.patience: 2: must not exceed spec.rounds.maxRounds"),
        (
            {"rounds": {"target": {"minValue": 0.9}}, "promotion": {"policy": "Never"}},
            "spec.rounds.target: ",
        ),
        (
            {"rounds": {"maxRounds": 2, "trigger": {"minFailures": 50}}},
            'spec.rounds.trigger: {"minFailures": 50}: needs spec.serving.feedback',
        ),
        (
            {"rounds": {"maxRounds": 2, "trigger": {"minFailures": 0}}},
            "spec.rounds.trigger.minFailures: 0: write 1 or more",
        ),
        (
            {"serving": {"feedback": {"redactPatterns": ["[A-Z]+-[0-9]+", "(unclosed"]}}},
            'spec.serving.feedback.redactPatterns[1]: "(unclosed": write a regular expression in RE2\'s syntax',
        ),
        (
            {"serving": {"feedback": {"redactPatterns": ["(?<!x)y"]}}},
            'spec.serving.feedback.redactPatterns[0]: "(?<!x)y": write a regular expression in RE2\'s syntax, which '
            "has no look-around and no back-references: ",
        ),
        (
            {"serving": {"feedback": {"redactPatterns": ["x{2,1001}"]}}},
            'spec.serving.feedback.redactPatterns[0]: "x{2,1001}": repeat at most 1000 times',
        ),
        (
            {"serving": {"canary": {"steps": [{"minDurationSeconds": 60}]}}},
            "spec.serving.canary.steps: ",
        ),
        (
            {"serving": {"canary": {"steps": [{"weight": 5, "shadow": True, "minDurationSeconds": 60}]}}},
            "spec.serving.canary.steps: ",
        ),
        (
            {
                "serving": {
                    "canary": {
                        "steps": [{"weight": 9, "minDurationSeconds": 60}, {"shadow": True, "minDurationSeconds": 60}]
                    }
                }
            },
            "spec.serving.canary.steps: ",
        ),
        (
            {
                "serving": {
                    "canary": {"steps": [{"weight": 9, "minDurationSeconds": 60, "progressDeadlineSeconds": 59}]}
                }
            },
            "spec.serving.canary.steps: ",
        ),
        (
            {"serving": {"canary": {"steps": []}}},
            "spec.serving.canary.steps: []: tuple should have at least 1 item",
        ),
        (
            {
                "serving": {
                    "canary": {
                        "steps": [{"weight": 5, "minDurationSeconds": 60}],
                        "analysis": {"maxErrorRateIncrease": 0},
                    }
                }
            },
            "spec.serving.canary.analysis.maxErrorRateIncrease: 0",
        ),
        (
            {"serving": {"canary": {"steps": [{"weight": 100, "minDurationSeconds": 60}]}}},
            "spec.serving.canary.steps[0].weight: 100: write 99 or less",
        ),
        ({"serving": {"pinnedRound": 2}}, "spec.serving.pinnedRound: 2: must not exceed spec.rounds.maxRounds"),
        (
            {"serving": {"gateway": {"limits": {"maxTokens": 0}}}},
            "spec.serving.gateway.limits.maxTokens: 0: write 1 or more",
        ),
        (
            {"serving": {"gateway": {"deniedParameters": ["n", "top-k"]}}},
            'spec.serving.gateway.deniedParameters[1]: "top-k": write lower-case letters and underscores',
        ),
    ],
)
def test_parse_names_field_value_and_fix_when_a_field_is_wrong(spec: dict[str, Any], expected: str):
    reported = problems(spec)
    assert [text for text in reported if text.startswith(expected)], reported


def test_gateway_limits_have_the_same_defaults_in_the_resource():
    asked = parse(document()).spec.serving.gateway.limits
    assert gateway_limits(asked.model_dump(mode="json", by_alias=True)) == Limits()


def test_learned_changes_are_empty_when_only_serving_changes():
    old = parse(document(rounds={"maxRounds": 2}))
    changes: dict[str, Any] = {
        "suspend": True,
        "ttlSecondsAfterFinished": 60,
        "serving": {"pinnedRound": 1, "replicas": 3, "canary": {"steps": [{"weight": 5, "minDurationSeconds": 60}]}},
    }
    assert learned_changes(old, parse(document(rounds={"maxRounds": 2}, **changes))) == []
    other = parse(document(rounds={"maxRounds": 3}, promotion={"weights": "adapter"}))
    assert [change.path for change in learned_changes(old, other)] == [
        "spec.promotion.weights",
        "spec.rounds.maxRounds",
    ]


def test_parse_accepts_shadow_steps_when_they_come_first():
    steps = [
        {"shadow": True, "minDurationSeconds": 60},
        {"weight": 5, "minDurationSeconds": 60},
        {"weight": 5, "minDurationSeconds": 60},
    ]
    run = parse(document(serving={"canary": {"steps": steps}}))
    assert run.spec.serving.canary
    assert [step.weight for step in run.spec.serving.canary.steps] == [0, 5, 5]
    assert parse(canonical(run)) == run


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_document_without_defaults_is_the_same_run(path: Path):
    run = load(path)
    document = without_defaults(run)
    assert parse(document) == run
    assert "rollout" not in without_defaults(parse(MINIMAL))["spec"]


def test_parse_known_leaves_out_fields_when_a_newer_version_added_them():
    newer = document(rollout={"concurrency": 7, "speculation": True}, curriculum={"rate": 3})
    assert parse_known(newer) == parse(document(rollout={"concurrency": 7}))
    with pytest.raises(InvalidRun, match=r"spec\.rollout\.workers"):
        parse_known(document(rollout={"workers": -1, "speculation": True}))


def test_document_is_newer_when_only_unknown_fields_are_wrong():
    def wrong(**spec: Any) -> InvalidRun:
        with pytest.raises(InvalidRun) as caught:
            parse(document(**spec))
        return caught.value

    assert wrong(curriculum={"rate": 3}).is_newer
    assert not wrong(curriculum={"rate": 3}, rounds={"maxRounds": 0}).is_newer


def test_parse_reports_all_problems_when_several_fields_are_wrong():
    assert len(problems({"rounds": {"maxRounds": 0}, "agent": {"nam": "x"}, "rollout": {"workers": -1}})) == 3


def test_parse_refuses_another_kind():
    with pytest.raises(InvalidRun, match="kind"):
        parse({**document(), "kind": "Pod"})


def test_parse_ignores_the_status_when_a_document_has_one():
    assert parse({**document(), "status": {"phase": "Running"}}) == parse(document())


@pytest.mark.parametrize("text", ["", "a: b: c", "---\na: 1\n---\nb: 2\n", "- 1"])
def test_load_reports_one_problem_when_a_file_is_no_document(tmp_path: Path, text: str):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(InvalidRun) as caught:
        load(path)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    "text",
    ["a: 2024-13-45", "2024-01-01: a", "a: &a [*a]", "[" * 5000, "? [a]\n: b", "a: !!python/object:os.system {}"],
    ids=["no date", "a date as a key", "a circle", "deep", "a list as a key", "an object"],
)
def test_load_reports_one_problem_when_yaml_is_odd(tmp_path: Path, text: str):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(InvalidRun, match=r"is not YAML|can't be written as JSON"):
        load(path, changes=["kind=x"])


def test_load_refuses_a_key_when_it_is_there_twice(tmp_path: Path):
    path = tmp_path / "run.yaml"
    path.write_text("metadata: {name: a}\nspec:\n  rounds: {max: 1}\n  rounds: {max: 2}\n")
    with pytest.raises(InvalidRun, match=r"rounds .*twice\s+in \".*/run\.yaml\", line 4, column 3"):
        load(path)


def test_load_takes_an_exponent_without_a_point_for_a_number(tmp_path: Path):
    path = tmp_path / "run.yaml"
    text = yaml.safe_dump(document(training={"learningRate": 0.125}))
    path.write_text(text.replace("0.125", "2e-4"))
    assert load(path).spec.training.learning_rate == 2e-4


def changed(tmp_path: Path, *changes: str) -> DistillationRun:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(document()).replace("spec:\n", "spec:\n  rounds:\n"))
    return load(path, changes=changes)


def test_load_replaces_fields_when_changes_are_given(tmp_path: Path):
    limits = r"spec.modelServer.resources.limits.nvidia\.com/gpu='1'"
    run = changed(tmp_path, "spec.rounds.maxRounds=2", "spec.training.learningRate=2e-4", limits, "metadata.name=other")
    assert (run.key, run.spec.rounds.max_rounds, run.spec.training.learning_rate) == ("default/other", 2, 2e-4)
    assert run.spec.model_server.resources.limits == {"nvidia.com/gpu": "1"}
    (tmp_path / "tiny").mkdir()
    run = changed(
        tmp_path, "spec.rounds={}", "spec.models.student.model=./tiny", "spec.evaluation.arms=[baseline, distilled]"
    )
    assert run.spec.models.student.model == str(tmp_path / "tiny")
    assert run.spec.evaluation.arms == ("baseline", "distilled")


@pytest.mark.parametrize(
    ("change", "reported"),
    [
        ("spec.rounds.maxRound=2", "spec.rounds.maxRound: 2: unknown field; did you mean maxRounds?"),
        ("spec.rounds.maxRounds=two", 'spec.rounds.maxRounds: "two": write a whole number'),
        ("spec.rounds.maxRounds={", r'spec.rounds.maxRounds: "{": is not YAML: '),
        ("spec.evaluation.arms.0=base", 'spec.evaluation.arms: {"0": "base"}: write a list'),
        ("metadata.name=2024-13-45", 'metadata.name: "2024-13-45": is not YAML: month must be'),
        ("apiVersion.x=1", "apiVersion.x: 1: apiVersion has no fields: set apiVersion as a whole"),
    ],
)
def test_load_names_the_field_when_a_change_is_wrong(tmp_path: Path, change: str, reported: str):
    with pytest.raises(InvalidRun) as caught:
        changed(tmp_path, change)
    assert [str(one) for one in caught.value.problems if str(one).startswith(reported)], caught.value


def test_load_refuses_a_change_when_the_document_is_a_list(tmp_path: Path):
    path = tmp_path / "run.yaml"
    path.write_text("- 1")
    with pytest.raises(InvalidRun, match="is not a valid DistillationRun"):
        load(path, changes=["kind=x"])


def test_load_names_the_file_when_it_is_missing(tmp_path: Path):
    with pytest.raises(InvalidRun, match=r"nowhere\.yaml"):
        load(tmp_path / "nowhere.yaml")


def test_load_resolves_a_model_folder_when_it_is_relative(tmp_path: Path):
    path = tmp_path / "runs" / "run.yaml"
    path.parent.mkdir()
    path.write_text(
        "{apiVersion: distillery.dev/v1alpha1, kind: DistillationRun, metadata: {name: a},"
        " spec: {models: {student: {model: ../models/tiny}}}}"
    )
    assert load(path).spec.models.student.model == str(tmp_path / "models" / "tiny")


def test_load_suggests_the_folder_when_a_model_looks_like_a_repository(tmp_path: Path):
    (tmp_path / "models" / "micro").mkdir(parents=True)
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(document(models={"student": {"model": "models/micro"}})))
    with pytest.raises(InvalidRun) as caught:
        load(path)
    reported = [str(problem) for problem in caught.value.problems]
    assert reported[-1] == 'spec.models.student.model: "models/micro": a folder is written ./models/micro'


@pytest.mark.parametrize(
    "argument",
    [
        "--host", "--host=0.0.0.0", "--hos=::", "--port=80", "--por", "--uds=/tmp/s", "--api-key=k", "--api_key",
        "--api-k", "--ssl-keyfile=k", "--ssl_certfile", "--root-path=/x", "--grpc", "--middleware=m.M", "--config",
        "--host=a\nb",
    ],
)  # fmt: skip
def test_parse_refuses_an_argument_when_it_decides_where_vllm_listens(argument: str):
    with pytest.raises(InvalidRun, match=r"spec\.modelServer\.extraArgs: .*leave out host, port"):
        parse(document(modelServer={"extraArgs": ["--max-num-seqs=8", argument]}))


def test_parse_accepts_other_arguments_of_vllm():
    arguments = ["--hf-overrides={}", "--pooler-config={}", "--api-server-count=2", "--enable-prefix-caching", "4096"]
    assert parse(document(modelServer={"extraArgs": arguments})).spec.model_server.extra_args == tuple(arguments)
