"""Runs made from the CRD's schema, valid ones and others, for the API server and Python's types to judge.

Each run starts as a small valid one. Some meet one rule of the CRD, either way. The others get values at random that
the schema allows and then, two of three, a case of a rule between fields or a value that the schema refuses. The same
seed makes the same runs. ``KNOWN_DIFFERENCES`` lists where the two judges differ; those runs are left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from distillery.core.api import GROUP, KIND, VERSION, InvalidRun, parse
from distillery_operator.crd.generate import crd

Schema = Mapping[str, Any]

STUDENT = {"model": "/opt/distillery/models/micro"}
ENDPOINT = {"baseURL": "https://host/v1", "model": "m"}
_REPOSITORY, _REVISION = "Qwen/Qwen2.5-7B-Instruct", "c" * 40
_GPU = {"limits": {"nvidia.com/gpu": "1"}}


def _steps(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"serving": {"canary": {"steps": list(steps)}}}


RULE_CASES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (
        {"models": {"student": {"model": _REPOSITORY}}},
        {"models": {"student": {"model": _REPOSITORY, "revision": _REVISION}}},
    ),
    (
        {"models": {"student": STUDENT, "teacher": {"model": "/m", "endpoint": ENDPOINT}}},
        {"models": {"student": STUDENT, "teacher": {"endpoint": ENDPOINT}}},
    ),
    (
        {"models": {"student": STUDENT, "teacher": {"model": _REPOSITORY}}},
        {"models": {"student": STUDENT, "teacher": {"model": _REPOSITORY, "revision": _REVISION}}},
    ),
    (
        {"hints": {"extractor": "llm"}},
        {"hints": {"extractor": "llm"}, "models": {"student": STUDENT, "extractor": {"endpoint": ENDPOINT}}},
    ),
    (
        {"hints": {"extractor": "rules"}, "models": {"student": STUDENT, "extractor": {"endpoint": ENDPOINT}}},
        {"hints": {"extractor": "rules"}},
    ),
    ({"hints": {"retriever": "none"}}, {"hints": {"retriever": "random"}}),
    ({"plays": [{"name": "sft"}]}, {"plays": [{"name": "again"}]}),
    (
        {"students": [{"name": "sft", "learnsFrom": "own"}]},
        {"students": [{"name": "sft-again", "learnsFrom": "own"}]},
    ),
    (
        {"students": [{"name": "gold", "learnsFrom": "nobody"}]},
        {"students": [{"name": "gold", "learnsFrom": "again"}], "plays": [{"name": "again"}]},
    ),
    (
        {"evaluation": {"arms": ["baseline", "distilled", "gold+rag"]}},
        {
            "evaluation": {"arms": ["baseline", "distilled", "gold+rag"]},
            "students": [{"name": "gold", "learnsFrom": "teacher"}],
        },
    ),
    ({"evaluation": {"arms": ["baseline", "rag"]}}, {"evaluation": {"arms": ["distilled", "baseline"]}}),
    (
        {"evaluation": {"arms": ["baseline", "rag", "sft"]}, "promotion": {"gate": {"candidate": "rag"}}},
        {"evaluation": {"arms": ["baseline", "rag", "sft"]}, "promotion": {"gate": {"candidate": "sft"}}},
    ),
    (
        {"evaluation": {"arms": ["baseline", "distilled", "baseline"]}},
        {"evaluation": {"arms": ["baseline", "distilled", "rag"]}},
    ),
    (
        {"evaluation": {"arms": ["baseline", "distilled", "distilled-matched"]}},
        {"evaluation": {"arms": ["baseline", "distilled", "distilled-matched", "sft-matched"]}},
    ),
    (
        {"evaluation": {"arms": ["baseline", "distilled"], "rolloutsPerTask": 3}},
        {"evaluation": {"arms": ["baseline", "distilled"], "rolloutsPerTask": 3, "temperature": 0.5}},
    ),
    (
        {"teacherRollout": {"rolloutsPerTask": 2}, "rollout": {"temperature": 0}},
        {"teacherRollout": {"rolloutsPerTask": 2, "temperature": 0.5}, "rollout": {"temperature": 0}},
    ),
    (
        {"training": {"quantization": "nf4"}},
        {"training": {"quantization": "nf4"}, "stages": {"train": {"resources": _GPU}}},
    ),
    ({"agent": {"name": "plain", "maxTurns": 10}}, {"agent": {"name": "plain", "maxTurns": 15}}),
    ({"rounds": {"arrivals": [["put"], ["cool"]]}}, {"rounds": {"maxRounds": 2, "arrivals": [["put"], ["cool"]]}}),
    (
        {"rounds": {"maxRounds": 2, "arrivals": [["put", "heat"], ["heat"]]}},
        {"rounds": {"maxRounds": 2, "arrivals": [["put", "heat"], ["cool"]]}},
    ),
    ({"rounds": {"maxRounds": 1, "patience": 2}}, {"rounds": {"maxRounds": 2, "patience": 2}}),
    (
        {"rounds": {"target": {"minValue": 0.9}}, "promotion": {"policy": "Never"}},
        {"rounds": {"target": {"minValue": 1}}, "promotion": {"policy": "Auto"}},
    ),
    (
        {"rounds": {"maxRounds": 2, "trigger": {"minFailures": 9}}},
        {"rounds": {"maxRounds": 2, "trigger": {"minFailures": 9}}, "serving": {"feedback": {}}},
    ),
    (
        {"serving": {"scaling": "External", "duringRounds": "Pause"}},
        {"serving": {"scaling": "External", "duringRounds": "Serve"}},
    ),
    ({"serving": {"pinnedRound": 2}}, {"serving": {"pinnedRound": 1}}),
    (
        _steps({"weight": 10, "shadow": True, "minDurationSeconds": 60}),
        _steps({"shadow": True, "minDurationSeconds": 60}),
    ),
    (
        _steps({"weight": 50, "minDurationSeconds": 60}, {"weight": 10, "minDurationSeconds": 60}),
        _steps({"weight": 10, "minDurationSeconds": 60}, {"weight": 50, "minDurationSeconds": 60}),
    ),
    (
        _steps({"weight": 10, "minDurationSeconds": 7200}),
        _steps({"weight": 10, "minDurationSeconds": 7200, "progressDeadlineSeconds": 7200}),
    ),
    (
        {"modelServer": {"extraArgs": ["--max-num-seqs=8", "--host=0.0.0.0"]}},
        {"modelServer": {"extraArgs": ["--max-num-seqs", "8", "--hf-overrides={}"]}},
    ),
    (
        {"storage": {"endpointURL": "http://s3:9000"}},
        {"storage": {"endpointURL": "http://s3:9000", "uri": "s3://bucket/prefix"}},
    ),
    (
        {"storage": {"credentialsSecretRef": {"name": "s3", "key": "credentials"}}},
        {"storage": {"credentialsSecretRef": {"name": "s3", "key": "credentials"}, "uri": "s3://bucket/prefix"}},
    ),
]
"""For every rule of ``rules.py``, in its order: a specification that breaks it and no other, and one that holds it."""

KNOWN_DIFFERENCES: list[dict[str, Any]] = [
    {"models": {"student": STUDENT, "extractor": {"endpoint": {**ENDPOINT, "parameters": {"stream": True}}}}},
    {"serving": {"feedback": {"redactPatterns": ["("]}}},
    {"environment": {"maxSteps": None}},
]
"""What the API server takes and Python's types refuse: names in a map of any values, which CEL can't see; expressions
of another syntax, of which CEL knows nothing; and null for a field with a default, which the API server fills in."""

NAMES_TO_TAKE = ("run", "a", "run-1", "a" * 40, "canary", "my-database-2")
NAMES_TO_REFUSE = ("a" * 41, "run-canary", "run-database", "Run", "-run", "run-", "ru_n", "team.run")

_MINIMAL: dict[str, Any] = {
    "models": {"student": STUDENT},
    "evaluation": {"arms": ["baseline", "distilled"]},
    "environment": {"maxSteps": 15},
}
_ODD = ("", " ", "two words", "line\n", "Ünder", "-", "ftp://host/", "https://host?a=1", "https://host/\u00a0x")
_EXPRESSION = "[0-9]{4}"
_CHECKS = (HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large)  # they are for tests
_LETTERS = st.characters(codec="utf-8", exclude_categories=["C"])


def documents(count: int = 700) -> list[dict[str, Any]]:
    """The cases of every rule, and at most ``count`` runs made at random. No two are the same."""
    made = {json.dumps(document, sort_keys=True): document for document in _cases()}

    @seed(20261130)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=_CHECKS,
    )
    @given(_documents())
    def keep(document: dict[str, Any]) -> None:
        made[json.dumps(document, sort_keys=True)] = document

    keep()
    return list(made.values())


@cache
def _schema() -> Schema:
    """The CRD's, of ``spec``."""
    (version,) = crd()["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]["properties"]["spec"]


def refuses(document: dict[str, Any]) -> bool:
    """Whether Python's types refuse a run."""
    try:
        parse(document)
    except InvalidRun:
        return True
    return False


def rules_of_fields(schema: Schema | None = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Schema]]:
    """The fields below ``spec`` that have rules of their own in the CRD, by their paths."""
    schema = schema or _schema()
    if path and "x-kubernetes-validations" in schema:
        yield ".".join(path), schema
    for name, part in schema.get("properties", {}).items():
        yield from rules_of_fields(part, (*path, name))


