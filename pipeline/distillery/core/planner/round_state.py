"""The state of a round by its stages: which have failed, which run, which can start, and whether all are done. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from distillery.core.api.run import Spec
from distillery.core.planner.graph import Kind, Stage, StageId
from distillery.core.planner.states import StagePhase, StageState


@dataclass(frozen=True, slots=True)
class RoundState:
    """The stages of a round, and how far they have come.

    Attributes:
        stages: of the round, in order.
        observed: the stages of the run that were started.
        spec: the run's specification.
    """

    stages: Sequence[Stage]
    observed: Mapping[StageId, StageState]
    spec: Spec

    @property
    def started(self) -> bool:
        """True if one of the stages was started."""
        return any(stage.id in self.observed for stage in self.stages)

    @property
    def judged(self) -> bool:
        """True if the round has its verdict."""
        return any(
            self._phase(stage.id) == StagePhase.SUCCEEDED for stage in self.stages if stage.id.kind is Kind.PROMOTE
        )

    @property
    def done(self) -> bool:
        """True if all stages succeeded."""
        return all(self._phase(stage.id) == StagePhase.SUCCEEDED for stage in self.stages)

    @property
    def running(self) -> tuple[StageId, ...]:
        """The stages that are running."""
        return tuple(stage.id for stage in self.stages if self._phase(stage.id) == StagePhase.RUNNING)

    @property
    def failed(self) -> tuple[StageId, ...]:
        """The stages that failed and may not be started again."""
        return tuple(
            stage.id
            for stage in self.stages
            if self._phase(stage.id) == StagePhase.FAILED and not self._may_retry(stage.id)
        )

    @property
    def failure(self) -> str:
        """The message about the first of the failed stages."""
        sid = self.failed[0]
        state = self.observed[sid]
        return f"Stage {sid} failed after {state.attempts} attempt{'s' * (state.attempts > 1)}: {state.message}"

    @property
    def ready(self) -> tuple[Stage, ...]:
        """The stages that can start, or start again, because those that they need have succeeded."""
        return tuple(
            self._without_idle_player(stage)
            for stage in self.stages
            if self._phase(stage.id) in (None, StagePhase.FAILED)
            and all(self._phase(need) == StagePhase.SUCCEEDED for need in stage.needs)
        )

    def _phase(self, sid: StageId) -> StagePhase | None:
        """Return the phase of a stage; None if it was not started."""
        state = self.observed.get(sid)
        return state.phase if state else None

    def _may_retry(self, sid: StageId) -> bool:
        """Return whether a stage that failed has a retry left that could help."""
        state, settings = self.observed[sid], getattr(self.spec.stages, sid.kind.value)
        return not state.permanent and state.attempts <= settings.max_retries

    def _without_idle_player(self, stage: Stage) -> Stage:
        """Return the stage, without its player where there is nothing to play.

        That is a student that had nothing to learn from, or a candidate that is not worth confirming.
        """
        if any(need.kind is Kind.JUDGE and not self.observed[need].result.passed for need in stage.needs):
            return replace(stage, player=None)
        trained_by = stage.player.trained_by if stage.player else None
        if trained_by is None:
            return stage
        return stage if self.observed[trained_by].result.student else replace(stage, player=None)
