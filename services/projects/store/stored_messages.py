"""Columns with stored messages that clients read, for the command that repairs them."""

from flyteidl.admin.matchable_resource_pb2 import MatchingAttributes
from flyteidl.admin.project_pb2 import Project

from services.kit.db.repair import Column, Stored

STORED = (
    Stored("projects", ("identifier",), ("identifier",), (Column("message", Project, 1),)),
    Stored(
        "matchable_attributes",
        ("id",),
        ("project", "domain", "workflow", "launch_plan"),
        (Column("attributes", MatchingAttributes, 2),),
    ),
)
