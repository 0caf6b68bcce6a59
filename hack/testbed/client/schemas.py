"""The schemas of a version of Kubernetes as kubeconform reads them, from the OpenAPI document in its Go module."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hack.testbed.machine import programs
from hack.testbed.places import Places

_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
_DEFINITIONS = "#/definitions/"

LOCATION = "{{ .ResourceKind }}{{ .KindSuffix }}.json"
"""How kubeconform finds the file of a kind in the folder."""


def of(places: Places, version: str) -> Path:
    """Return the folder with one file for each kind of a Kubernetes version such as ``1.31.0``.

    Raises:
        ClusterError: The version can't be downloaded.
    """
    folder = places.root / "schemas" / version
    if folder.is_dir():
        return folder
    places.root.mkdir(parents=True, exist_ok=True)
    module = json.loads(programs.go(["mod", "download", "-json", f"k8s.io/kubernetes@v{version}"], places.root))
    document = json.loads(Path(module["Dir"], "api", "openapi-spec", "swagger.json").read_text())
    work = folder.with_name(f".{folder.name}")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    for name, schema in files(document["definitions"]):
        (work / name).write_text(json.dumps(schema))
    work.rename(folder)
    return folder


def files(definitions: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the content of the file of each kind; fields that a kind does not have are refused."""
    closed = {name: _close(name, schema) for name, schema in definitions.items()}
    for name, schema in definitions.items():
        kinds = schema.get("x-kubernetes-group-version-kind", [])
        if len(kinds) != 1:
            continue  # such as DeleteOptions, which belongs to every group
        group, version, kind = (kinds[0][key] for key in ("group", "version", "kind"))
        parts = [kind, *filter(None, (group.split(".")[0], version))]
        needed = {key: closed[key] for key in _collect_needed(name, closed)}
        yield "-".join(parts).lower() + ".json", {"$ref": _DEFINITIONS + name, "definitions": needed}


def _close(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    if name in (_QUANTITY, _INT_OR_STRING):
        return {"type": ["string", "number"]}
    kept = {key: value for key, value in schema.items() if not key.startswith("x-") and key != "description"}
    return kept | {"additionalProperties": False} if "properties" in kept else kept


def _collect_needed(name: str, definitions: dict[str, Any]) -> set[str]:
    """The definitions that one of them needs, itself among them."""
    found, left = set[str](), [name]
    while left:
        if (current := left.pop()) not in found:
            found.add(current)
            left += _references(definitions[current])
    return found


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, below in value.items():
            if key == "$ref" and isinstance(below, str):  # a property may be called so, too
                yield below.removeprefix(_DEFINITIONS)
            else:
                yield from _references(below)
    elif isinstance(value, list):
        for below in value:
            yield from _references(below)
