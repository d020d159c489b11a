"""Labels of a resource that identify its execution and by which engines select (engine.md#flyteworkflow-object)."""

import re

from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier

from services.contracts.labels import MAX_NAME_BYTES

# Engines share the resources of a cluster by the shard keys 0 to 31.
_SHARD_KEYS = 32
_FNV_OFFSET = 0x811C9DC5
_FNV_PRIME = 0x01000193
_UINT32 = 0xFFFFFFFF

_NOT_IN_LABELS = re.compile(r"[^-a-z0-9]+")


def system_labels(execution: WorkflowExecutionIdentifier, workflow_name: str) -> dict[str, str]:
    """Return the labels of the resource of an execution; `workflow_name` is that of its workflow."""
    return {
        "execution-id": execution.name,
        "project": execution.project,
        "domain": execution.domain,
        "workflow-name": _label_value(workflow_name),
        "shard-key": shard_key(execution.name),
    }


def shard_key(execution_name: str) -> str:
    """Return the shard key of an execution: FNV-1a of its name, in 32 bits, modulo 32."""
    value = _FNV_OFFSET
    for byte in execution_name.encode():
        value = (value ^ byte) * _FNV_PRIME & _UINT32
    return str(value % _SHARD_KEYS)


def _label_value(text: str) -> str:
    return _NOT_IN_LABELS.sub("-", text.lower())[:MAX_NAME_BYTES].strip("-")
