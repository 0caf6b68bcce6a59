"""Stage train: a student learns from kept episodes, hints removed.

python -m distillery.stages.train CONFIG
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from distillery import __version__
from distillery.core import plugins
from distillery.core.artifacts import ArtifactError, digest_of
from distillery.core.model_files import resolve
from distillery.core.planner import Dataset
from distillery.core.planner.graph import TEACHER, matched_arms, student_of, student_that_learns
from distillery.core.planner.prepared import open_prepared
from distillery.database.episodes import read_episodes, read_given_hints
from distillery.episodes import Episode
from distillery.stages.runtime.held_out import held_out_test
from distillery.stages.runtime.runner import Result, StageContext, StageFailure, Terminated, run_stage
from distillery.training.dataset import build, choose, keep
from distillery.training.leaks import LeakError, Quotations, Recitation
from distillery.training.samples import ChatRenderer, Sample, TemplateError, longest_sample

_log = logging.getLogger(__name__)

_KEEP_SECONDS = 10.0  # between two looks for a new checkpoint


async def main(context: StageContext) -> tuple[Result, Path]:
    """Select and render the episodes, train the adapter, write it, merged weights, and the training data."""
    spec = context.spec
    assert context.config.dataset is not None
    dataset = Dataset(*context.config.dataset)
    folder = resolve(spec.models.student.model, spec.models.student.revision)
    base_digest = open_prepared(context.store, spec.environment.tasks.evaluate)[1]["base"]["sha256"]

    try:
        renderer = _renderer(folder)
        chosen = await choose_episodes(context, dataset, too_long=_length_check(context, renderer, folder))
        same = trained_alike(context, dataset, chosen)
        samples = [] if same else _render(context, chosen, renderer)
    except (LeakError, TemplateError) as error:
        raise StageFailure(str(error)) from error
    if too_long := chosen.dropped.get("too long"):
        _log.warning("%d episodes are dropped: a sample is longer than spec.training.maxSampleTokens", too_long)
    counts = {
        "learnedFrom": {
            "arm": dataset.arm,
            "matched": dataset.matched,
            "filtered": dataset.filtered,
            "episodes": len(chosen.episodes) if same else len({sample.episode_id for sample in samples}),
            "dropped": chosen.dropped,
            "unmatched": chosen.unmatched,
            "cutReplies": sum(turn.cut for episode in chosen.episodes for turn in episode.turns),
            "recitationRate": chosen.recitation_rate,
        }
    }
    draft = context.store.draft(context.config.stage)
    if same:
        # trained on the same, with the same seed, it would be the same: its arms are left out, the other's stand for it
        return {**counts, "student": None, "sameAs": same}, draft
    if not samples:
        # no success to learn from is an outcome, not an error: the arms of this student are left out
        return {**counts, "student": None}, draft

    metrics = await _train(context, samples, folder, base_digest, draft)
    with (draft / "dataset.jsonl").open("w", encoding="utf-8") as file:
        for sample in samples:
            row = {"episode": sample.episode_id, "tokens": len(sample.ids), "text": sample.text}
            file.write(json.dumps(row) + "\n")
    return {**counts, **metrics}, draft


@dataclass(frozen=True, slots=True)
class Chosen:
    """The episodes that a student learns from.

    Attributes:
        episodes: in the order of their samples.
        dropped: why others are not among them, with counts.
        unmatched: how many were left out because another learning arm has none like them.
        recitation_rate: the share of them that recite hints; of own play, those that the teacher was given.
        hints: every hint ever shown, for the leak check of the samples.
    """

    episodes: list[Episode]
    dropped: Mapping[str, int]
    unmatched: int
    recitation_rate: float | None
    hints: Quotations


async def choose_episodes(
    context: StageContext, dataset: Dataset, *, too_long: Callable[[Episode], bool] = lambda _: False
) -> Chosen:
    """Select the episodes that the dataset names, of all rounds so far, but for those that are too long."""
    spec, rounds = context.spec, list(range(1, context.round + 1))
    shown = await context.bank.ever_shown()
    hints = Quotations(shown)
    arms = matched_arms(spec) if dataset.matched else (dataset.arm,)
    played = {arm: await read_episodes(context.database, context.run_id, arms=[arm], rounds=rounds) for arm in arms}
    is_held_out = await held_out_test(context, [episode for of_arm in played.values() for episode in of_arm])
    by_arm = {
        arm: keep(of_arm, spec, hints, filtered=dataset.filtered, is_held_out=is_held_out, too_long=too_long)
        for arm, of_arm in played.items()
    }
    episodes = choose(by_arm, dataset, spec.training.seed)
    given = await read_given_hints(context.database, context.run_id, arm=TEACHER, rounds=rounds)
    selection = by_arm[dataset.arm]
    return Chosen(
        episodes=episodes,
        dropped=selection.dropped,
        unmatched=len(selection.kept) - len(episodes),
        recitation_rate=Recitation(shown).rate(episodes, given),
        hints=hints,
    )


def trained_alike(context: StageContext, dataset: Dataset, chosen: Chosen) -> str | None:
    """Return the student among the arms that learns from the very same episodes; None if there is none."""
    if not (dataset.matched and chosen.episodes) or chosen.unmatched:
        return None
    student = student_that_learns(replace(dataset, matched=False))
    return student if student in {student_of(arm) for arm in context.spec.evaluation.arms} else None


def _renderer(folder: Path) -> ChatRenderer:
    """The model's tokenizer and chat template."""
    from transformers import AutoTokenizer

    return ChatRenderer(AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True))


