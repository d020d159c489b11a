"""The calls of `bench.executions`: reads of the console, flytectl and flytekit, and launches."""

import random
from collections.abc import Sequence

from flyteidl.admin.common_pb2 import NamedEntityIdentifier, ResourceListRequest, Sort
from flyteidl.admin.execution_pb2 import (
    Execution,
    ExecutionCreateRequest,
    ExecutionList,
    WorkflowExecutionGetDataRequest,
    WorkflowExecutionGetDataResponse,
    WorkflowExecutionGetRequest,
)
from flyteidl.admin.node_execution_pb2 import NodeExecutionList, NodeExecutionListRequest
from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier

from bench.entities import WORK, ProjectDomain, Shape, execution
from bench.fill_executions import BIG_RUN, NODES, TAG, USER, filled_name
from bench.repeated import PAGE, ListCall
from bench.sequences import NAME_LENGTH

CREATES, GETS = 3_000, 20_000
# The console requests all nodes at once.
_CONSOLE_NODES = 10_000

_FILTERS = (
    ("archived", "eq(state,1)"),
    ("of a phase", "value_in(phase,FAILED;RUNNING)"),
    ("of a mode", "eq(mode,0)"),
    ("longer than", "gte(duration,30)"),
    ("of a user", f"eq(user,{USER})"),
    ("of a workflow", f"eq(workflow.name,bench.{Shape.SINGLE})"),
    ("of a launch plan", f"eq(launch_plan.name,bench.{Shape.SINGLE})"),
    ("of a task", f"eq(task.name,bench.{WORK})"),
    ("with a tag", f"eq(admin_tag.name,{TAG})"),
)


def creations(scope: ProjectDomain, size: int) -> Sequence[ExecutionCreateRequest]:
    """Return launches with names that only this `size` has."""
    prefix = f"c{size}x"
    names = (f"{prefix}{number:0{NAME_LENGTH - len(prefix)}d}" for number in range(CREATES))
    return [execution(scope, Shape.SINGLE, name) for name in names]


def gets(scope: ProjectDomain, size: int) -> Sequence[WorkflowExecutionGetRequest]:
    """Return reads of random executions of the `size` that are stored."""
    chosen = random.Random(size).choices(range(size), k=GETS)  # noqa: S311  # the same in every run
    return [WorkflowExecutionGetRequest(id=_identifier(scope, filled_name(number))) for number in chosen]


def list_calls(scope: ProjectDomain) -> list[ListCall]:
    """Return the calls to measure one by one."""
    filled = _identifier(scope, filled_name(1))
    run = _identifier(scope, BIG_RUN)
    whole_domain = NamedEntityIdentifier(project=scope.project, domain=scope.domain)

    def listed(what: str, filters: str = "", key: str = "created_at", *, paged: bool = False) -> ListCall:
        newest = Sort(key=key, direction=Sort.DESCENDING)
        request = ResourceListRequest(id=whole_domain, limit=PAGE, sort_by=newest, filters=filters)
        return ListCall(what, "ListExecutions", request, ExecutionList, paged=paged)

    def nodes(what: str, limit: int, token: str = "") -> ListCall:
        oldest = Sort(key="created_at", direction=Sort.ASCENDING)
        request = NodeExecutionListRequest(workflow_execution_id=run, limit=limit, token=token, sort_by=oldest)
        return ListCall(what, "ListNodeExecutions", request, NodeExecutionList)

    return [
        ListCall("one", "GetExecution", WorkflowExecutionGetRequest(id=filled), Execution),
        ListCall(
            "one", "GetExecutionData", WorkflowExecutionGetDataRequest(id=filled), WorkflowExecutionGetDataResponse
        ),
        listed("newest first", paged=True),
        listed("newest first by execution_created_at", key="execution_created_at", paged=True),
        listed("since a time", "gte(created_at,2020-01-01T00:00:00Z)", paged=True),
        *(listed(f"{what}, newest first", filters) for what, filters in _FILTERS),
        nodes(f"first of {NODES:,}", PAGE),
        nodes(f"last of {NODES:,}", PAGE, str(NODES - PAGE)),
        nodes(f"all {NODES:,}", _CONSOLE_NODES),
    ]


def _identifier(scope: ProjectDomain, name: str) -> WorkflowExecutionIdentifier:
    return WorkflowExecutionIdentifier(project=scope.project, domain=scope.domain, name=name)
