"""The OpenEnv plug-in: any environment that a server offers by the OpenEnv protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from distillery.environments.base import (
    Environment,
    EnvironmentAway,
    EnvironmentConfigurationError,
    Example,
    Observation,
    Report,
    Task,
)
from distillery.environments.openenv.client import Connection, Result, Server, ServerError, is_gone
from distillery.environments.openenv.options import Options

_FILE = "openenv.json"
_PATIENCE = 30.0
"""Seconds for a connection, and for what a server says of itself: less than a step may take."""
_TOKEN_FIX = "; name the token that it takes in spec.environment.tokenSecretRef"  # noqa: S105
_SEEDS_APART = 1_000_000
"""The first seed of every split but ``train``, on servers without tasks of their own."""


class OpenEnv:
    """An environment behind a URL. See :class:`distillery.environments.base.Environment`.

    Its tasks are the server's, where it has any (``reset(split=..., index=...)``), and else seeds (``reset(seed=...)``)
    whose goal is what the agent reads first.
    """

    name: ClassVar[str] = "openenv"
    state_keys: ClassVar[tuple[str, ...]] = ("goal", "state")
    placeholders: ClassVar[tuple[str, ...]] = ("{object}", "{place}", "{number}")
    thoughts: ClassVar[bool] = True
    held_out_split: ClassVar[str] = ""
    concurrent: ClassVar[bool] = True

    def __init__(self, options: Mapping[str, Any], folder: Path) -> None:
        """Check the options; the server is first asked by :meth:`prepare`."""
        self._options = Options.parse(options)
        self._file = folder / _FILE
        self.verbs = self._options.verbs

    @property
    def source(self) -> str:
        """The server's name for itself and its address."""
        server = self._prepared["server"] if self._file.exists() else "not prepared"
        return f"OpenEnv: {server} at {self._options.url}"

    @property
    def instructions(self) -> str:
        """The option, or what the server says of the environment and of actions."""
        if self._options.instructions:
            return self._options.instructions
        prepared = self._prepared
        action = prepared["action"]
        how = (
            "Each command is a line of text."
            if action
            else f"Each command is one line, a JSON object of this schema: {json.dumps(prepared['schema'])}"
        )
        return f"{prepared['description']}\n{how}"

    @property
    def goal_is_task(self) -> bool:
        """True if a goal is all that the server lists of a task. A seed's opening may hide other differences."""
        return bool(self._prepared["splits"]) and not self._options.goal

    def splits(self) -> Mapping[str, int | None]:
        """Return no splits: :meth:`prepare` is the first to ask the server."""
        return {}

    def prepare(self, wanted: Mapping[str, int], *, report: Report = lambda done, total: None) -> None:
        """Ask the server what it has, and write it down; seeds are each reset once, for their openings.

        Raises:
            EnvironmentConfigurationError: the server can't be reached, isn't OpenEnv's, or answers the same reset
                differently the second time.
        """
        server = Server(self._options.url, patience=_PATIENCE, headers=self._options.headers())
        try:
            metadata, schema = server.metadata(), server.schema()
            name, splits = server.splits()
            action = self._options.action or _find_only_text(schema["action"])
            text = self._options.text or _find_only_text(schema["observation"])
            prepared = {
                "server": " ".join(str(metadata[key]) for key in ("name", "version") if metadata.get(key)),
                "description": str(metadata.get("description") or ""),
                "action": action,
                "text": text,
                "schema": _reduce_schema(schema["action"]),
                "splits": splits,
            }
            if splits:
                tasks = {
                    split: self._describe_tasks(split, server.tasks(name, split)) for split in wanted if split in splits
                }
            else:
                tasks = self._seed_tasks(wanted, text, report)
        except (OSError, InvalidHandshake, ServerError, LookupError, TypeError, ValueError) as error:
            fix = _TOKEN_FIX if _wants_token(error) else ""
            raise EnvironmentConfigurationError(
                f"the server at {self._options.url} can't be used: {type(error).__name__}: {error}{fix}"
            ) from error
        prepared["tasks"] = {split: [asdict(task) for task in some] for split, some in tasks.items()}
        self._file.write_text(json.dumps(prepared), encoding="utf-8")
        vars(self).pop("_prepared", None)

    def catalog(self, split: str) -> Sequence[Task]:
        """Return the server's tasks of a split, or the seeds that :meth:`prepare` was to have."""
        tasks = self._prepared["tasks"]
        if split not in tasks:
            splits = ", ".join(self._prepared["splits"] or tasks)
            raise EnvironmentConfigurationError(f"there is no split {split!r} of {self.source}; there are {splits}")
        return [Task(**task) for task in tasks[split]]

    def labels(self, task: Task) -> Sequence[str]:
        """Return no labels: the server names none."""
        return ()

    def load(self) -> None:
        """Do nothing: the server holds everything."""

    def open(self, task: Task) -> OpenEnvSession:
        """Open a session of its own on the server."""
        prepared = self._prepared
        return OpenEnvSession(self._options, task, action=prepared["action"], text=prepared["text"])

    def examples(self, category: str) -> Sequence[Example]:
        """Return no examples: none are known."""
        return ()

    def goal(self, opening: str) -> str:
        """Return an empty text: it is unknown where a server's observations state the goal."""
        return ""

    limit_steps = Environment.limit_steps
    """The default: a server's description says what it says."""

    read = Environment.read
    """The default: what the texts mean isn't known, so hints take the extractor ``llm``."""

    @cached_property
    def _prepared(self) -> dict[str, Any]:
        try:
            return json.loads(self._file.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise EnvironmentConfigurationError(f"there is no {self._file}: run prepare first") from error

    def _describe_tasks(self, split: str, specs: Sequence[Any]) -> list[Task]:
        options = self._options

        def task(index: int, spec: Any) -> Task:
            goal = spec if isinstance(spec, str) else json.dumps(spec, ensure_ascii=False, sort_keys=True)
            if options.goal:
                goal = _read_field(spec, options.goal, "goal")
            category = _read_field(spec, options.category, "category") if options.category else ""
            return Task(f"{split}/{index}", split, category, goal.rstrip("."))

        return [task(index, spec) for index, spec in enumerate(specs)]

    def _seed_tasks(self, wanted: Mapping[str, int], text: str, report: Report) -> dict[str, list[Task]]:
        total, tasks = sum(wanted.values()), dict[str, list[Task]]()
        for split, number in wanted.items():
            first = 0 if split == "train" else _SEEDS_APART
            tasks[split] = []
            for seed in range(first, first + number):
                opening = self._read_opening(seed, text)
                if seed == first and self._read_opening(seed, text) != opening:
                    raise ValueError(
                        f"reset(seed={seed}) led to two different openings: arms are compared on the same tasks, so "
                        "that the environment has to take the seed, and to draw nothing without it"
                    )
                tasks[split].append(Task(f"{split}/seed-{seed}", split, "", opening.rstrip(".")))
                report(sum(map(len, tasks.values())), total)
        return tasks

    def _read_opening(self, seed: int, text: str) -> str:
        connection = Connection(self._options.url, patience=_PATIENCE, headers=self._options.headers())
        try:
            return _read_text(connection.reset({"seed": seed}), text, required=bool(self._options.text))
        finally:
            connection.close()


class OpenEnvSession:
    """One episode on a server. See :class:`distillery.environments.base.Session`."""

    def __init__(self, options: Options, task: Task, *, action: str, text: str) -> None:
        """Play a task.

        Args:
            options: of the environment.
            task: one of its tasks.
            action: the field of an action that takes the command; empty where the command is the whole action.
            text: the field of an observation that is read; empty where all are.
        """
        self._options = options
        self._action = action
        self._text = text
        index = task.id.removeprefix(f"{task.split}/")
        seed = index.removeprefix("seed-")
        self._parameters = {"seed": int(seed)} if seed != index else {"split": task.split, "index": int(index)}
        self._connection: Connection | None = None
        self._closed = False
        self._total_reward = 0.0
        self._has_reward = False

    def reset(self) -> Observation:
        """Start over, in a new session.

        Raises:
            EnvironmentAway: the server is away, or has no room.
            EnvironmentConfigurationError: it wants another token.
        """
        self._disconnect()
        self._total_reward = 0.0
        self._has_reward = False
        return self._to_observation(self._connect())

    def step(self, action: str) -> Observation:
        """Carry out one action; one that the server's schema doesn't allow is refused and changes nothing.

        Raises:
            EnvironmentAway: the server went away.
        """
        assert self._connection is not None
        if self._action:
            fields: Any = {self._action: action}
        else:
            try:
                fields = json.loads(action)
            except ValueError:
                fields = None
            if not isinstance(fields, dict):
                return self._refuse("a command is a JSON object")
        try:
            return self._to_observation(self._connection.step(fields))
        except ServerError as error:
            if error.code == "VALIDATION_ERROR":
                return self._refuse(error.message)
            raise
        except ConnectionClosed as error:
            if is_gone(error):
                raise EnvironmentAway(f"the server at {self._options.url} went away: {_format_error(error)}") from error
            raise

    def close(self) -> None:
        """Leave the server, also while another thread waits for it."""
        self._closed = True
        self._disconnect()

    def _disconnect(self) -> None:
        if self._connection:
            connection, self._connection = self._connection, None
            connection.close()

    def _connect(self) -> Result:
        fix = ""
        try:
            connection = Connection(self._options.url, patience=_PATIENCE, headers=self._options.headers())
            self._connection = connection
            if self._closed:
                self._disconnect()
            return connection.reset(self._parameters)
        except ServerError as error:
            if error.code != "CAPACITY_REACHED":
                raise
            problem = error
            fix = "; ask for fewer at once (spec.rollout.concurrency, workers), or let it have more"
        except ConnectionClosed as error:
            if not is_gone(error):
                raise
            problem = error
        except (OSError, InvalidHandshake) as error:
            if _wants_token(error):
                raise EnvironmentConfigurationError(
                    f"the server at {self._options.url} took no episode: {error}{_TOKEN_FIX}"
                ) from error
            problem = error
        raise EnvironmentAway(
            f"the server at {self._options.url} took no episode: {_format_error(problem)}{fix}"
        ) from problem

    def _to_observation(self, result: Result) -> Observation:
        if result.reward is not None:
            self._total_reward = result.reward + (self._total_reward if self._options.reward == "sum" else 0.0)
            self._has_reward = True
        score = self._score
        return Observation(
            _read_text(result, self._text, required=bool(self._options.text)),
            score=score,
            done=result.done,
            success=result.done and score >= self._options.success,
        )

    @property
    def _score(self) -> float:
        """The reward as a share of the best one."""
        if not self._has_reward:
            return 0.0
        worst, best = self._options.rewards
        score = (self._total_reward - worst) / (best - worst)
        if not 0 <= score <= 1:
            raise ValueError(f"the reward is {self._total_reward:g}, and the option rewards says {worst:g} to {best:g}")
        return score

    def _refuse(self, why: str) -> Observation:
        return Observation(f"This is no valid action: {why}", score=self._score, valid=False)


def _format_error(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _wants_token(error: Exception) -> bool:
    code = error.response.status_code if isinstance(error, InvalidStatus) else getattr(error, "code", None)
    return code in (401, 403)


def _read_text(result: Result, field: str, *, required: bool) -> str:
    value = result.observation.get(field)
    if isinstance(value, str):
        return value
    if required:
        raise ValueError(f"the observation's field {field} is {value!r:.200}, not a text")
    rest = {name: value for name, value in result.observation.items() if name != "metadata"}
    return json.dumps(rest, ensure_ascii=False)


def _find_only_text(schema: Mapping[str, Any]) -> str:
    """Return the one text field of an action or an observation that has no other fields; else an empty text."""
    names = _reduce_schema(schema)["properties"]
    return next(iter(names)) if [field.get("type") for field in names.values()] == ["string"] else ""


def _reduce_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema without titles and without what all actions and observations have."""
    common = ("metadata", "reward", "done")
    properties = {
        name: {key: value for key, value in field.items() if key != "title"}
        for name, field in schema.get("properties", {}).items()
        if name not in common
    }
    kept = {key: schema[key] for key in ("$defs", "required") if schema.get(key)}
    return {"properties": properties, **kept}


def _read_field(spec: Any, name: str, option: str) -> str:
    value = spec.get(name) if isinstance(spec, dict) else None
    if not isinstance(value, str | int):
        raise ValueError(f"a task has no field {name} (option {option}); it is {spec!r:.200}")
    return str(value)