def _length_check(context: StageContext, renderer: ChatRenderer, folder: Path) -> Callable[[Episode], bool]:
    """Whether an episode has a sample that is longer than the specification, or else the model, allows."""
    from distillery.training.architecture import context_length

    spec = context.spec
    limit = spec.training.max_sample_tokens or context_length(folder)

    def too_long(episode: Episode) -> bool:
        keep_examples = spec.agent.keep_few_shot_examples
        return longest_sample(renderer, context.agent, episode, keep_examples=keep_examples) > limit

    return too_long


def _render(context: StageContext, chosen: Chosen, renderer: ChatRenderer) -> list[Sample]:
    """The samples of the chosen episodes."""
    return build(
        chosen.episodes,
        spec=context.spec,
        agent=context.agent,
        environment=context.environment,
        renderer=renderer,
        hints=chosen.hints,
    )


async def _train(
    context: StageContext, samples: list[Sample], folder: Path, base_digest: str, draft: Path
) -> dict[str, Any]:
    """Train in a thread, so that progress is reported and SIGTERM is heard meanwhile; write the weights."""
    import torch

    from distillery.training.architecture import ArchitectureError
    from distillery.training.lora import Interrupted
    from distillery.training.weights import NoGPU, write_adapter, write_student

    spec, loop = context.spec, asyncio.get_running_loop()
    # not cancelled at once: the step under way is finished and a checkpoint written first
    loop.add_signal_handler(signal.SIGTERM, context.stop.set)
    # the promise of the very same bytes holds on a CPU; CUDA's kernels would only be slower, and promise nothing
    # without CUBLAS_WORKSPACE_CONFIG
    torch.use_deterministic_algorithms(not torch.cuda.is_available(), warn_only=True)
    trainer = plugins.load("trainers", spec.training.trainer)(
        spec.training, base=folder, checkpoints=context.checkpoints, report=context.reporter("steps"), stop=context.stop
    )
    await asyncio.to_thread(context.store.restore, context.config.stage, context.checkpoints)
    keeping = asyncio.create_task(_keep_checkpoints(context))
    try:
        trained = await asyncio.to_thread(trainer.train, samples, base_digest=base_digest)
    except Interrupted as error:
        await asyncio.to_thread(_keep, context)
        raise Terminated(str(error)) from error
    except (ArchitectureError, NoGPU) as error:
        raise StageFailure(str(error)) from error
    finally:
        keeping.cancel()

    student = spec.models.student
    name = f"{student.model}@{student.revision}" if student.revision else student.model
    digest = write_adapter(trained.model, draft / "adapter", base_name=name)
    if context.config.merge:
        write_student(trained.model, draft, base=folder, quantized=spec.training.quantization != "none")
    return {
        "student": digest,
        "base": {"model": student.model, "revision": student.revision, "sha256": base_digest},
        "dataset": digest_of([[sample.ids, sample.targets] for sample in samples]),
        "seed": spec.training.seed,
        "versions": {"distillery": __version__} | {name: version(name) for name in ("torch", "transformers", "peft")},
        "metrics": trained.metrics,
    }


async def _keep_checkpoints(context: StageContext) -> None:
    """Copy each checkpoint to the store, for a pod that takes over on another node."""
    kept = 0.0
    while True:
        written = max((path.stat().st_mtime for path in context.checkpoints.glob("[!.]*")), default=0.0)
        if written > kept:
            await asyncio.to_thread(_keep, context)
            kept = written
        await asyncio.sleep(_KEEP_SECONDS)


def _keep(context: StageContext) -> None:
    """A checkpoint that can't be copied costs steps, and training goes on."""
    try:
        context.store.keep(context.config.stage, context.checkpoints)
    except ArtifactError as error:
        _log.warning("the checkpoint is on this machine alone: %s", error)


if __name__ == "__main__":
    run_stage(main)
