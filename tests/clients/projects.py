"""A platform team's calls about projects and attributes by flytekit's client; run with the clients' own environment.

`projects.py PREFIX` registers projects whose ids begin so, archives and activates one, pages through them, sets and
reads attributes, and prints the results as JSON. FLYTECTL_CONFIG names the sandbox's config file.
"""

import json
import sys
from typing import Any

from flytekit.clients.friendly import SynchronousFlyteClient
from flytekit.configuration import PlatformConfig
from flytekit.models.admin.common import Sort
from flytekit.models.filters import Contains, Equal
from flytekit.models.matchable_resource import (
    ExecutionClusterLabel,
    ExecutionQueueAttributes,
    MatchableResource,
    MatchingAttributes,
    PluginOverride,
    PluginOverrides,
)
from flytekit.models.project import Project

DOMAIN, WORKFLOW = "development", "peel"
PAGE = 2


def ids(client: SynchronousFlyteClient, prefix: str) -> list[list[str]]:
    """Return pages of the ids, archived ones too."""
    pages: list[list[str]] = []
    token = None
    while token != "":
        projects, token = client.list_projects_paginated(
            limit=PAGE,
            token=token,
            filters=[Contains("identifier", [prefix])],
            sort_by=Sort("identifier", Sort.Direction.ASCENDING),
        )
        pages.append([project.id for project in projects])
    return pages


def state(client: SynchronousFlyteClient, project: str) -> int:
    """Return the state of one project."""
    (listed,), _ = client.list_projects_paginated(filters=[Equal("identifier", project)])
    return int(listed.state)


def projects(client: SynchronousFlyteClient, prefix: str) -> dict[str, Any]:
    """Register, archive, change, activate and list projects."""
    for number in range(3):
        client.register_project(Project(f"{prefix}-{number}", f"Project {number}", "made by flytekit"))
    first = f"{prefix}-0"
    states = [state(client, first)]
    for change in (
        Project.archived_project(first),
        Project(first, "Another name", ""),
        Project.active_project(first),
    ):
        client.update_project(change)
        states.append(state(client, first))
    return {"pages": ids(client, prefix), "states": states, "domains": [domain.id for domain in client.get_domains()]}


def attributes(client: SynchronousFlyteClient, project: str) -> dict[str, Any]:
    """Set and read attributes at both scopes that flytekit supports."""
    label, queue = MatchableResource.EXECUTION_CLUSTER_LABEL, MatchableResource.EXECUTION_QUEUE
    plugins = MatchableResource.PLUGIN_OVERRIDE
    client.update_project_domain_attributes(
        project, DOMAIN, MatchingAttributes(execution_cluster_label=ExecutionClusterLabel("domain"))
    )
    client.update_workflow_attributes(
        project, DOMAIN, WORKFLOW, MatchingAttributes(execution_queue_attributes=ExecutionQueueAttributes(["gpu"]))
    )
    for task_type in ("python", "spark"):
        override = PluginOverride(task_type, ["plugin"], PluginOverride.FAIL)
        client.update_workflow_attributes(
            project, DOMAIN, WORKFLOW, MatchingAttributes(plugin_overrides=PluginOverrides([override]))
        )
    of_workflow = client.get_workflow_attributes(project, DOMAIN, WORKFLOW, label).attributes
    queues = client.get_workflow_attributes(project, DOMAIN, WORKFLOW, queue).attributes
    overrides = client.get_workflow_attributes(project, DOMAIN, WORKFLOW, plugins).attributes
    listed = client.list_matchable_attributes(queue).configurations
    return {
        "inherited": [of_workflow.matching_attributes.execution_cluster_label.value, of_workflow.workflow],
        "queue": [list(queues.matching_attributes.execution_queue_attributes.tags), queues.workflow],
        "plugins": sorted(override.task_type for override in overrides.matching_attributes.plugin_overrides.overrides),
        "listed": [configuration.workflow for configuration in listed if configuration.project == project],
    }


if __name__ == "__main__":
    made = SynchronousFlyteClient(PlatformConfig.auto())
    print(json.dumps({**projects(made, sys.argv[1]), **attributes(made, f"{sys.argv[1]}-0")}))
