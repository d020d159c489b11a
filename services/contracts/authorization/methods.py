"""The role that each RPC of Flyte needs, and where: the table of docs/authorization.md#rpcs.

A method that is not in the table cannot be authorized, so a service that has one does not start.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from operator import attrgetter
from typing import Any, NamedTuple

from google.protobuf.message import Message

from services.contracts import flyte_urls
from services.contracts.authorization.references import ProjectDomain
from services.contracts.authorization.roles import Role
from services.contracts.flyte_services import SERVICES
from services.kit.errors import InvalidArgument

EVERYWHERE: ProjectDomain = ("", "")
"""All domains of all projects; in a scope, an empty project is every project, an empty domain all of its domains."""


class Reach(Enum):
    """In what part of its scope a caller needs the role."""

    SCOPE = "in the scope"
    SOME_DOMAIN = "in one domain of the project"
    SOMEWHERE = "in any project"
    NONE = "no role, but a caller that is known"
    PUBLIC = "nothing"


class Access(NamedTuple):
    """What a method needs."""

    role: Role
    """The least role; callers with the engine's need that of `engine`."""
    project: str = ""
    """The path of the field with the project of the scope; empty for every project."""
    domain: str = ""
    """The path of the field with the domain of the scope; empty for all domains."""
    changes: bool = False
    """Whether a call changes something: its kind in gateway/routes.toml."""
    engine: bool = False
    """Whether the engine's role allows it, too, for every request."""
    engine_if: Callable[[Any], bool] | None = None
    """For which requests the engine's role allows it, if only for some."""
    reach: Reach = Reach.SCOPE
    find: Callable[[Any], Iterable[ProjectDomain]] | None = None
    """Finds the scopes of a request whose text names them, instead of the paths."""


@dataclass(frozen=True)
class Method:
    """A method with what it needs, compiled."""

    path: str
    access: Access
    scopes: Callable[[Message], Iterable[ProjectDomain]]
    """Returns where a request needs the role: in all of them."""


def _within(path: str, **access: Any) -> Callable[[Role], Access]:
    """Return the access of a method whose scope is the project-domain of the message at `path`; "" is the request."""
    prefix = f"{path}." if path else ""
    return lambda role: Access(role, f"{prefix}project", f"{prefix}domain", **access)


def _is_child(request: Any) -> bool:
    """Return whether a launch or recovery is one that engines send: with a parent node, next to the parent."""
    scope, metadata = (request, request.spec.metadata) if hasattr(request, "spec") else (request.id, request.metadata)
    if not metadata.HasField("parent_node_execution"):
        return False
    parent = metadata.parent_node_execution.execution_id
    return bool((parent.project, parent.domain) == (scope.project, scope.domain))


def _of_url(request: Any) -> Iterable[ProjectDomain]:
    """Return the project-domain of a flyte:// URL; EVERYWHERE for what is none, which is refused later."""
    try:
        execution = flyte_urls.parse(request.flyte_url).node.execution_id
    except InvalidArgument:
        return (EVERYWHERE,)
    return ((execution.project, execution.domain),)


_V, _L, _C, _A, _E = Role.VIEWER, Role.LAUNCHER, Role.CONTRIBUTOR, Role.ADMIN, Role.ENGINE
_EXECUTION, _NODE, _TASK = "id", "id.execution_id", "id.node_execution_id.execution_id"
_read, _change = _within("id"), _within("id", changes=True)

