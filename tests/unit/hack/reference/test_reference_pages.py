"""The pages of the generated reference, on small inputs."""

from __future__ import annotations

import argparse
import ast
import json
from pathlib import Path
from typing import Any

import pytest

from hack.chart_readme import read_values
from hack.reference import commands, conditions, environment, helm, http, metrics, plugins, resource
from hack.reference.source import Module


def module(text: str, path: str = "gateway/a.py") -> Module:
    return Module.parse(path, text)


def definition(spec: dict[str, Any], *rules: dict[str, str]) -> dict[str, Any]:
    root = {"properties": {"spec": spec, "status": {"properties": {}}}, "x-kubernetes-validations": list(rules)}
    version = {"name": "v1", "schema": {"openAPIV3Schema": root}}
    names = {"kind": "Run", "singular": "run", "shortNames": ["r"]}
    return {"spec": {"group": "example.com", "names": names, "versions": [version]}}


def test_field_has_its_type_default_bounds_and_description():
    field = {"type": "integer", "default": 3, "minimum": 1, "maximum": 20, "description": "k is a number."}
    page = resource.render(definition({"properties": {"k": field}}))
    assert "| `k` | integer | `3` | k is a number. At least 1 and at most 20. |" in page


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ({"type": "boolean", "default": False}, "| `f` | boolean | `false` |  |"),
        ({"type": "string", "enum": ["A", "B"]}, "| `f` | string |  | One of `A`, `B`. |"),
        (
            {"type": "array", "items": {"type": "string"}, "maxItems": 4},
            "| `f` | list of string |  | At most 4 items. |",
        ),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "| `f` | map of string |  |  |"),
        ({"type": "string", "format": "date-time"}, "| `f` | time |  |  |"),
        ({"type": "number", "minimum": 0, "exclusiveMinimum": True}, "| `f` | number |  | More than 0. |"),
        ({"type": "string", "pattern": "^a|b$"}, "| `f` | string |  | Matches `^a\\|b$`. |"),
    ],
)
def test_type_and_the_bounds_of_a_field_are_words(field: dict[str, Any], expected: str):
    assert expected in resource.render(definition({"properties": {"f": field}}))


def test_object_has_a_section_and_the_same_fields_only_once():
    pods = {"type": "object", "properties": {"image": {"type": "string"}}}
    page = resource.render(
        definition({"properties": {"podTemplate": pods, "gpuPodTemplate": pods}, "required": ["podTemplate"]})
    )
    assert "### `spec.podTemplate`" in page
    assert "### `spec.gpuPodTemplate`" not in page
    assert "| `podTemplate` | object | required | Fields: [spec.podTemplate](#specpodtemplate). |" in page
    assert "| `gpuPodTemplate` | object |  | The same fields as: [spec.podTemplate](#specpodtemplate). |" in page


def test_items_of_a_list_have_a_section():
    step = {"type": "object", "properties": {"weight": {"type": "integer"}}}
    page = resource.render(definition({"properties": {"steps": {"type": "array", "items": step}}}))
    assert "[spec.steps[]](#specsteps)" in page
    assert "### `spec.steps[]`" in page


def test_transition_rules_are_grouped_by_message():
    rules = [{"message": f"spec.{name} can't change"} for name in ("a", "b")]
    page = resource.render(definition({"properties": {}}, {"message": "metadata.name is short"}, *rules))
    assert "| `metadata.name` | is short |" in page
    assert "**A field that can't change:**\n\n`spec.a`, `spec.b`." in page


def test_command_has_its_usage_and_its_arguments():
    parser = argparse.ArgumentParser("tool", description="Does things.", epilog="exit codes: 0")
    run = parser.add_subparsers().add_parser("run", help="run it", description="Run it all.")
    run.add_argument("file", help="a file")
    either = run.add_mutually_exclusive_group()
    either.add_argument("--dry", action="store_true", help="do nothing")
    either.add_argument("--port", type=int, default=80, help="a port")
    page = commands.render(parser)
    assert "| [run](#tool-run) | run it |" in page
    assert "## tool run\n\nRun it all.\n\n```text\ntool run FILE [--dry | --port PORT]\n```" in page
    assert "| `FILE` |  | a file |" in page
    assert "| `--port PORT` | `80` | a port |" in page
    assert "```text\nexit codes: 0\n```" in page


