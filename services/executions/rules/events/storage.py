"""Where data that came inline with an event is kept (events.md 2.3, 3.4, 4.3)."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

from flyteidl.core.compiler_pb2 import CompiledWorkflowClosure

from services.contracts.workflow_settings import METADATA_STORAGE_PREFIX
from services.executions.rules.events.state import ExecutionKey, NodeKey, TaskKey

INPUTS = "offloaded_inputs"
OUTPUTS = "offloaded_outputs"

# Literal prefix of execution data; closures live under the configured one (executions.md 15, metadataStoragePrefix).
_DATA = "metadata"

# Names that every object store and file system takes as part of a path; nine of them have less than the 1024 bytes that
# Amazon S3 takes. Others (a task may be called anything) stand
# there as their digest: an object that cannot be written would hold up its whole lane. So do names that look like a
# digest, and those of the objects, which a file system would want for a file and a folder.
_SAFE = re.compile(rf"(?!(?:\.{{1,2}}|[0-9a-f]{{64}}|{INPUTS}|{OUTPUTS})$)[A-Za-z0-9._=@+-]{{1,100}}")


@dataclass(frozen=True)
class Storage:
    """The layout of the object store, and whether outputs stay in the closure."""

    uri: Callable[..., str]
    """Makes an absolute URI of path parts."""
    inline_outputs: bool = False
    """Inline outputs stay in the closure instead of being offloaded (remoteData.inlineEventDataPolicy)."""
    metadata_prefix: str = METADATA_STORAGE_PREFIX
    """Where compiled closures of dynamic workflows go (flyteadmin.metadataStoragePrefix)."""

    def execution_data(self, key: ExecutionKey, name: str) -> str:
        """URI of an execution's offloaded data."""
        return self.uri(_DATA, *_path(*key), name)

    def node_data(self, key: NodeKey, name: str) -> str:
        """URI of a node's offloaded data."""
        return self.uri(_DATA, *_path(*key.execution, key.node_id), name)

    def task_data(self, key: TaskKey, name: str) -> str:
        """URI of a task attempt's offloaded data."""
        node = (*key.node.execution, key.node.node_id)
        return self.uri(
            _DATA, *_path(*node, key.project, key.domain, key.name, key.version), str(key.retry_attempt), name
        )

    def dynamic_closure(self, key: NodeKey, data: bytes) -> str:
        """URI of the closure that a dynamic node made, by its digest: another closure never replaces it."""
        node = _path(*key.execution, key.node_id)
        return self.uri(self.metadata_prefix, *node, "dynamic", hashlib.sha256(data).hexdigest())


def _path(*names: str) -> tuple[str, ...]:
    return tuple(
        name if _SAFE.fullmatch(name) else hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
        for name in names
    )


def closure_bytes(closure: CompiledWorkflowClosure) -> bytes:
    """`closure` serialized the same way each time, so that its digest tells whether it is the same."""
    return closure.SerializeToString(deterministic=True)