_ADMIN: Mapping[str, Access] = {
    # tasks, workflows, launch plans
    "CreateTask": _change(_C),
    "CreateWorkflow": _change(_C),
    "CreateLaunchPlan": _change(_C),
    "UpdateLaunchPlan": _change(_C),
    "UpdateNamedEntity": _change(_C),
    "GetTask": _within("id", engine=True)(_V),
    "GetWorkflow": _within("id", engine=True)(_V),
    "GetLaunchPlan": _within("id", engine=True)(_V),
    "GetActiveLaunchPlan": _read(_V),
    "GetNamedEntity": _read(_V),
    "GetDescriptionEntity": _read(_V),
    "ListTaskIds": _within("")(_V),
    "ListWorkflowIds": _within("")(_V),
    "ListLaunchPlanIds": _within("")(_V),
    "ListTasks": _read(_V),
    "ListWorkflows": _read(_V),
    "ListLaunchPlans": _read(_V),
    "ListActiveLaunchPlans": _within("")(_V),
    "ListNamedEntities": _within("")(_V),
    "ListDescriptionEntities": _read(_V),
    # executions
    "CreateExecution": _within("", changes=True, engine_if=_is_child)(_L),
    "RelaunchExecution": _change(_L),
    "RecoverExecution": _within("id", changes=True, engine_if=_is_child)(_L),
    "UpdateExecution": _change(_L),
    "TerminateExecution": _within("id", changes=True, engine=True)(_L),
    "GetExecution": _within(_EXECUTION, engine=True)(_V),
    "GetExecutionData": _within(_EXECUTION, engine=True)(_V),
    "GetExecutionMetrics": _within(_EXECUTION)(_V),
    "ListExecutions": _read(_V),
    "GetNodeExecution": _within(_NODE, engine=True)(_V),
    "GetNodeExecutionData": _within(_NODE, engine=True)(_V),
    "GetDynamicNodeWorkflow": _within(_NODE, engine=True)(_V),
    "ListNodeExecutions": _within("workflow_execution_id", engine=True)(_V),
    "ListNodeExecutionsForTask": _within("task_execution_id.node_execution_id.execution_id")(_V),
    "GetTaskExecution": _within(_TASK, engine=True)(_V),
    "GetTaskExecutionData": _within(_TASK, engine=True)(_V),
    "ListTaskExecutions": _within("node_execution_id.execution_id", engine=True)(_V),
    # events
    "CreateWorkflowEvent": _within("event.execution_id", changes=True, engine=True)(_E),
    "CreateNodeEvent": _within("event.id.execution_id", changes=True, engine=True)(_E),
    "CreateTaskEvent": _within("event.parent_node_execution_id.execution_id", changes=True, engine=True)(_E),
    # projects
    "RegisterProject": Access(_A, changes=True),
    "UpdateProject": Access(_A, "id", changes=True),
    "GetProject": Access(_V, "id", reach=Reach.SOME_DOMAIN),
    "ListProjects": Access(_V, reach=Reach.SOMEWHERE),
    "GetDomains": Access(_V, reach=Reach.SOMEWHERE),
    "GetVersion": Access(_V, reach=Reach.NONE),
    # matchable attributes
    "UpdateProjectAttributes": Access(_A, "attributes.project", changes=True),
    "GetProjectAttributes": Access(_V, "project", reach=Reach.SOME_DOMAIN),
    "DeleteProjectAttributes": Access(_A, "project", changes=True),
    "UpdateProjectDomainAttributes": _within("attributes", changes=True)(_A),
    "GetProjectDomainAttributes": _within("")(_V),
    "DeleteProjectDomainAttributes": _within("", changes=True)(_A),
    "UpdateWorkflowAttributes": _within("attributes", changes=True)(_A),
    "GetWorkflowAttributes": _within("")(_V),
    "DeleteWorkflowAttributes": _within("", changes=True)(_A),
    "ListMatchableAttributes": Access(_V),
}

_OTHERS: Mapping[str, Mapping[str, Access]] = {
    "SignalService": {
        "GetOrCreateSignal": _within("id.execution_id", changes=True, engine=True)(_L),
        "SetSignal": _within("id.execution_id", changes=True)(_L),
        "ListSignals": _within("workflow_execution_id", engine=True)(_V),
    },
    "DataProxyService": {
        "CreateUploadLocation": _within("", changes=True)(_L),
        # Executions knows the layout of the object store; other URLs may be anyone's.
        "CreateDownloadLocation": Access(_V),
        "CreateDownloadLink": _within("node_execution_id.execution_id")(_V),
        "GetData": Access(_V, find=_of_url),
    },
    "AuthMetadataService": {
        "GetOAuth2Metadata": Access(_V, reach=Reach.PUBLIC),
        "GetPublicClientConfig": Access(_V, reach=Reach.PUBLIC),
    },
    "IdentityService": {"UserInfo": Access(_V, reach=Reach.NONE)},
}

ACCESS: Mapping[str, Access] = {
    f"/flyteidl.service.{service}/{name}": access
    for service, methods in {"AdminService": _ADMIN, **_OTHERS}.items()
    for name, access in methods.items()
}
"""What each method needs, by its full path."""


def compiled_methods(
    scopes: Mapping[str, Callable[[Any], Iterable[ProjectDomain]]], access: Mapping[str, Access] = ACCESS
) -> dict[str, Method]:
    """Return all methods of Flyte by path.

    Args:
        scopes: By path, how a service finds the scopes of requests that only it can read.
        access: What each method needs.

    Raises:
        ValueError: The table lacks a method, has one that Flyte has not, or names a field that its request has not.
    """
    requests = {
        f"/{service.full_name}/{method.name}": method.input_type for service in SERVICES for method in service.methods
    }
    if differing := sorted(requests.keys() ^ access.keys()):
        raise ValueError(f"the table of roles and flyteidl differ: {', '.join(differing)}")
    for path, needed in access.items():
        for field in filter(None, (needed.project, needed.domain)):
            _check_field(requests[path], field)
    return {
        path: Method(path, needed, scopes.get(path) or needed.find or _reader(needed))
        for path, needed in access.items()
    }


def _check_field(message_type: Any, path: str) -> None:
    *messages, text = path.split(".")
    for name in messages:
        field = message_type.fields_by_name.get(name)
        if field is None or field.message_type is None or field.is_repeated:
            raise ValueError(f"{message_type.full_name} has no message {name}")
        message_type = field.message_type
    field = message_type.fields_by_name.get(text)
    if field is None or field.type != field.TYPE_STRING or field.is_repeated:
        raise ValueError(f"{message_type.full_name} has no text {text}")


def _reader(access: Access) -> Callable[[Any], Iterable[ProjectDomain]]:
    if access.project and access.domain:
        read = attrgetter(access.project, access.domain)
        return lambda request: (read(request),)
    if access.project:
        read_project = attrgetter(access.project)
        return lambda request: ((read_project(request), ""),)
    return lambda _: (EVERYWHERE,)