def _cases() -> Iterator[dict[str, Any]]:
    """Runs that meet one rule each, in turn: they hold it, and they break it."""
    for name in (*NAMES_TO_TAKE, *NAMES_TO_REFUSE):
        yield _document(name, _MINIMAL)
    for cases in RULE_CASES:
        yield from (_document("run", _merged(_MINIMAL, case)) for case in cases)
    for path, schema in rules_of_fields():
        values = ({"key": "1"}, {"no key!": "1"}, {"k" * 254: "1"})
        if schema["type"] == "number":  # whole numbers, which the schema's own bounds let pass
            values = (schema["minimum"], int(schema["minimum"]))
        for value in values:
            yield _document("run", _merged(_merged(_MINIMAL, _around(path)), _nested(path, value)))


def _around(path: str) -> dict[str, Any]:
    """Return the other fields that a field needs."""
    return _steps({"weight": 10, "minDurationSeconds": 60}) if path.startswith("serving.canary.") else {}


def _nested(path: str, value: Any) -> dict[str, Any]:
    for name in reversed(path.split(".")):
        value = {name: value}
    return value


def _document(name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "metadata": {"name": name}, "spec": spec}


@st.composite
def _documents(draw: DrawFn) -> dict[str, Any]:
    schema, spec, name = _schema(), _MINIMAL, draw(st.sampled_from(NAMES_TO_TAKE))
    kind = draw(st.sampled_from(("valid", "valid", "rule", "rule", "value", "value")))
    for _ in range(draw(st.integers(1, 3) if kind == "valid" else st.integers(0, 1))):
        spec = _changed(draw, schema, spec, _allowed)
    match kind:
        case "rule":
            spec = _merged(spec, draw(st.sampled_from([case for cases in RULE_CASES for case in cases])))
        case "value" if draw(st.integers(0, 7)) == 0:
            name = draw(st.sampled_from(NAMES_TO_REFUSE))
        case "value":
            spec = _changed(draw, schema, spec, _refused)
        case _:
            pass
    return _document(name, spec)


