"""The calls of `bench.registry`: registrations, and the lists of the console, flytectl and flytekit."""

from collections.abc import Iterator

from flyteidl.admin.common_pb2 import (
    NamedEntityIdentifier,
    NamedEntityIdentifierList,
    NamedEntityIdentifierListRequest,
    NamedEntityList,
    NamedEntityListRequest,
    ResourceListRequest,
    Sort,
)
from flyteidl.admin.launch_plan_pb2 import (
    ActiveLaunchPlanListRequest,
    ActiveLaunchPlanRequest,
    LaunchPlan,
    LaunchPlanCreateRequest,
    LaunchPlanList,
    LaunchPlanState,
    LaunchPlanUpdateRequest,
)
from flyteidl.admin.task_pb2 import TaskCreateRequest, TaskList
from flyteidl.admin.workflow_pb2 import WorkflowCreateRequest, WorkflowList
from flyteidl.core.identifier_pb2 import ResourceType
from google.protobuf.message import Message

from bench import entities
from bench.entities import WORK, ProjectDomain, Shape
from bench.fill_registry import NAME, VERSION
from bench.repeated import PAGE, ListCall

TASKS, WORKFLOWS, LAUNCH_PLANS = 1000, 200, 200

_NEWEST_FIRST = Sort(key="created_at", direction=Sort.DESCENDING)


def task(scope: ProjectDomain, name: str, version: str) -> TaskCreateRequest:
    """Return a task like the load's, with another name and version."""
    request = entities.task(scope, WORK)
    request.id.name, request.id.version = name, version
    return request


def workflow(scope: ProjectDomain, name: str, version: str) -> WorkflowCreateRequest:
    """Return a workflow of one task."""
    request = entities.workflow(scope, Shape.SINGLE)
    request.id.name, request.id.version = name, version
    return request


def launch_plan(scope: ProjectDomain, name: str, version: str) -> LaunchPlanCreateRequest:
    """Return the launch plan of the workflow of this name and version, as flytekit makes one for every workflow."""
    request = entities.launch_plan(scope, Shape.SINGLE)
    for identifier in (request.id, request.spec.workflow_id):
        identifier.name, identifier.version = name, version
    return request


def registrations(scope: ProjectDomain) -> Iterator[tuple[str, list[Message]]]:
    """Yield methods with their bulk of requests: each entity has a name of its own, each launch plan its workflow."""
    yield "CreateTask", [task(scope, f"bench.bulk.{number}", VERSION) for number in range(TASKS)]
    yield "CreateWorkflow", [workflow(scope, f"bench.bulk.{number}", VERSION) for number in range(WORKFLOWS)]
    yield "CreateLaunchPlan", [launch_plan(scope, f"bench.bulk.{number}", VERSION) for number in range(LAUNCH_PLANS)]


def models(scope: ProjectDomain) -> Iterator[tuple[str, Message]]:
    """Yield requests for the entities that `bench.fill_registry` copies, and for the task that workflows run."""
    yield "CreateTask", entities.task(scope, WORK)
    yield "CreateTask", task(scope, NAME, VERSION)
    yield "CreateWorkflow", workflow(scope, NAME, VERSION)
    yield "CreateLaunchPlan", launch_plan(scope, NAME, VERSION)


def activation(scope: ProjectDomain) -> LaunchPlanUpdateRequest:
    """Return a request that activates the newest version of the model."""
    return LaunchPlanUpdateRequest(id=launch_plan(scope, NAME, VERSION).id, state=LaunchPlanState.ACTIVE)


def list_calls(scope: ProjectDomain) -> list[ListCall]:
    """Return the calls to measure."""
    whole_domain = NamedEntityIdentifier(project=scope.project, domain=scope.domain)
    of_name = NamedEntityIdentifier(project=scope.project, domain=scope.domain, name=NAME)
    newest = ResourceListRequest(id=whole_domain, limit=PAGE, sort_by=_NEWEST_FIRST)
    newest_of_name = ResourceListRequest(id=of_name, limit=PAGE, sort_by=_NEWEST_FIRST)
    names = NamedEntityIdentifierListRequest(project=scope.project, domain=scope.domain, limit=PAGE)
    of_workflow = f"eq(workflow.project,{scope.project})+eq(workflow.domain,{scope.domain})+eq(workflow.name,{NAME})"

    def filtered(filters: str, request: ResourceListRequest = newest) -> ResourceListRequest:
        return ResourceListRequest(id=request.id, limit=PAGE, sort_by=_NEWEST_FIRST, filters=filters)

    return [
        *_name_lists(scope, names),
        ListCall("of a name, newest first", "ListWorkflows", newest_of_name, WorkflowList, paged=True),
        ListCall("of a domain, newest first", "ListWorkflows", newest, WorkflowList, paged=True),
        ListCall("of a name, newest first", "ListTasks", newest_of_name, TaskList, paged=True),
        ListCall("of a domain, newest first", "ListTasks", newest, TaskList, paged=True),
        ListCall("of a domain, of a type", "ListTasks", filtered("value_in(type,python-task;x)"), TaskList),
        ListCall("of a domain, of a version", "ListTasks", filtered(f"eq(version,{VERSION})"), TaskList),
        ListCall("of a name, newest first", "ListLaunchPlans", newest_of_name, LaunchPlanList, paged=True),
        ListCall("of a domain, newest first", "ListLaunchPlans", newest, LaunchPlanList, paged=True),
        ListCall("of a workflow's name", "ListLaunchPlans", filtered(of_workflow), LaunchPlanList),
        ListCall(
            "of a workflow's version",
            "ListLaunchPlans",
            filtered(f"{of_workflow}+eq(workflow.version,{VERSION})"),
            LaunchPlanList,
        ),
        ListCall("of a workflow, active", "ListLaunchPlans", filtered(f"{of_workflow}+eq(state,1)"), LaunchPlanList),
        ListCall(
            "of a domain",
            "ListActiveLaunchPlans",
            ActiveLaunchPlanListRequest(project=scope.project, domain=scope.domain, limit=PAGE, sort_by=_NEWEST_FIRST),
            LaunchPlanList,
        ),
        ListCall("of a name", "GetActiveLaunchPlan", ActiveLaunchPlanRequest(id=of_name), LaunchPlan),
    ]


def _name_lists(scope: ProjectDomain, names: NamedEntityIdentifierListRequest) -> list[ListCall]:
    console = NamedEntityListRequest(
        resource_type=ResourceType.WORKFLOW,
        project=scope.project,
        domain=scope.domain,
        limit=PAGE,
        sort_by=Sort(key="name", direction=Sort.ASCENDING),
        filters="eq(state,0)",
    )
    return [
        ListCall("of workflows, by name", "ListNamedEntities", console, NamedEntityList, paged=True),
        *(
            ListCall("of a domain", f"List{kind}Ids", names, NamedEntityIdentifierList, paged=True)
            for kind in ("Task", "Workflow", "LaunchPlan")
        ),
    ]
