"""Stage train: a student learns from kept episodes, hints removed.

python -m distillery.stages.train CONFIG
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from distillery import __version__
from distillery.agents import Agent
from distillery.core import plugins
from distillery.core.api import Spec
from distillery.core.artifacts import ArtifactError, Store, digest_of
from distillery.core.model_files import resolve
from distillery.core.planner import Dataset
from distillery.core.planner.plays import ON_POLICY, TEACHER, Strategies
from distillery.episodes import Episode
from distillery.stages.runtime.context import StageContext
from distillery.stages.runtime.failures import StageFailure, Terminated
from distillery.stages.runtime.held_out import held_out_test
from distillery.stages.runtime.runner import Result, run_stage
from distillery.training.dataset import EpisodeFilter, SampleBuilder, choose_for_dataset, keep_share
from distillery.training.leaks import LeakError, NgramIndex, Recitation
from distillery.training.samples import ChatRenderer, Sample, TemplateError, count_longest_sample

_log = logging.getLogger(__name__)

_POLL_SECONDS = 10.0  # for a new checkpoint


async def main(context: StageContext) -> tuple[Result, Path]:
    """Select and render the episodes, train the adapter, write it, merged weights, and the training data."""
    spec = context.spec
    assert context.config.dataset is not None
    dataset = Dataset(*context.config.dataset)
    folder = resolve(spec.models.student.model, spec.models.student.revision)
    base_digest = context.prepared.manifest["base"]["sha256"]

    try:
        renderer = _renderer(folder)
        too_long = _length_check(spec, context.prepared.agent, renderer, _max_sample_tokens(spec, folder))
        chosen = await choose_episodes(context, dataset, too_long=too_long)
        same = find_same_student(spec, dataset, chosen)
        samples = [] if same else _render(context, chosen, renderer)
    except (LeakError, TemplateError) as error:
        raise StageFailure(str(error)) from error
    if dropped := chosen.dropped.get("too long"):
        _log.warning("%d episodes are dropped: a sample is longer than spec.training.maxSampleTokens", dropped)
    number = len(chosen.episodes) if same else len({sample.episode_id for sample in samples})
    counts = {"learnedFrom": _describe_selection(dataset, chosen, number)}
    draft = context.store.draft(context.config.stage)
    if same:
        # trained on the same, with the same seed, it would be the same: its arms are left out, the other's stand for it
        return {**counts, "student": None, "sameAs": same}, draft
    if not samples:
        # no success to learn from is a result, not an error: the arms of this student are left out
        return {**counts, "student": None}, draft

    metrics = await _train(context, samples, folder, base_digest, draft)
    _write_samples(draft / "dataset.jsonl", samples)
    return {**counts, **metrics}, draft


def _describe_selection(dataset: Dataset, chosen: Chosen, episodes: int) -> dict[str, Any]:
    """Return the part of the result that tells from how many episodes a student learned, and which were dropped."""
    return {
        "arm": dataset.arm,
        "matched": dataset.matched,
        "filtered": dataset.filtered,
        "episodes": episodes,
        "dropped": chosen.dropped,
        "unmatched": chosen.unmatched,
        "cutReplies": sum(turn.cut for episode in chosen.episodes for turn in episode.turns),
        "recitationRate": chosen.recitation_rate,
    }


def _write_samples(path: Path, samples: Sequence[Sample]) -> None:
    """Write the training data, a line of JSON for each sample."""
    with path.open("w", encoding="utf-8") as file:
        for sample in samples:
            row = {"episode": sample.episode_id, "tokens": len(sample.ids), "text": sample.text}
            file.write(json.dumps(row) + "\n")


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
    hints: NgramIndex


async def choose_episodes(
    context: StageContext, dataset: Dataset, *, too_long: Callable[[Episode], bool] = lambda _: False
) -> Chosen:
    """Select the episodes that the dataset names, of all rounds so far, but for those that are too long."""
    spec, rounds = context.spec, list(range(1, context.round + 1))
    shown = await context.bank.ever_shown()
    hints = NgramIndex(shown)
    arms = Strategies.of(spec).matched_arms if dataset.matched else (dataset.arm,)
    played = {arm: await _read_played(context, arm) for arm in arms}
    is_held_out = await held_out_test(
        context.episodes, context.round, [episode for of_arm in played.values() for episode in of_arm]
    )
    episode_filter = EpisodeFilter(spec.data_filter, hints, is_held_out, too_long)
    by_arm = {arm: episode_filter.select(of_arm, filtered=dataset.filtered) for arm, of_arm in played.items()}
    if spec.training.replay_share < 1:
        present = await context.episodes.read_ids(context.round, arms=[*arms, context.own_arm(context.round)])
        by_arm = {
            arm: keep_share(selection, present, spec.training.replay_share, spec.training.seed)
            for arm, selection in by_arm.items()
        }
    episodes = choose_for_dataset(by_arm, dataset, spec.training.seed)
    given = await context.episodes.read_given_hints(arm=TEACHER, rounds=rounds)
    selection = by_arm[dataset.arm]
    return Chosen(
        episodes=episodes,
        dropped=selection.dropped,
        unmatched=len(selection.kept) - len(episodes),
        recitation_rate=Recitation(shown).rate(episodes, given),
        hints=hints,
    )


async def _read_played(context: StageContext, learning_arm: str) -> list[Episode]:
    """Return the episodes of a learning arm, of all rounds so far; of own play those that know nothing of hints."""
    rounds = list(range(1, context.round + 1))
    if learning_arm != ON_POLICY:
        return await context.episodes.read(arms=[learning_arm], rounds=rounds, copies=False)
    return [
        episode
        for number in rounds
        for episode in await context.episodes.read(arms=[context.own_arm(number)], rounds=[number], copies=False)
    ]


def find_same_student(spec: Spec, dataset: Dataset, chosen: Chosen) -> str | None:
    """Return the student among the arms that learns from the very same episodes; None if there is none."""
    if not (dataset.matched and chosen.episodes) or chosen.unmatched:
        return None
    return Strategies.of(spec).find_student(replace(dataset, matched=False))


def _renderer(folder: Path) -> ChatRenderer:
    """Return the model's tokenizer and chat template."""
    from transformers import AutoTokenizer

    return ChatRenderer(AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True))


