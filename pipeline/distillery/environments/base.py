"""The interface of an environment: a catalog of tasks, and sessions that play them.

An environment plug-in is a class registered under the entry point group ``distillery.environments``, as ALFWorld,
WebShop and OpenEnv are. One that derives from :class:`Environment` has to define its name, its instructions, its
tasks and how to play one; docs/tutorial.md makes one. The class is constructed from plain data in two places:

* in a stage's own process, where all but ``load`` and ``open`` is used, so that importing the module must not load a
  heavy engine;
* in worker processes (:mod:`distillery.environments.pool.pool`), where ``load`` and ``open`` build the engine.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast

Report = Callable[[int, int], None]
"""Called with (done, total) now and then. It may raise, to stop the work."""


class EnvironmentConfigurationError(Exception):
    """The environment can't be built as configured: the message names the setting and the fix."""


class EnvironmentAway(Exception):
    """The server behind an environment is away or has no room. The pool waits for it and plays the session again."""


@dataclass(frozen=True, slots=True)
class Task:
    """One task, the unit that is pinned, leased, played and paired in statistics.

    Attributes:
        id: stable and unique within its environment and source.
        split: the name of the split it belongs to, such as ``train``.
        category: the kind of task; hints are typed by it. Where it is empty, one is found from the goal
            (:mod:`distillery.hints.categories`).
        goal: the goal in the environment's words, without a trailing full stop. It is the query of hint retrieval,
            which reads the first 256 word pieces (:mod:`distillery.hints.embedder`): begin with what the task is about.
    """

    id: str
    split: str
    category: str
    goal: str


@dataclass(frozen=True, slots=True)
class Observation:
    """The environment's answer to a reset or to an action.

    Attributes:
        text: the text that the agent reads.
        score: the score so far, 0 to 1. An environment that grades nothing omits it: it is 1 at success, else 0.
        done: the episode is over.
        success: the goal is reached.
        valid: False if the environment refused the action (nothing changed).
        admissible: the actions that would be accepted now, if the environment can list them.
    """

    text: str
    score: float = cast(float, None)
    done: bool = False
    success: bool = False
    valid: bool = True
    admissible: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Score by success where no score is given: training keeps episodes by score."""
        if cast(Any, self.score) is None:
            object.__setattr__(self, "score", 1.0 if self.success else 0.0)


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that one turn of an episode shows, as the extractor ``rules`` reads it (no language model involved).

    ``kind`` is one of:

    * ``looked``: the place ``place`` was looked into.
    * ``found``: a ``thing`` was seen at ``place``.
    * ``accepted`` / ``refused``: the environment carried out / refused an action of the kind ``thing`` while
      ``conditions`` held, for instance ``{"holding something", "at the target"}``.
    * ``scored``: an action of the kind ``thing`` earned ``score`` while ``conditions`` held, where rewards are graded.

    Names are kinds (``mug``, ``desk``), never one task's instances (``mug 2``).
    """

    kind: str
    thing: str = ""
    place: str = ""
    conditions: frozenset[str] = frozenset()
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class ExampleTurn:
    """One turn of a worked example.

    Attributes:
        thought: empty where the example does not think.
        action: the command.
        observation: what the environment answered.
        state: what holds before the action, by the environment's ``state_keys`` (agent StateAct).
    """

    thought: str
    action: str
    observation: str
    state: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Example:
    """A worked example: an episode of the environment that ends in success."""

    opening: str
    turns: tuple[ExampleTurn, ...]


class Session(Protocol):
    """One task being played. Not thread-safe; lives in a worker process."""

    def reset(self) -> Observation:
        """Start the task over. Deterministic: the same task and actions give the same observations."""
        ...

    def step(self, action: str) -> Observation:
        """Carry out one action."""
        ...

    def close(self) -> None:
        """Free what the session holds."""
        ...


