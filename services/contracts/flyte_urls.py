"""flyte:// URLs: the data of an execution's nodes, as clients name it (executions.md#getdata)."""

import re
from dataclasses import dataclass

from flyteidl.core.identifier_pb2 import NodeExecutionIdentifier, WorkflowExecutionIdentifier

from services.kit.errors import InvalidArgument

_PREFIX = "flyte://"
_SEGMENT = "[a-zA-Z0-9_-]+"
_URL = re.compile(
    rf"flyte://v1/(?P<project>{_SEGMENT})/(?P<domain>{_SEGMENT})/(?P<name>{_SEGMENT})/(?P<node>{_SEGMENT})"
    rf"(?:/(?P<attempt>[0-9]+))?/(?:(?P<kind>[iod])|(?P<kind_of_one>[io])/(?P<literal>{_SEGMENT}))",
    re.ASCII,
)
# The number of an attempt has 32 bits; real numbers are far smaller.
_ATTEMPT_DIGITS = 9

INPUTS, OUTPUTS, DECK = "i", "o", "d"


@dataclass(frozen=True)
class Artifact:
    """The target of a flyte:// URL: inputs, outputs or deck of a node, or inputs or outputs of one attempt."""

    node: NodeExecutionIdentifier
    kind: str
    attempt: int | None = None
    literal: str = ""  # the name of one input or output; empty for all


def parse(url: str) -> Artifact:
    """Parse a flyte:// URL; raises InvalidArgument."""
    if not url.startswith(_PREFIX):
        raise InvalidArgument("failed to validate resolve artifact request: flyte_url must begin with flyte://")
    match = _URL.fullmatch(url)
    if match is None or len(match["attempt"] or "") > _ATTEMPT_DIGITS:
        raise InvalidArgument(f"failed to parse artifact url [{url}]")
    if match["kind"] == DECK and match["attempt"] is not None:
        raise InvalidArgument("deck type cannot be specified with a retry attempt")
    execution = WorkflowExecutionIdentifier(project=match["project"], domain=match["domain"], name=match["name"])
    return Artifact(
        NodeExecutionIdentifier(node_id=match["node"], execution_id=execution),
        match["kind"] or match["kind_of_one"],
        None if match["attempt"] is None else int(match["attempt"]),
        match["literal"] or "",
    )
