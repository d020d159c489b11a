"""From a request to run an execution to its run: what it needs is read, and its journal replayed."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier
from flyteidl.core.literals_pb2 import LiteralMap

from deploy.sandbox.engine.cache import TaskCache
from deploy.sandbox.engine.control_plane import ControlPlane
from deploy.sandbox.engine.effects import Effects
from deploy.sandbox.engine.graph import interface
from deploy.sandbox.engine.run import Progress, Run
from deploy.sandbox.engine.tasks.attempts import AttemptRunner, RunContext
from services.contracts.engine import RunRequest
from services.contracts.task_resources import prepared
from services.kit.errors import Unavailable
from services.kit.objects.store import ObjectStore

_RETRY_SECONDS = 0.5
# flytepropeller's folder in the object store (engine.md#what-flytepropeller-does).
_DATA = ("metadata", "propeller")
_RAW = "data"

Result = TypeVar("Result")


@dataclass(frozen=True)
class RunPreparation:
    """Prepares the runs of one engine."""

    control_plane: ControlPlane
    objects: ObjectStore
    cache: TaskCache
    attempts: AttemptRunner
    ended_here: Callable[[WorkflowExecutionIdentifier], asyncio.Event]