def test_value_has_its_comment_type_and_default(tmp_path: Path):
    values = (
        "# Not of a.\n\n# Replicas.\n# Two lines.\nreplicas: 1\n# An image.\nimage:\n"
        "  # A tag.\n  tag: x\n  # A pull.\n  pull: {a: 1}\n"
    )
    schema = {
        "properties": {
            "replicas": {"type": "integer"},
            "image": {"properties": {"tag": {"$ref": "#/$defs/tag"}, "pull": {"enum": ["A", "B"]}}},
        },
        "$defs": {"tag": {"type": "string"}},
    }
    (tmp_path / "values.yaml").write_text(values)
    (tmp_path / "values.schema.json").write_text(json.dumps(schema))
    page = helm.render(read_values(tmp_path))
    assert "| `replicas` | integer | `1` | Replicas. Two lines. |" in page
    assert '| `image.tag` | string | `"x"` | A tag. |' in page
    assert '| `image.pull` | one of `A`, `B` | `{"a": 1}` | A pull. |' in page
    assert "| `image` |  |  | An image. |" in page


def test_metrics_have_the_names_that_prometheus_serves():
    source = module(
        'NAME = "app_runs"\n'
        'a = Counter("app_requests", "Requests.", ["model", "key"], registry=r)\n'
        'b = Gauge(NAME, "Runs.", labelnames=("phase",))\n'
        'c = Counter("app_errors_total", "Errors.")\n'
        "d = Counter(words)\ne: Counter[str] = Counter()\n"
    )
    found = [(m.name, m.kind, m.labels, m.description) for m in metrics.list_metrics(source)]
    assert found == [
        ("app_requests_total", "counter", ("model", "key"), "Requests."),
        ("app_runs", "gauge", ("phase",), "Runs."),
        ("app_errors_total", "counter", (), "Errors."),
    ]


def test_errors_have_their_status_code_and_messages():
    source = module(
        "def a(n):\n"
        '    raise Refusal(404, "gone", f"No {n} here.")\n'
        "def b():\n"
        '    message = "Wait."\n'
        '    error = Refusal(429, "limit", message)\n'
        '    message = "Other."\n'
        "    raise error\n"
    )
    outcome = "The end.\n\nAttributes:\n    model: the ``alias``,\n        in full.\n"
    page = http.render(
        endpoints={"/v1/chat": {"n", "model"}}, outcomes=("/v1/ends", outcome), errors=["Refusal"],
        gateway=[source], modules=[],
    )  # fmt: skip
    assert "| 404 | `gone` | No ... here. |" in page
    assert "| 429 | `limit` | Wait. |" in page
    assert "## POST /v1/chat\n\nThe gateway accepts these parameters: `model`, `n`." in page
    assert "| `model` | the `alias`, in full. |" in page


def test_routes_are_listed_with_the_module_that_serves_them():
    source = module(
        '"""A port."""\n'
        'probes.serve(80, checks={"/healthz": ok}, documents={"/state": state}, registry=registry)\nserve("/other")\n'
    )
    outcome = "The end.\n\nAttributes:\n    model: the alias.\n"
    page = http.render(endpoints={}, outcomes=("/x", outcome), errors=[], gateway=[], modules=[source])
    assert "| `/healthz`, `/state`, `/metrics` | A port. | `gateway/a.py` |" in page


@pytest.mark.parametrize(
    "text",
    [
        'os.environ["A_B"]',
        'os.environ.get("A_B", "")',
        'os.getenv("A_B")',
        'environment["A_B"]',
        'get("A_B")',
        'NAME = "A_B"\nos.environ.get(NAME)',
        '"A_B" in os.environ',
        'port: int = field(default=80, metadata=variable("A_B", parse_integer))',
    ],
)
def test_variable_is_found_when_the_code_reads_it(text: str):
    assert list(environment.read_by(module(text))) == ["A_B"]


@pytest.mark.parametrize("text", ['read_secret("A_B")', 'variable("A_B", secret=True)'])
def test_the_file_of_a_secret_is_found_when_the_code_reads_it(text: str):
    assert list(environment.read_by(module(text))) == ["A_B", "A_B_FILE"]


@pytest.mark.parametrize("text", ['environment["A_B"] = "1"', 'headers.get("a_b")', 'row["A"]', 'print("A_B")'])
def test_other_strings_are_not_listed_as_variables(text: str):
    assert list(environment.read_by(module(text))) == []


def test_page_of_variables_fails_when_one_has_no_description():
    with pytest.raises(environment.Undescribed, match=r"NEW_ONE has no description; it is read in gateway/a\.py"):
        environment.render([module('os.environ["NEW_ONE"]')], {})


EVENTS = (
    'class EventReason(StrEnum):\n    """E.\n\n    Other events exist.\n    """\n'
    '    STARTED = "Started"\n    """It runs."""\n'
)


