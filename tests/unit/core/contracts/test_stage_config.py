"""The configuration of a stage, which images of older releases read as well."""

from __future__ import annotations

import json
from pathlib import Path

from distillery.core.api import parse
from distillery.core.artifacts import Identity
from distillery.core.contracts.stage_config import Server, StageConfig
from distillery.core.planner import Dataset, Kind, Stage, StageId
from tests.unit.documents import document

RUN = parse(document())
CONFIG = StageConfig.of(
    RUN,
    Stage(StageId(1, Kind.TRAIN, "sft"), dataset=Dataset("own", matched=True)),
    identity=Identity("uid", "a" * 64),
    server=Server(base_url="http://localhost:8000/v1", model="m", api_key_secret=("keys", "token")),
    store="file:///artifacts",
    persist_status=True,
    retry="2026-12-01T00:00:00Z",
    merge=True,
    cache=Path("/cache"),
    work=Path("/work"),
    outcome=Path("/outcome"),
)
DOCUMENT = {
    "records_itself": True,
    "retry": "2026-12-01T00:00:00Z",
    "document": CONFIG.document,
    "stage": "r1-train-sft",
    "arms": [],
    "student": False,
    "dataset": ["own", True, True],
    "own_arms": [],
    "start": "",
    "adapter": "",
    "player": "",
    "merge": True,
    "server": {
        "base_url": "http://localhost:8000/v1",
        "model": "m",
        "api_key_secret": ["keys", "token"],
        "parameters": {},
        "field": "",
    },
    "identity": f"uid-{'a' * 64}",
    "store": "file:///artifacts",
    "store_endpoint": None,
    "cache": "/cache",
    "work": "/work",
    "outcome": "/outcome",
}


def test_config_keeps_its_form_between_releases():
    assert json.loads(CONFIG.model_dump_json(indent=1)) == DOCUMENT
    assert StageConfig.model_validate_json(json.dumps(DOCUMENT)) == CONFIG


def test_config_ignores_a_field_when_a_newer_release_wrote_it():
    assert StageConfig.model_validate({**DOCUMENT, "newer": 1}) == CONFIG
