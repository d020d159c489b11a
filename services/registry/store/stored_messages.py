"""Columns with stored messages that clients read, for the command that repairs them.

Compiled workflows, which are in the object store, are not among them: they never change.
"""

from flyteidl.admin.description_entity_pb2 import DescriptionEntity
from flyteidl.admin.launch_plan_pb2 import LaunchPlan, LaunchPlanClosure
from flyteidl.admin.task_pb2 import Task
from flyteidl.admin.workflow_pb2 import Workflow

from services.kit.db.repair import Column, Stored

_VERSION = ("project", "domain", "name", "version")

STORED = (
    Stored("tasks", ("id",), _VERSION, (Column("message", Task, 1),)),
    Stored("workflows", ("id",), _VERSION, (Column("message", Workflow, 1),)),
    Stored(
        "launch_plans",
        ("id",),
        _VERSION,
        (Column("spec", LaunchPlan, 1), Column("closure", LaunchPlanClosure, 2)),
    ),
    Stored("description_entities", ("id",), _VERSION, (Column("message", DescriptionEntity, 1),)),
)
