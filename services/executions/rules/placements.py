"""Where an execution runs: its cluster and namespace, which its spec contains, too."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flyteidl.admin.execution_pb2 import ExecutionSpec
from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier

from services.kit.protobuf.partial import text_field_type

# A spec may have a million other parts, which are not parsed.
_CLUSTER = text_field_type(ExecutionSpec.DESCRIPTOR, "metadata", "system_metadata", "execution_cluster")
_NAMESPACE = text_field_type(ExecutionSpec.DESCRIPTOR, "metadata", "system_metadata", "namespace")


@dataclass(frozen=True)
class Placement:
    """Where an execution runs, as stored; a cluster "" is the single one, or none yet."""

    id: WorkflowExecutionIdentifier
    cluster: str
    namespace: str
    accepted_at: datetime


def in_cluster(spec: bytes, cluster: str) -> bytes:
    """Return a serialized ExecutionSpec that names this cluster."""
    parsed: Any = _CLUSTER.FromString(spec)
    parsed.metadata.system_metadata.execution_cluster = cluster
    assigned: bytes = parsed.SerializeToString()
    return assigned


def namespace_of(spec: bytes) -> str:
    """Return the namespace in a serialized ExecutionSpec."""
    parsed: Any = _NAMESPACE.FromString(spec)
    return str(parsed.metadata.system_metadata.namespace)
