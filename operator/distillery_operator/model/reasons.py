"""The reasons of conditions: one class for each condition, with its name. Pure.

The text of each constant begins with the status of the condition. The reference lists it, and no code compares
messages.
"""

from __future__ import annotations

from enum import StrEnum


class Ready(StrEnum):
    """The reasons of Ready.

    While Accepted is False, Ready has its reason. While Failed is True, Ready has its reason. A run that serves a
    student has the reason of Serving.
    """

    PROGRESSING = "Progressing"
    """False: the run is in progress and serves nothing yet."""
    SUSPENDED = "Suspended"
    """False: the run is suspended and serves nothing."""
    COMPLETE = "Complete"
    """True: all rounds ended, and the run serves nothing."""


class Accepted(StrEnum):
    """The reasons of Accepted."""

    VALID = "Valid"
    """True: the spec is valid and names only what is allowed on the cluster."""
    INVALID_SPEC = "InvalidSpec"
    """False: the spec is invalid; the message names the field and the fix."""
    NOT_ALLOWED = "NotAllowed"
    """False: the spec is valid, and names something that is not allowed on the cluster."""
    UNKNOWN_FIELD = "UnknownField"
    """False: the CRD is newer than the operator; the run waits for an operator that knows the field."""


class DatabaseReady(StrEnum):
    """The reasons of DatabaseReady."""

    READY = "Ready"
    """True: the database runs, and its schema is up to date."""
    STARTING = "Starting"
    """False: the database is starting."""
    MIGRATING = "Migrating"
    """False: a Job migrates the schema of the database."""
    MIGRATION_FAILED = "MigrationFailed"
    """False: the Job that migrates the schema failed; the message names it."""


class Stalled(StrEnum):
    """The reasons of Stalled.

    A container that waits for another reason passes it on. While Failed is True, Stalled has its reason.
    """

    UNSCHEDULABLE = "Unschedulable"
    """True: a pod fits on no node."""
    IMAGE_NOT_PULLED = "ImageNotPulled"
    """True: a node can't pull an image."""
    CONTAINER_CRASHING = "ContainerCrashing"
    """True: a container ends again and again."""
    SECRET_KEY_MISSING = "SecretKeyMissing"  # noqa: S105
    """True: a pod waits for a Secret, or for a key of one."""
    VOLUME_NOT_MOUNTED = "VolumeNotMounted"
    """True: a node can't attach or mount a volume."""
    VOLUME_NOT_PROVISIONED = "VolumeNotProvisioned"
    """True: a volume claim gets no volume."""
    PODS_NOT_CREATED = "PodsNotCreated"
    """True: Kubernetes can't create the pods of a Job, a Deployment or a StatefulSet."""
    POD_NOT_STARTED = "PodNotStarted"
    """True: a node can't create the sandbox of a pod."""
    POD_STUCK_TERMINATING = "PodStuckTerminating"
    """True: a pod does not end, because its node does not answer."""
    OBJECT_REJECTED = "ObjectRejected"
    """True: the API server rejects an object that the run needs, for example because of a quota."""
    NAME_CONFLICT = "NameConflict"
    """True: an object of another owner has the name of one that the run needs."""
    UNBLOCKED = "Unblocked"
    """False: the problem that kept the run from continuing is gone."""


class Suspended(StrEnum):
    """The reasons of Suspended."""

    SUSPENDED = "Suspended"
    """True: the user suspended the run by spec.suspend."""
    PAUSED = "Paused"
    """True: a request paused the stages; running stages finish, and none starts."""
    RESUMED = "Resumed"
    """False: the run continues."""


class RequestAccepted(StrEnum):
    """The reasons of RequestAccepted."""

    ACCEPTED = "Accepted"
    """True: the operator accepted the last value of each annotation."""
    REJECTED = "Rejected"
    """False: the operator rejected the last value of an annotation; the message names the fix."""


class Promoted(StrEnum):
    """The reasons of Promoted."""

    PROMOTED = "Promoted"
    """True: the last round promoted its student."""
    NOT_PROMOTED = "NotPromoted"
    """False: the last round did not promote its student; the message gives the verdict."""


class Serving(StrEnum):
    """The reasons of Serving."""

    AVAILABLE = "Available"
    """True: every serving pod serves the student."""
    ROLLING_OUT = "RollingOut"
    """False: not every serving pod is ready with the student."""
    NO_REPLICAS = "NoReplicas"
    """False: the user or an autoscaler set spec.serving.replicas to 0."""
    PAUSED = "Paused"
    """False: the servers made room for a round, because spec.serving.duringRounds is Pause."""
    STUDENT_NOT_FOUND = "StudentNotFound"
    """False: the round to serve has not ended, or has no student."""


class CanaryProgressing(StrEnum):
    """The reasons of CanaryProgressing."""

    STEP_STARTED = "StepStarted"
    """True: the canary began a step, or continues it."""
    PAUSED = "Paused"
    """True: the canary stays at its step until it is resumed."""
    INCONCLUSIVE = "Inconclusive"
    """True: the step showed no difference within its time, and the canary waits for a decision."""
    SUPERSEDED = "Superseded"
    """True: the student of a later round took the place of the canary."""
    WAITING_FOR_SERVERS = "WaitingForServers"
    """False: there are no servers, so the canary has not begun."""
    PROMOTED = "Promoted"
    """False: the canary ended, and its student is served to all clients."""
    ROLLED_BACK = "RolledBack"
    """False: the canary ended, and the stable student gets all traffic."""
    ABORTED = "Aborted"
    """False: a request aborted the canary, and the stable student gets all traffic."""


class Complete(StrEnum):
    """The reasons of Complete."""

    ROUNDS_ENDED = "RoundsEnded"
    """True: all rounds ended; the message says why no other follows."""
    TASKS_ADDED = "TasksAdded"
    """False: held-out tasks were added, and the last round is judged again."""


class Failed(StrEnum):
    """The reasons of Failed."""

    STAGE_FAILED = "StageFailed"
    """True: a stage failed for good."""
    INVALID_SPEC = "InvalidSpec"
    """True: the first spec of the run is invalid."""
    NOT_ALLOWED = "NotAllowed"
    """True: the first spec of the run names something that is not allowed on the cluster."""
    RETRY_REQUESTED = "RetryRequested"
    """False: a request retries the stages that failed."""
    SPEC_CHANGED = "SpecChanged"
    """False: the spec changed before any stage other than prepare started, and the run starts again."""