def _merged(below: Any, above: Any) -> Any:
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return {**below, **{key: _merged(below.get(key), value) for key, value in above.items()}}


def _changed(draw: DrawFn, schema: Schema, present: Any, strategy: Any, *, depth: int = 0) -> Any:
    """``present`` with another value somewhere in it, drawn from ``strategy`` of the schema of that place."""
    fields: Mapping[str, Schema] = schema.get("properties", {})
    if not fields or (depth > 0 and draw(st.integers(0, 4)) == 0):
        return draw(strategy(schema))
    inside = dict(present) if present else {n: draw(_allowed(fields[n], n)) for n in schema.get("required", ())}
    name = draw(st.sampled_from(list(fields)))
    inside[name] = (
        _changed(draw, fields[name], inside.get(name), strategy, depth=depth + 1)
        if "properties" in fields[name]
        else draw(strategy(fields[name], name))
    )
    return inside


def _allowed(schema: Schema, name: str = "") -> SearchStrategy[Any]:
    """Values that the schema allows in the field ``name``."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema.get("type"):
        case "boolean":
            return st.booleans()
        case "integer":
            low, high = schema["minimum"], schema["maximum"]
            return st.sampled_from((low, high)) | st.integers(low, high)
        case "number":
            return _numbers(schema)
        case "string":
            return _texts(schema)
        case "array" if name == "redactPatterns":  # Python refuses what is no expression, and the API server does not
            return st.lists(st.just(_EXPRESSION), max_size=schema["maxItems"])
        case "array":
            low, high = schema.get("minItems", 0), schema["maxItems"]
            return st.lists(_allowed(schema["items"]), min_size=low, max_size=min(high, low + 3))
        case "object" if "properties" in schema:
            parts = {part: _allowed(below, part) for part, below in schema["properties"].items()}
            required = schema.get("required", ())
            return st.fixed_dictionaries(
                {part: value for part, value in parts.items() if part in required},
                optional={part: value for part, value in parts.items() if part not in required},
            )
        case "object":
            pattern = _pattern_of_keys(schema)
            keys = _matching(pattern, 0, 63) if pattern else st.sampled_from(("top_k", "reasoning", "seed"))
            values = _allowed(schema["additionalProperties"])
            return st.dictionaries(keys, values, max_size=min(3, schema["maxProperties"]))
        case _:
            anything = st.none() | st.booleans() | st.integers(-9, 9) | st.text(_LETTERS, max_size=5)
            return anything | st.lists(anything, max_size=2) | st.dictionaries(st.just("a"), anything, max_size=1)


def _numbers(schema: Schema) -> SearchStrategy[Any]:
    low, high = schema["minimum"], schema["maximum"]
    above, below = schema.get("exclusiveMinimum", False), schema.get("exclusiveMaximum", False)
    ends = ([] if above else [low]) + ([] if below else [high])
    floats = st.floats(low, high, exclude_min=above, exclude_max=below, allow_subnormal=False)
    whole = [end if end != int(end) else int(end) for end in ends]  # JSON writes 1 and 1.0, which are both 1
    return floats | st.sampled_from([*ends, *whole]) if ends else floats


def _texts(schema: Schema) -> SearchStrategy[str]:
    low, high = schema.get("minLength", 0), schema.get("maxLength", 64)
    if pattern := schema.get("pattern"):
        return _matching(pattern, low, high)
    return st.text(_LETTERS, min_size=low, max_size=min(high, low + 8)) | st.sampled_from(("ä" * high, "a" * high))


def _matching(pattern: str, low: int, high: int) -> SearchStrategy[str]:
    return st.from_regex(pattern, fullmatch=True).filter(lambda text: low <= len(text) <= high)


def _pattern_of_keys(schema: Schema) -> Any:
    """What the keys of a map have to match; None where they may be any."""
    rules = " ".join(rule["rule"] for rule in schema.get("x-kubernetes-validations", ()))
    found = re.search(r'key\.matches\(("(?:[^"\\]|\\.)*")\)', rules)
    return found and json.loads(found[1])


def _refused(schema: Schema, name: str = "") -> SearchStrategy[Any]:
    """Values that the schema refuses in the field ``name``; allowed ones where it refuses none."""
    match schema.get("type"):
        case "boolean":
            return st.sampled_from(("true", 1))
        case "integer":
            return st.sampled_from((schema["minimum"] - 1, schema["maximum"] + 1, "7", True, 1.5))
        case "number":
            low, high = schema["minimum"], schema["maximum"]
            ends = [low] * schema.get("exclusiveMinimum", False) + [high] * schema.get("exclusiveMaximum", False)
            return st.sampled_from((low - 0.1, high + 0.1, int(low) - 1, int(high) + 1, "0.5", True, *ends))
        case "string":
            return st.sampled_from((7, True, ["a"], *_wrong_texts(schema)))
        case "array":
            low, high = max(1, schema.get("minItems", 0)), schema["maxItems"]
            wrong = _refused(schema["items"]).map(lambda item: [item] * low)
            return _allowed(schema["items"]).map(lambda item: [item] * (high + 1)) | wrong | st.just("a")
        case "object" if "properties" in schema:
            unknown = _allowed(schema).map(lambda value: {**value, "nosuchField": 1})
            missing = st.just({}) if schema.get("required") else unknown
            return unknown | missing | st.just(["a"])
        case "object":
            values = schema["additionalProperties"]
            names = [f"key-{number}" for number in range(schema["maxProperties"] + 1)]
            wrong = _refused(values) if values.get("type") else st.nothing()
            keys = st.sampled_from(("no key!", "k" * 254)) if _pattern_of_keys(schema) else st.nothing()
            return (
                _allowed(values).map(lambda value: dict.fromkeys(names, value))
                | wrong.map(lambda value: {"key": value})
                | keys.flatmap(lambda key: _allowed(values).map(lambda value: {key: value}))
                | st.just(["a"])
            )
        case _:
            return _allowed(schema, name)


def _wrong_texts(schema: Schema) -> list[str]:
    if values := schema.get("enum"):
        return [f"{values[0]}x", ""]
    low, pattern = schema.get("minLength", 0), schema.get("pattern")
    odd = [text for text in _ODD if pattern and not re.fullmatch(pattern, text)]
    long = ["a" * (schema["maxLength"] + 1)] if "maxLength" in schema else []
    return [*long, *([""] if low else []), *odd]
