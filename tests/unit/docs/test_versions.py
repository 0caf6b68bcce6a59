"""One oldest Kubernetes, the same wherever it is written; and the schemas that manifests are checked against."""

from __future__ import annotations

import re
from typing import Any

import yaml

from hack.testbed.client import schemas
from tests.paths import ROOT

SAYS = re.compile(r"Kubernetes (\d+\.\d+) or later")


def test_oldest_kubernetes_is_the_same_everywhere():
    chart = yaml.safe_load((ROOT / "charts/distillery/Chart.yaml").read_text())["kubeVersion"]
    found = {name: SAYS.findall((ROOT / name).read_text()) for name in ("README.md", "docs/kubernetes.md")}
    assert found == {"README.md": ["1.31"], "docs/kubernetes.md": ["1.31"]}
    assert chart == ">=1.31.0-0"


def test_schemas_are_closed_and_hold_what_they_refer_to():
    meta = {"type": "object", "properties": {"name": {"type": "string"}}}
    quantity = "io.k8s.apimachinery.pkg.api.resource.Quantity"
    reference = {"$ref": f"#/definitions/{quantity}"}
    kind = {"group": "apps.k8s.io", "version": "v1", "kind": "Thing"}
    thing: dict[str, Any] = {
        "type": "object",
        "description": "A thing.",
        "properties": {"metadata": {"$ref": "#/definitions/Meta"}, "sizes": {"type": "array", "items": reference}},
        "x-kubernetes-group-version-kind": [kind],
    }
    definitions = {"Thing": thing, "Meta": meta, quantity: {"type": "string"}, "Other": {}}
    ((name, made),) = schemas.files(definitions)
    assert name == "thing-apps-v1.json"
    assert made["$ref"] == "#/definitions/Thing"
    assert made["definitions"].keys() == {"Thing", "Meta", quantity}
    assert made["definitions"]["Thing"]["additionalProperties"] is False
    assert made["definitions"][quantity] == {"type": ["string", "number"]}
