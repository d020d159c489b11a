"""The layout of the object store: the URIs of the objects that store the inline data of events.

Rules: events.md#workflow-event-effects, events.md#node-event-inputs, events.md#first-task-event.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

from flyteidl.core.compiler_pb2 import CompiledWorkflowClosure

from services.contracts.workflow_settings import METADATA_STORAGE_PREFIX
from services.executions.rules.events.state import ExecutionKey, NodeKey, TaskKey

INPUTS = "offloaded_inputs"
OUTPUTS = "offloaded_outputs"

# Fixed prefix of execution data; closures have the configured prefix (executions.md#settings-and-their-defaults).
_DATA = "metadata"

# Names that every object store and file system accepts as a part of a path. A path has at most eight of them, so it
# stays below 850 bytes; Amazon S3 accepts 1024, and the prefix of the store needs the rest. Other names (a task may
# have any) are replaced by their digest: an object that cannot be written would block its whole lane. So are names
# that look like a digest, and those of the objects, because a file system cannot have a file and a folder of one
# name.
_SAFE = re.compile(rf"(?!(?:\.{{1,2}}|[0-9a-f]{{64}}|{INPUTS}|{OUTPUTS})$)[A-Za-z0-9._=@+-]{{1,100}}")


@dataclass(frozen=True)
class ObjectLayout:
    """Where objects are in the object store, and whether outputs become objects at all."""

    uri: Callable[..., str]
    """Returns an absolute URI for the parts of a path."""
    inline_outputs: bool = False
    """Whether inline outputs stay in the closure instead of being offloaded (remoteData.inlineEventDataPolicy)."""
    metadata_prefix: str = METADATA_STORAGE_PREFIX
    """The path of compiled closures of dynamic workflows (flyteadmin.metadataStoragePrefix)."""

    def execution_data(self, key: ExecutionKey, name: str) -> str:
        """Return the URI of an execution's offloaded data."""
        return self.uri(_DATA, *_path(*key), name)

    def node_data(self, key: NodeKey, name: str) -> str:
        """Return the URI of a node's offloaded data."""
        return self.uri(_DATA, *_path(*key.execution, key.node_id), name)

    def task_data(self, key: TaskKey, name: str) -> str:
        """Return the URI of a task attempt's offloaded data."""
        node = (*key.node.execution, key.node.node_id)
        return self.uri(
            _DATA, *_path(*node, key.project, key.domain, key.name, key.version), str(key.retry_attempt), name
        )

    def dynamic_closure(self, key: NodeKey, data: bytes) -> str:
        """Return the URI of the compiled closure of a dynamic node, by its digest: no other closure replaces it."""
        node = _path(*key.execution, key.node_id)
        return self.uri(self.metadata_prefix, *node, "dynamic", hashlib.sha256(data).hexdigest())


def _path(*names: str) -> tuple[str, ...]:
    return tuple(
        name if _SAFE.fullmatch(name) else hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
        for name in names
    )


def closure_bytes(closure: CompiledWorkflowClosure) -> bytes:
    """Return `closure` serialized deterministically: equal closures have the same digest."""
    return closure.SerializeToString(deterministic=True)