def _max_sample_tokens(spec: Spec, folder: Path) -> int:
    """Return the length of the longest sample that the specification, or else the model, allows."""
    from distillery.training.architecture import read_context_length

    return spec.training.max_sample_tokens or read_context_length(folder)


def _length_check(spec: Spec, agent: Agent, renderer: ChatRenderer, max_tokens: int) -> Callable[[Episode], bool]:
    """Return a test of whether an episode has a sample of more than so many tokens."""

    def too_long(episode: Episode) -> bool:
        keep_examples = spec.agent.keep_few_shot_examples
        return count_longest_sample(renderer, agent, episode, keep_examples=keep_examples) > max_tokens

    return too_long


def _render(context: StageContext, chosen: Chosen, renderer: ChatRenderer) -> list[Sample]:
    """Return the samples of the chosen episodes."""
    keep_examples = context.spec.agent.keep_few_shot_examples
    prepared = context.prepared
    builder = SampleBuilder(prepared.agent, prepared.environment, renderer, chosen.hints, keep_examples)
    return builder.build(chosen.episodes)


async def _train(
    context: StageContext, samples: list[Sample], folder: Path, base_digest: str, draft: Path
) -> dict[str, Any]:
    """Train in a thread, so that progress is reported and SIGTERM is handled meanwhile; write the weights."""
    import torch

    from distillery.training.architecture import ArchitectureError
    from distillery.training.lora import Folders, Interrupted
    from distillery.training.weights import NoGPU, write_adapter, write_student

    spec, loop = context.spec, asyncio.get_running_loop()
    # not canceled immediately: the running step is finished and a checkpoint written first
    loop.add_signal_handler(signal.SIGTERM, context.stop.set)
    # identical bytes are guaranteed on a CPU; CUDA's kernels would only be slower, and promise nothing
    # without CUBLAS_WORKSPACE_CONFIG
    torch.use_deterministic_algorithms(not torch.cuda.is_available(), warn_only=True)
    start = context.store.open(context.config.adapter)[0] / "adapter" if context.config.adapter else None
    trainer = plugins.load("trainers", spec.training.trainer)(
        spec.training,
        folders=Folders(folder, context.checkpoints, start),
        report=context.progress.from_thread("steps"),
        stop=context.stop,
    )
    await asyncio.to_thread(context.store.restore, context.config.stage, context.checkpoints)
    keeping = asyncio.create_task(_keep_checkpoints(context.store, context.config.stage, context.checkpoints))
    try:
        trained = await asyncio.to_thread(trainer.train, samples, base_digest=base_digest)
    except Interrupted as error:
        await asyncio.to_thread(_keep, context.store, context.config.stage, context.checkpoints)
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
        "startAdapter": context.config.adapter or None,
        "versions": {"distillery": __version__} | {name: version(name) for name in ("torch", "transformers", "peft")},
        "metrics": trained.metrics,
    }


async def _keep_checkpoints(store: Store, stage: str, folder: Path) -> None:
    """Copy each checkpoint to the store, for a pod that takes over on another node."""
    newest_copied = 0.0
    while True:
        newest = max((path.stat().st_mtime for path in folder.glob("[!.]*")), default=0.0)
        if newest > newest_copied:
            await asyncio.to_thread(_keep, store, stage, folder)
            newest_copied = newest
        await asyncio.sleep(_POLL_SECONDS)


def _keep(store: Store, stage: str, folder: Path) -> None:
    """Copy the checkpoint to the store. A failure is logged, and training continues: it may cost steps later."""
    try:
        store.keep(stage, folder)
    except ArtifactError as error:
        _log.warning("the checkpoint is on this machine alone: %s", error)


if __name__ == "__main__":
    run_stage(main)