class AgentSupport(Protocol):
    """The part of an environment that agents use; all of it has defaults."""

    verbs: ClassVar[tuple[str, ...]] = ()
    """The words that a command can begin with, by which ``plain`` finds commands. Without any, each line is a
    command."""

    state_keys: ClassVar[tuple[str, ...]] = ("goal", "state")
    """The state that the agent StateAct restates in each turn, in order."""

    thoughts: ClassVar[bool] = True
    """Thoughts help here (they hurt in WebShop: arXiv 2510.01375, section 4)."""

    def examples(self, category: str) -> Sequence[Example]:
        """Return worked examples of a category, our own, best first; by default none."""
        return ()


class HintSupport(Protocol):
    """The part of an environment that hints are made with; all of it has defaults."""

    placeholders: ClassVar[tuple[str, ...]] = ("{object}", "{place}")
    """The placeholders that a hint uses for one task's instances, such as ``{object}``."""

    def goal(self, opening: str) -> str:
        """Return the goal that an opening states, for episodes whose task is not one of ours; by default empty."""
        return ""

    def read(self, opening: str, turns: Sequence[tuple[str, str]]) -> list[Fact]:
        """Return the facts that an episode shows, for the extractor ``rules``.

        ``turns`` are (action, observation text) in order.

        By default none: then hints take the extractor ``llm``.
        """
        return []


class Environment(AgentSupport, HintSupport, Protocol):
    """A family of tasks. The members of :class:`AgentSupport` and :class:`HintSupport` belong to it too.

    ``options`` is plain data from ``spec.environment.options``; ``folder`` holds the files that :meth:`prepare` wrote.
    The same two arguments rebuild the environment in every worker process, on every machine.

    A process carries out one call after another, for few engines are thread-safe. An environment that only waits for a
    server may set ``concurrent = True``: each session then has its own thread, and its ``close`` is also called while
    another call of the session is running, which it has to end.
    """

    name: ClassVar[str]

    instructions: str
    """The agent's instructions for the environment: its role and the commands."""

    held_out_split: ClassVar[str] = ""
    """The split that students are judged on where ``spec.environment.tasks.evaluateSplit`` is left out. Without one the
    field is required."""

    goal_is_task: bool = False
    """Two tasks with the same goal are the same task, so that none is both learned from and judged on. By default
    goals name a kind of task, and tasks are compared by their openings once they were played."""

    def __init__(self, options: Mapping[str, Any], folder: Path) -> None:
        """Check the options; do no heavy work. Raises :class:`EnvironmentConfigurationError`.

        By default there are none.
        """
        if options:
            raise EnvironmentConfigurationError(f"{self.name} has no options; leave out {', '.join(options)}")

    def limit_steps(self, number: int) -> None:
        """Take note of how many actions an episode may have, before instructions are read. By default nothing."""

    @property
    def source(self) -> str:
        """The source of the tasks; printed next to every number, for instance ``ALFWorld`` or ``generated``."""
        return self.name

    def splits(self) -> Mapping[str, int | None]:
        """Return each split with the most tasks that it can have; None if only :meth:`prepare` finds that out.

        Called before :meth:`prepare` to find mistakes early, so it does no work. By default nothing is known; where
        :meth:`prepare` is the default too, tasks are counted by :meth:`catalog`.
        """
        return {}

    def prepare(self, wanted: Mapping[str, int], *, report: Report = lambda done, total: None) -> None:
        """Write into the folder what is needed to have ``wanted[split]`` tasks of each split, e.g. generate games.

        The same options and numbers give the same bytes. Writes nothing where tasks are the user's own files, which is
        the default. May take minutes: it runs in a thread.
        """
        return

    def labels(self, task: Task) -> Sequence[str]:
        """Return the words by which ``spec.rounds.arrivals`` names groups of tasks; by default the task's category.

        The category always counts, also where it was found from the goal. Any other has the form ``kind:value``.
        """
        return ()

    @abstractmethod
    def catalog(self, split: str) -> Sequence[Task]:
        """Return all tasks of a split, in a stable order.

        Raises :class:`EnvironmentConfigurationError` for an unknown split.
        """
        ...

    def load(self) -> None:
        """Load what all sessions need, before the first; by default nothing. Called in worker processes only."""
        return

    @abstractmethod
    def open(self, task: Task) -> Session:
        """Open a session for one task. Called in worker processes only."""
        ...
