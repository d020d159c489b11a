"""Service requests and announcements of the registry.

Registered versions never change: a requester may cache a version without a time limit. The exception is a launch
plan's state (and updated_at). All requests raise InvalidArgument for an incomplete identifier and NotFound for a
version that is not registered, as GetTask, GetWorkflow and GetLaunchPlan do.

A compiled workflow is too large for a message: LOCATE_WORKFLOW_CLOSURE returns the URI of the closure in the object
store that the services share.
"""

from flyteidl.admin.common_pb2 import ObjectGetRequest, UrlBlob
from flyteidl.admin.launch_plan_pb2 import LaunchPlan
from flyteidl.core.identifier_pb2 import Identifier

from services.kit.messaging.messages import Announcement, ServiceRequest

# Launching a task for the first time compiles and stores a workflow.
_LAUNCH_DEADLINE_SECONDS = 5.0

# Requests are sent outside `flyte.registry.>`: the stream of announcements would store them, and its acknowledgement
# would be taken for the response.
LOCATE_WORKFLOW_CLOSURE = ServiceRequest("ask.registry.locate_workflow_closure", ObjectGetRequest, UrlBlob)
"""The URI and size in bytes of the object that holds the workflow's admin.WorkflowClosure, without its created_at."""

GET_LAUNCH_PLAN = ServiceRequest("ask.registry.get_launch_plan", ObjectGetRequest, LaunchPlan)
"""The launch plan as GetLaunchPlan returns it, active or not."""

GET_TASK_LAUNCH_PLAN = ServiceRequest(
    "ask.registry.get_task_launch_plan", ObjectGetRequest, LaunchPlan, deadline=_LAUNCH_DEADLINE_SECONDS
)
"""The launch plan that runs a single task, generated if the task has none yet (registry.md#generated-entities).

The workflow to run has the project, domain, name and version of the launch plan's own id; `spec.workflow_id` has the
name of the task instead, as clients expect.
"""

TASK_REGISTERED = Announcement("flyte.registry.task.registered", Identifier)
"""A task version is new."""

WORKFLOW_REGISTERED = Announcement("flyte.registry.workflow.registered", Identifier)
"""A workflow version is new, generated ones included."""

LAUNCH_PLAN_REGISTERED = Announcement("flyte.registry.launch_plan.registered", Identifier)
"""A launch plan version is new, generated ones included."""

LAUNCH_PLAN_ACTIVATED = Announcement("flyte.registry.launch_plan.activated", Identifier)
"""This version is now the active one of its name; also published if it was before, as its schedule starts anew."""

LAUNCH_PLAN_DEACTIVATED = Announcement("flyte.registry.launch_plan.deactivated", Identifier)
"""This version is no longer active, by request or because another version is."""
