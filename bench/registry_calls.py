"""What `bench.registry` registers, and the lists it asks for: those of the console, flytectl and flytekit."""

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
from bench.entities import WORK, Place, Shape
from bench.fill_registry import NAME, VERSION
from bench.repeated import PAGE, ListCall

TASKS, WORKFLOWS, LAUNCH_PLANS = 1000, 200, 200

_NEWEST_FIRST = Sort(key="created_at", direction=Sort.DESCENDING)


def task(place: Place, name: str, version: str) -> TaskCreateRequest:
    """A task as the load's tasks are, under a name of its own."""
    request = entities.task(place, WORK)
    request.id.name, request.id.version = name, version
    return request


def workflow(place: Place, name: str, version: str) -> WorkflowCreateRequest:
    """A workflow of one task."""
    request = entities.workflow(place, Shape.SINGLE)
    request.id.name, request.id.version = name, version
    return request


def launch_plan(place: Place, name: str, version: str) -> LaunchPlanCreateRequest:
    """The launch plan of `workflow`, of the same name and version, as flytekit makes one for every workflow."""
    request = entities.launch_plan(place, Shape.SINGLE)
    for identifier in (request.id, request.spec.workflow_id):
        identifier.name, identifier.version = name, version
    return request


def registrations(place: Place) -> Iterator[tuple[str, list[Message]]]:
    """What is registered in bulk, by method: each with a name of its own, every launch plan for a workflow of these."""
    yield "CreateTask", [task(place, f"bench.bulk.{number}", VERSION) for number in range(TASKS)]
    yield "CreateWorkflow", [workflow(place, f"bench.bulk.{number}", VERSION) for number in range(WORKFLOWS)]
    yield "CreateLaunchPlan", [launch_plan(place, f"bench.bulk.{number}", VERSION) for number in range(LAUNCH_PLANS)]


def models(place: Place) -> Iterator[tuple[str, Message]]:
    """Requests for what `bench.fill_registry` copies, and the task that workflows run."""
    yield "CreateTask", entities.task(place, WORK)
    yield "CreateTask", task(place, NAME, VERSION)
    yield "CreateWorkflow", workflow(place, NAME, VERSION)
    yield "CreateLaunchPlan", launch_plan(place, NAME, VERSION)


def activation(place: Place) -> LaunchPlanUpdateRequest:
    """Activates the newest version of the model."""
    return LaunchPlanUpdateRequest(id=launch_plan(place, NAME, VERSION).id, state=LaunchPlanState.ACTIVE)


def list_calls(place: Place) -> list[ListCall]:
    """The calls to measure."""
    where = NamedEntityIdentifier(project=place.project, domain=place.domain)
    of_name = NamedEntityIdentifier(project=place.project, domain=place.domain, name=NAME)
    newest = ResourceListRequest(id=where, limit=PAGE, sort_by=_NEWEST_FIRST)
    newest_of_name = ResourceListRequest(id=of_name, limit=PAGE, sort_by=_NEWEST_FIRST)
    names = NamedEntityIdentifierListRequest(project=place.project, domain=place.domain, limit=PAGE)
    of_workflow = f"eq(workflow.project,{place.project})+eq(workflow.domain,{place.domain})+eq(workflow.name,{NAME})"

    def filtered(filters: str, request: ResourceListRequest = newest) -> ResourceListRequest:
        return ResourceListRequest(id=request.id, limit=PAGE, sort_by=_NEWEST_FIRST, filters=filters)

    return [
        *_name_lists(place, names),
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
            ActiveLaunchPlanListRequest(project=place.project, domain=place.domain, limit=PAGE, sort_by=_NEWEST_FIRST),
            LaunchPlanList,
        ),
        ListCall("of a name", "GetActiveLaunchPlan", ActiveLaunchPlanRequest(id=of_name), LaunchPlan),
    ]


def _name_lists(place: Place, names: NamedEntityIdentifierListRequest) -> list[ListCall]:
    console = NamedEntityListRequest(
        resource_type=ResourceType.WORKFLOW,
        project=place.project,
        domain=place.domain,
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