def reasons_of(note: str = "True: it is so.") -> Module:
    """A module with one reason for each condition."""
    classes = (
        f'class {name}(StrEnum):\n    """R.\n\n    More of {name}.\n    """\n    A = "OfIt"  # why\n    """{note}"""\n'
        for name in conditions.MEANINGS
    )
    return module("".join(classes))


def test_reason_has_its_status_and_its_meaning():
    page = conditions.render(conditions.MEANINGS, reasons_of(), module(EVENTS), {"Started": "Normal"})
    assert page.count("| `OfIt` | True | It is so. |") == len(conditions.MEANINGS)
    assert "\nMore of Serving.\n" in page


def test_event_has_its_reason_its_type_and_its_meaning():
    page = conditions.render(conditions.MEANINGS, reasons_of(), module(EVENTS), {"Started": "Warning"})
    assert "Other events exist." in page
    assert "| `Started` | Warning | It runs. |" in page


def test_page_of_conditions_fails_when_one_has_no_meaning():
    with pytest.raises(conditions.Undescribed, match="Sleeping"):
        conditions.render([*conditions.MEANINGS, "Sleeping"], reasons_of(), module(EVENTS), {})


def test_conditions_page_fails_when_a_reason_class_has_no_condition():
    other = module('class Sleeping(StrEnum):\n    A = "A"\n    """True: so."""\n')
    with pytest.raises(conditions.Undescribed, match=r"name each class of gateway/a\.py as a condition: .*Sleeping"):
        conditions.render(conditions.MEANINGS, other, module(EVENTS), {})


def test_page_of_conditions_fails_when_a_reason_has_no_docstring():
    with pytest.raises(conditions.Undescribed, match=r"Ready\.A has no docstring"):
        conditions.enumerations(module('class Ready(StrEnum):\n    A = "A"\n'))


def test_page_of_conditions_fails_when_a_reason_has_no_status():
    with pytest.raises(conditions.Undescribed, match="reason OfIt with its status"):
        conditions.render(conditions.MEANINGS, reasons_of("It is so."), module(EVENTS), {"Started": "Normal"})


def test_page_of_conditions_fails_when_an_event_has_no_type():
    with pytest.raises(conditions.Undescribed, match=r"give each reason of .* a type: Started"):
        conditions.render(conditions.MEANINGS, reasons_of(), module(EVENTS), {})


def test_interface_has_its_attributes_and_its_methods():
    source = module(
        "class Agent(Protocol):\n"
        '    """A format.\n\n    Read :class:`~app.Task` and ``verbs``.\n    """\n'
        "    name: ClassVar[str]\n"
        "    stop: tuple[str, ...] = ()\n"
        '    """Where a reply ends."""\n'
        "    def head(self, task: Task, *, hints: int = 0) -> str:\n"
        '        """Return the first messages."""\n'
        "        ...\n"
        "    def _hidden(self): ...\n"
        "class _Private: ...\n"
    )
    assert [one.name for one in plugins.classes(source)] == ["Agent"]
    groups = {"distillery.agents": {"plain": "app:Plain"}}
    page = plugins.render(["agents"], groups, {"agents": plugins.classes(source, "Agent")})
    assert "| `plain` | `app:Plain` |" in page
    assert "### Agent\n\nA format.\n\nRead `Task` and `verbs`." in page
    assert "| `name` | `str` |  |  |" in page
    assert "| `stop` | `tuple[str, ...]` | `()` | Where a reply ends. |" in page
    assert "```python\ndef head(self, task: Task, *, hints: int = 0) -> str: ...\n```" in page
    assert "_hidden" not in page


@pytest.mark.parametrize(
    "signature",
    [
        "def f(self): ...",
        "async def f(a, /, b: int = 1, *rest: str, c, d=2, **more: Any) -> None: ...",
        "@property\ndef f(self) -> str: ...",
        "def f(\n    self,\n    *,\n"
        + "".join(f"    argument_{n}: tuple[str, ...],\n" for n in range(5))
        + ") -> None: ...",
    ],
)
def test_signature_is_written_as_ruff_formats_it(signature: str):
    body = "\n".join(f"    {line}" for line in signature.split("\n"))
    page = plugins.render(["agents"], {}, {"agents": plugins.classes(module(f"class A:\n{body}\n"))})
    assert f"```python\n{signature}\n```" in page


def test_page_fails_when_a_class_is_missing():
    with pytest.raises(KeyError):
        plugins.classes(Module("a.py", ast.parse("")), "Agent")
