"""Where a task runs, and what is reported about its attempts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from flyteidl.core.catalog_pb2 import CACHE_DISABLED, CatalogCacheStatus, CatalogMetadata
from flyteidl.core.dynamic_job_pb2 import DynamicJobSpec
from flyteidl.core.execution_pb2 import ExecutionError, TaskLog
from flyteidl.core.literals_pb2 import LiteralMap

from deploy.sandbox.engine.graph.interface import ArrayItem, TaskKey

CHECKPOINTS: Final = "_flytecheckpoints"


@dataclass(frozen=True)
class CacheResult:
    """What a node or an item reports about the cache."""

    status: CatalogCacheStatus = CACHE_DISABLED
    metadata: CatalogMetadata | None = None


@dataclass(frozen=True)
class Place:
    """Where a task runs, and where its data is."""

    node_id: str
    index: int
    input_uri: str
    output_prefix: Callable[[int], str]
    """Returns the folder of the outputs of an attempt."""
    raw_output_prefix: Callable[[int], str]
    array: ArrayItem | None = None
    previous_checkpoint: str = ""
    """The checkpoint of the node in the reference execution."""

    def key(self, attempt: int) -> TaskKey:
        """Return the key of an attempt."""
        return TaskKey(self.node_id, attempt, self.index)

    def checkpoint_prefix(self, attempt: int) -> str:
        """Return where an attempt stores its checkpoint."""
        return f"{self.output_prefix(attempt)}/{CHECKPOINTS}" if attempt >= 0 else self.previous_checkpoint


class Reports(Protocol):
    """What happens to the attempts; a node reports it by events, an item to its array."""

    def queued(self) -> None:
        """Note that the task is going to run: it was not in the cache."""

    def started(self, attempt: int, interruptible: bool) -> None:
        """Note that an attempt was handed to the runner."""

    def waiting(self, attempt: int, reason: str) -> None:
        """Note that an attempt waits."""

    def running(self, attempt: int, logs: Sequence[TaskLog], reason: str) -> None:
        """Note that the process of an attempt runs."""

    def attempt_succeeded(self, attempt: int, logs: Sequence[TaskLog]) -> None:
        """Note that an attempt ended with outputs or a dynamic job spec."""

    def attempt_failed(self, attempt: int, error: ExecutionError, logs: Sequence[TaskLog]) -> None:
        """Note that an attempt ended with an error; another one may follow."""

    def attempt_aborted(self, attempt: int, reason: str) -> None:
        """Note that an attempt was ended."""

    def futures(self, attempt: int, spec: DynamicJobSpec) -> None:
        """Run the nodes that the attempt returned, then call `Attempts.complete` with their outputs."""

    def succeeded(self, attempt: int, outputs: LiteralMap, cache: CacheResult, *, deck: bool, stored: bool) -> None:
        """Note that the task is done; with `stored`, outputs.pb is at its place."""

    def failed(self, attempt: int, error: ExecutionError, *, deck: bool) -> None:
        """Note that the task failed for good."""

    def timed_out(self, attempt: int) -> None:
        """Note that the task has been active for too long."""
