"""The server that plays a stage: someone else's endpoint, or a vLLM of this run, reused as far as it goes."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from distillery.core.api import DistillationRun, Spec
from distillery.core.artifacts import Store
from distillery.core.contracts.stage_config import Server
from distillery.core.devices import machine_has_gpu
from distillery.core.model_files import resolve
from distillery.core.model_servers import ServedModel, endpoint_of, external_server, player_name, served_model
from distillery.core.planner import Model, StageId, StageState, plan
from distillery.core.planner.graph import BASE, student_model
from distillery.serving.vllm import ServerFailed, VllmServer

_log = logging.getLogger(__name__)

_MAX_RESTARTS = 3
"""During one attempt at a stage; more are no accident."""


class Servers:
    """At most one vLLM at a time, for the model asked for last.

    Args:
        spec: the run's.
        store: where students are found.
        log: file for the server's output.
    """

    def __init__(self, spec: Spec, store: Store, log: Path) -> None:
        self._spec = spec
        self._store = store
        self._log = log
        self._server: VllmServer | None = None

    def suits(self, model: Model) -> bool:
        """Return whether a model is available without starting a server, which takes a minute or more."""
        if endpoint_of(model, self._spec):
            return True
        return self._server is not None and self._server.can_show(find_served_model(model, self._spec, self._store))

    async def serve(self, model: Model, *, sharing: int = 1) -> Server:
        """Return a server for a model; ``sharing`` is the number of runs that share its processors.

        Raises :class:`ServerFailed`, :class:`ModelNotFound` or :class:`ArtifactError`.
        """
        if external := external_server(model, self._spec):
            return external
        target = find_served_model(model, self._spec, self._store)
        if self._server and not (self._server.can_show(target) and await self._server.healthy()):
            await self.stop()
        if self._server is None:
            _log.info("starting vLLM with %s", target.weights)
            arguments = self._spec.model_server.extra_args
            self._server = await VllmServer(target, self._log, arguments=arguments, sharing=sharing).start()
        else:
            await self._server.show(target)
        return Server(base_url=self._server.base_url, model=target.name)

    def name_player(self, player: Model | None) -> str:
        """Return the name of the weights that play, by the digest of a student's adapter."""
        digest = self._store.manifest(str(player.trained_by))["student"] if player and player.trained_by else ""
        return player_name(player, self._spec, digest)

    def describe_start(self) -> str:
        """Return the message for a person who waits for the server: its log, and the log's last line."""
        try:
            lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        last = textwrap.shorten(lines[-1], 80, placeholder=" ...") if lines else ""
        return f"waiting for the model server, log {self._log}{': ' + last if last else ''}"

    async def keep(self) -> None:
        """Start the vLLM again when it dies, until cancelled: requests wait for it.

        Raises:
            ServerFailed: it does not come up again, or dies too often.
        """
        restarts = 0
        while self._server:
            await self._server.wait()
            if restarts == _MAX_RESTARTS:
                raise ServerFailed(f"vLLM died {restarts + 1} times during one stage; see {self._log}")
            restarts += 1
            await self._server.restart()

    async def stop(self) -> None:
        """Stop the vLLM, if one runs."""
        server, self._server = self._server, None
        if server:
            await server.stop()


def find_served_model(model: Model, spec: Spec, store: Store) -> ServedModel:
    """Return the arguments of a vLLM on this machine for a model of the run: checked, and as local folders."""
    artifacts, digest = "", ""
    if model.trained_by:
        folder, manifest = store.open(str(model.trained_by))
        artifacts, digest = str(folder.parent), manifest["student"]
    served = served_model(model, spec, gpu=machine_has_gpu(), artifacts=artifacts, digest=digest)
    return replace(served, base=str(resolve(served.base, served.revision)), revision=None)


class NothingToServe(RuntimeError):
    """The run has no such student; the message says which there are."""


def select_model(run: DistillationRun, observed: Mapping[StageId, StageState], round: int | None) -> Model:
    """Return the model that ``distillery serve`` starts: the student promoted last, or that of a round.

    Args:
        run: the run.
        observed: its stages.
        round: whose student; 0 is the base model, None the one promoted last.

    Raises:
        NothingToServe: no student was promoted, or the round has trained none.
    """
    candidate = run.spec.promotion.gate.candidate
    trained = [
        sid.round
        for sid, state in sorted(observed.items())
        if sid == student_model(sid.round, candidate).trained_by and state.result.student
    ]
    others = f" There are students of round {', '.join(map(str, trained))}: serve one by --round." if trained else ""
    if round is None:
        current = plan(run.spec, observed)
        if current.serving.trained_by is None:
            raise NothingToServe(f"run {run.key} has promoted no student yet. {current.message}{others}")
        return current.serving
    if round == 0:
        return BASE
    if round not in trained:
        raise NothingToServe(f"round {round} of run {run.key} has trained no student.{others}")
    return student_model(round, candidate)


def find_model_for_users(model: Model, run: DistillationRun, store: Store) -> ServedModel:
    """Return the arguments of the server that ``distillery serve`` starts: the same weights under the run's name.

    An adapter is loaded when the server starts, so that no endpoint that changes it has to be open.
    """
    return replace(find_served_model(model, run.spec, store), name=run.metadata.name)
