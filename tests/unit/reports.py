"""A small report, for tests to change."""

from __future__ import annotations

from typing import Any


def arm(success: float) -> dict[str, Any]:
    return {
        "n": 140, "tasks": 140, "successes": round(140 * success), "success": success, "score": success,
        "ci": [success - 0.05, success + 0.05], "steps": 8.5, "tokens": 1234.0, "uncachedTokens": None,
        "invalidActions": 0.1, "broken": 0, "refused": 2, "cutReplies": 0.031,
    }  # fmt: skip


def report(*, wrote: str = "look for a mug in desk", hints: int = 1, stages: int = 3) -> dict[str, Any]:
    """Two rounds.

    Args:
        wrote: stands wherever models and environments may write.
        hints: how many are in the bank.
        stages: how many there were.
    """
    arms = {"baseline": arm(0.4), "distilled": arm(0.9)}
    comparison = {
        "a": "distilled", "b": "baseline", "metric": "success", "tasks": 140, "difference": 0.5, "ci": [0.4, 0.6],
        "onlyA": 70, "onlyB": 0, "p": 1e-20, "pHolm": 1e-20, "test": "exact McNemar",
    }  # fmt: skip
    gate = {"verdict": "Successful", "reason": "The student is better."}
    ended = {
        "round": 1, "arms": arms, "comparisons": [comparison], "gate": gate, "promoted": True,
        "training": {"own": {"n": 800, "successes": 370, "steps": 12.0}},
        "bank": {"failures": 430, "hints": hints, "live": {"claimed": 9, "heldOut": 4}},
        "students": {"distilled": {"student": None, "learnedFrom": {
            "arm": "teacher", "episodes": 0, "dropped": {"failed": 7, "quotes a hint": 2}, "recitationRate": 0.125,
        }}},
    }  # fmt: skip
    turn = {"reply": f"{wrote} go to desk 1", "action": "go to desk 1", "observation": wrote, "valid": False}
    shown = {"leftOut": 3, "first": [turn] * 8, "last": [turn] * 4}
    play = {"arm": "baseline", "steps": 15, "stopReason": "steps", **shown}
    pair = {
        "task": "valid_seen/1", "category": wrote, "goal": wrote, "initialObservation": wrote, "failed": play,
        "solved": {**play, "arm": "distilled", "stopReason": "success"},
        "lesson": {"goal": wrote, "steps": 4, "hints": [wrote, wrote]},
    }  # fmt: skip
    tokens = {"prompt": 900_000, "completion": 100_000, "cached": 450_000}
    stage = {
        "name": "r1-rollout", "kind": "rollout", "round": 1, "phase": "succeeded", "attempts": 2,
        "started": "2026-11-25T12:00:00+00:00", "finished": "2026-11-25T12:01:05+00:00", "seconds": 65.0,
        "episodes": 800, "tokens": tokens, "tokensRead": None,
    }  # fmt: skip
    still = {"phase": "running", "finished": None, "seconds": None, "episodes": None, "tokens": None}
    return {
        "run": "default/test", "started": "2026-11-25T12:00:00+00:00", "finished": "2026-11-25T14:32:10+00:00",
        "settings": {"spec.environment.tasks.seed": 3, "spec.evaluation.arms": ["baseline", "distilled"]},
        "adapter": {"round": 2, "place": "/home/runs/default/test/r2-train-distilled", "digest": "0"},
        "next": [{"command": "distillery serve default/test", "purpose": "serve the promoted student"}],
        "summary": "Promoted. The student is better.", "distillery": "0.1.0", "agent": "plain",
        "maxSteps": 15, "arms": arms, "gate": gate, "promoted": True, "comparisons": [comparison],
        "candidate": "distilled", "confirm": None,
        "costs": {"distilled": {"episodes": 1600, "calls": 19_000, "promptTokens": 4_000_000, "cachedTokens": 2_000_000,
                                "completionTokens": 100_000, "trainedTokens": 500_000, "sum": 3_600_000}},
        "environment": {"name": "alfworld", "source": "generated games (seed 0)", "split": "valid_seen"},
        "base": {"model": "m", "revision": None, "sha256": "0"}, "tokens": tokens,
        "tasks": {"train": {"n": 800, "leftOut": 3}, "evaluate": {"n": 140}},
        "rounds": [ended, {**ended, "round": 2}], "retriever": {"name": "embedding", "topK": 3},
        "episodes": {"found": 70, "shown": [pair, pair]},
        "hints": [{"text": wrote, "category": wrote, "support": 9, "round": 1, "extractor": "llm", "model": wrote,
                   "uses": 3, "successWith": 0.9, "successWithout": None, "successWithoutHints": 0.5}] * hints,
        "stages": [stage] * (stages - 1) + [{**stage, **still, "name": "r2-promote", "kind": "promote"}],
    }  # fmt: skip
