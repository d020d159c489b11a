"""Lists of entities by every list function of flytekit's client, as JSON; run with the clients' environment.

`listed.py VERSION LIMIT` follows the tokens of pages of LIMIT and prints each list as pages of `name version`.
FLYTECTL_CONFIG names the sandbox's config file.
"""

import json
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from flytekit.clients.friendly import SynchronousFlyteClient
from flytekit.configuration import Config
from flytekit.models.admin.common import Sort
from flytekit.models.common import NamedEntityIdentifier
from flytekit.models.filters import Contains, Equal, Filter, GreaterThanOrEqual, NotEqual, ValueIn
from flytekit.remote import FlyteRemote

PROJECT, DOMAIN = "flytesnacks", "development"
ASCENDING, DESCENDING = Sort.Direction.ASCENDING, Sort.Direction.DESCENDING
ALL = NamedEntityIdentifier(PROJECT, DOMAIN)


def spell(entity: Any) -> str:
    """Return the name, and the version where there is one."""
    key = getattr(entity, "id", entity)
    version = getattr(key, "version", None)
    return f"{key.name} {version}" if version else str(key.name)


def pages(function: Callable[..., tuple[list[Any], str]], *of: Any, **how: Any) -> list[list[str]]:
    """Return every page of a list."""
    token, result = "", []
    while True:
        page, token = function(*of, token=token, **how)
        result.append([spell(entity) for entity in page])
        if not token:
            return result


def only(*filters: Filter, by: Sort | None = None) -> dict[str, Any]:
    """Return the arguments for filters and order of a list."""
    return {"filters": list(filters), "sort_by": by}


def lists(client: SynchronousFlyteClient, version: str, limit: int) -> Iterable[tuple[str, list[list[str]]]]:
    """Yield each list with its name."""
    this = Equal("version", version)
    by_name, by_name_down = Sort("name", ASCENDING), Sort("name", DESCENDING)
    newest, oldest = Sort("created_at", DESCENDING), Sort("created_at", ASCENDING)
    inner = NamedEntityIdentifier(PROJECT, DOMAIN, "shapes.flows.inner")
    fixed = NamedEntityIdentifier(PROJECT, DOMAIN, "shapes.fixed")

    tasks = client.list_tasks_paginated
    yield "tasks by name", pages(tasks, ALL, limit=limit, **only(this, by=by_name))
    raw = only(Equal("type", "raw-container"), this, by=by_name)
    yield "raw containers", pages(tasks, ALL, limit=limit, **raw)
    some = only(Contains("name", ["shapes.types."]), NotEqual("name", "shapes.types.enums"), this, by=by_name_down)
    yield "some tasks, names falling", pages(tasks, ALL, limit=limit, **some)

    workflows = client.list_workflows_paginated
    yield "workflows by name", pages(workflows, ALL, limit=limit, **only(this, by=by_name))
    yield "versions of a workflow, newest first", pages(workflows, inner, limit=limit, **only(by=newest))
    yield "versions of a workflow, oldest first", pages(workflows, inner, limit=limit, **only(by=oldest))
    two = ValueIn("name", ["shapes.flows.inner", "shapes.flows.middle"])
    since = GreaterThanOrEqual("created_at", datetime(2020, 1, 1, tzinfo=UTC).isoformat())
    active = Equal("state", "0")
    yield "two workflows", pages(workflows, ALL, limit=limit, **only(two, this, since, active, by=by_name))

    plans = client.list_launch_plans_paginated
    yield "launch plans by name", pages(plans, ALL, limit=limit, **only(this, by=by_name))
    of = only(Equal("workflow.name", inner.name), Equal("workflow.version", version), by=by_name)
    yield "launch plans of a workflow", pages(plans, ALL, limit=limit, **of)
    scheduled = only(ValueIn("schedule_type", ["CRON", "RATE"]), this, by=by_name)
    yield "scheduled launch plans", pages(plans, ALL, limit=limit, **scheduled)
    yield "active launch plans by filter", pages(plans, ALL, limit=limit, **only(Equal("state", "1"), by=by_name))
    yield "versions of a launch plan, newest first", pages(plans, fixed, limit=limit, **only(by=newest))
    active_plans = client.list_active_launch_plans_paginated
    yield "active launch plans", pages(active_plans, PROJECT, DOMAIN, limit=limit, sort_by=by_name)

    for kind in ("task", "workflow", "launch_plan"):
        ids = getattr(client, f"list_{kind}_ids_paginated")
        yield f"{kind} names", pages(ids, PROJECT, DOMAIN, limit=limit)
        yield f"{kind} names falling", pages(ids, PROJECT, DOMAIN, limit=limit, sort_by=by_name_down)
        yield f"{kind} names, oldest first", pages(ids, PROJECT, DOMAIN, limit=limit, sort_by=oldest)


if __name__ == "__main__":
    remote = FlyteRemote(Config.auto(), PROJECT, DOMAIN)
    version, limit = sys.argv[1], int(sys.argv[2])
    result = dict(lists(remote.client, version, limit))
    result["tasks of a version"] = [[spell(task) for task in remote.list_tasks_by_version(version)]]
    print(json.dumps(result))
