"""The environment that the agent acts in, and the tasks that are pinned for training and for evaluation."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, JsonValue, StringConstraints

from distillery.core.api.base import PluginName, SecretKey, SpecModel


class Tasks(SpecModel):
    """The pinned tasks.

    A split's tasks are put into an order drawn once with ``seed``, and the first so many are taken, so that a larger
    number only adds tasks. The list and its digest are recorded with every result.
    """

    train: Annotated[int, Field(ge=1, le=100_000)] = 1200
    """train is the number of tasks of the split ``train`` that the agent learns from in a round."""

    evaluate: Annotated[int, Field(ge=1, le=100_000)] = 134
    """evaluate is the number of held-out tasks that every arm is judged on. It can grow while the run exists. Unless
    the last round promoted its student, that student is judged again, corrected for the earlier look."""

    confirm: Annotated[int, Field(ge=0, le=100_000)] = 0
    """confirm is the number of held-out tasks on which a candidate that passed the gate is judged once more. Each time
    they are new tasks of ``evaluateSplit``, which no gate has seen, and their result is the one that counts. 0 promotes
    by the tasks of ``evaluate`` alone."""

    evaluate_split: Annotated[str, StringConstraints(min_length=1, max_length=63)] | None = None
    """evaluateSplit is the split of the held-out tasks. ``train`` takes tasks of that split beyond those that are
    learned from. Default: the environment's own choice, ``valid_unseen`` for ``alfworld`` and ``test`` for ``webshop``.
    An environment without a choice requires the field."""

    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """seed decides the order in which tasks of each split are taken."""


class Environment(SpecModel):
    """The environment, its budget and its tasks."""

    name: PluginName = "alfworld"
    """name is ``alfworld``, ``webshop``, ``openenv`` (a server that speaks the OpenEnv protocol), or any name
    registered under the entry points ``distillery.environments``."""

    max_steps: Annotated[int, Field(ge=1, le=1000)] = 50
    """maxSteps is the number of actions after which an episode is over."""

    tasks: Tasks = Tasks()
    """tasks are the numbers of tasks to train on and to evaluate on."""

    options: Annotated[dict[str, JsonValue], Field(max_length=32)] = {}
    """options are the settings of the environment itself. ``alfworld`` takes ``games`` (auto, alfworld or generated)
    and ``seed``. ``webshop`` takes ``catalog`` (auto, webshop or generated), ``goals`` (human or synthetic),
    ``products``, ``seed``, ``nouns``, ``shown`` and ``attributes``. ``openenv`` takes ``url``, and as the server needs
    it ``instructions``, ``verbs``, ``action``, ``text``, ``goal``, ``category``, ``reward``, ``rewards`` and
    ``success``."""

    token_secret_ref: SecretKey | None = None
    """tokenSecretRef is the bearer token that an ``openenv`` server requires. Environments without a server reject
    it."""

    @property
    def plugin_options(self) -> dict[str, JsonValue]:
        """The arguments of the environment's plug-in: its options, and the place of its token."""
        token = self.token_secret_ref
        return {**self.options, **({"tokenSecretRef": {"name": token.name, "key": token.key}} if token else {})}
