"""Runs that are small enough for a machine with two cores."""

from __future__ import annotations

from typing import Any

TASK = """\
You are in the middle of a room. Looking quickly around you, you see a bed 1, a desk 1, a drawer 1, and a shelf 1.
Your task is to: put some book in bed."""

GATE = {"confidence": 0.5}
"""A gate that a student can pass on a handful of games."""


def small(name: str = "small", *, train: int = 24, evaluate: int = 16, **spec: Any) -> dict[str, Any]:
    """One round of the whole loop in a few minutes."""
    return {
        "apiVersion": "distillery.dev/v1alpha1",
        "kind": "DistillationRun",
        "metadata": {"name": name},
        "spec": {
            "environment": {
                "name": "alfworld",
                "maxSteps": 15,
                "tasks": {"train": train, "evaluate": evaluate, "evaluateSplit": "valid_seen"},
                "options": {"games": "generated"},
            },
            "agent": {"name": "plain"},
            "models": {"student": {"model": "/opt/distillery/models/micro"}},
            "rollout": {"temperature": 0.7, "leaseSeconds": 15},
            "hints": {"topK": 2},
            "training": {
                "lora": {"rank": 8, "alpha": 16, "dropout": 0.0},
                "learningRate": 0.004,
                "epochs": 8,
                "batchSize": 4,
                "packedSequenceLength": 2048,
            },
            "evaluation": {"arms": ["baseline", "distilled"]},
            "promotion": {"gate": GATE},
            "modelServer": {"resources": {"requests": {"cpu": "200m"}}},
            "storage": {"volumeClaim": {"size": "1Gi"}},
            "stages": {"maxParallel": 1},
            **spec,
        },
    }
