"""flyte:// URLs: what they name, and what of it is answered (executions.md 11.4)."""

import re
from dataclasses import dataclass

from flyteidl.core.identifier_pb2 import NodeExecutionIdentifier, WorkflowExecutionIdentifier
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.service.dataproxy_pb2 import GetDataResponse

from services.kit.errors import InvalidArgument

_PREFIX = "flyte://"
_SEGMENT = "[a-zA-Z0-9_-]+"
_URL = re.compile(
    rf"flyte://v1/(?P<project>{_SEGMENT})/(?P<domain>{_SEGMENT})/(?P<name>{_SEGMENT})/(?P<node>{_SEGMENT})"
    rf"(?:/(?P<attempt>[0-9]+))?/(?:(?P<kind>[iod])|(?P<kind_of_one>[io])/(?P<literal>{_SEGMENT}))",
    re.ASCII,
)
# Attempts are counted by 32 bits, and far fewer are ever made.
_ATTEMPT_DIGITS = 9

INPUTS, OUTPUTS, DECK = "i", "o", "d"


@dataclass(frozen=True)
class Artifact:
    """What a flyte:// URL names: inputs, outputs or the deck of a node, or of one attempt of its task."""

    node: NodeExecutionIdentifier
    kind: str
    attempt: int | None = None
    literal: str = ""  # one of the inputs or outputs; all without


def parse(url: str) -> Artifact:
    """Read a flyte:// URL; raises InvalidArgument."""
    if not url.startswith(_PREFIX):
        raise InvalidArgument("failed to validate resolve artifact request: flyte_url must begin with flyte://")
    found = _URL.fullmatch(url)
    if found is None or len(found["attempt"] or "") > _ATTEMPT_DIGITS:
        raise InvalidArgument(f"failed to parse artifact url [{url}]")
    if found["kind"] == DECK and found["attempt"] is not None:
        raise InvalidArgument("deck type cannot be specified with a retry attempt")
    execution = WorkflowExecutionIdentifier(project=found["project"], domain=found["domain"], name=found["name"])
    return Artifact(
        NodeExecutionIdentifier(node_id=found["node"], execution_id=execution),
        found["kind"] or found["kind_of_one"],
        None if found["attempt"] is None else int(found["attempt"]),
        found["literal"] or "",
    )


def named(name: str, url: str, content: bytes) -> GetDataResponse:
    """Return the literal `name` of `content`, a serialized LiteralMap; raises InvalidArgument when there is none."""
    literals = LiteralMap.FromString(content).literals
    if name not in literals:
        raise InvalidArgument(f"name [{name}] not found in the data of [{url}]")
    return GetDataResponse(literal=literals[name])
