"""Storage of new executions: rows, tags and announcements of any number of launches in one statement.

Of two launches with one name the unique key accepts the first. The URI of its inputs identifies a launch, as no other
launch has the same (docs/decisions/0004-inputs-never-overwritten.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.executions.rules.new_executions import NewExecution
from services.kit.db.database import Connection

# An execution, its tags and the announcement that makes an engine run it: one statement stores all of them or none.
_INSERT = """
WITH given AS (
SELECT * FROM unnest(
    %(projects)b::text[], %(domains)b::text[], %(names)b::text[], %(specs)b::bytea[], %(spec_inputs)b::bytea[],
    %(closures)b::bytea[], %(configs)b::bytea[], %(attributes)b::bytea[], %(created_times)b::timestamptz[],
    %(modes)b::int[], %(sources)b::bigint[], %(parent_nodes)b::bigint[], %(inputs_uris)b::text[],
    %(user_inputs_uris)b::text[], %(users)b::text[], %(launch_plan_projects)b::text[],
    %(launch_plan_domains)b::text[], %(launch_plan_names)b::text[], %(launch_plan_versions)b::text[],
    %(workflow_projects)b::text[], %(workflow_domains)b::text[], %(workflow_names)b::text[],
    %(workflow_versions)b::text[], %(task_projects)b::text[], %(task_domains)b::text[], %(task_names)b::text[],
    %(task_versions)b::text[], %(announcements)b::bytea[]
) WITH ORDINALITY AS launch (
    project, domain, name, spec, spec_inputs, closure, config, attributes, created_at, mode, source, parent_node,
    inputs_uri, user_inputs_uri, "user", launch_plan_project, launch_plan_domain, launch_plan_name, launch_plan_version,
    workflow_project, workflow_domain, workflow_name, workflow_version, task_project, task_domain, task_name,
    task_version, announcement, position
)
), inserted AS (
INSERT INTO executions (
    execution_project, execution_domain, execution_name, phase, spec, spec_inputs, closure, execution_config,
    execution_attributes, execution_created_at, execution_updated_at, mode, source_execution_id,
    parent_node_execution_id, inputs_uri, user_inputs_uri, "user", state, launch_entity,
    launch_plan_project, launch_plan_domain, launch_plan_name, launch_plan_version,
    workflow_project, workflow_domain, workflow_name, workflow_version,
    task_project, task_domain, task_name, task_version
)
SELECT project, domain, name, 'UNDEFINED', spec, spec_inputs, closure, config, attributes, created_at, created_at, mode,
       source, parent_node, inputs_uri, user_inputs_uri, "user", 0,
       CASE WHEN task_name IS NULL THEN 'launch_plan' ELSE 'task' END,
       launch_plan_project, launch_plan_domain, launch_plan_name, launch_plan_version,
       workflow_project, workflow_domain, workflow_name, workflow_version,
       task_project, task_domain, task_name, task_version
FROM given ORDER BY position
ON CONFLICT (execution_project, execution_domain, execution_name) DO NOTHING
RETURNING execution_project, execution_domain, execution_name, inputs_uri
), tagged AS (
INSERT INTO execution_tags (execution_project, execution_domain, execution_name, key, value)
SELECT inserted.execution_project, inserted.execution_domain, inserted.execution_name, tag.key, tag.value
FROM inserted
JOIN unnest(%(tag_owners)b::text[], %(tag_keys)b::text[], %(tag_values)b::text[]) AS tag (inputs_uri, key, value)
    USING (inputs_uri)
), announced AS (
INSERT INTO outbox (subject, payload)
SELECT %(subject)s, given.announcement FROM inserted JOIN given USING (inputs_uri) ORDER BY given.position
)
SELECT inputs_uri FROM inserted
"""
_ID_PARTS = ("project", "domain", "name", "version")


@dataclass(frozen=True)
class Launch:
    """An execution to be stored, the URIs of its inputs, and the payload of its announcement."""

    execution: NewExecution
    inputs_uri: str
    user_inputs_uri: str
    announcement: bytes


async def insert(connection: Connection, launches: Sequence[Launch], subject: str) -> set[str]:
    """Store `launches` and their announcements. No transaction needs to be open.

    Args:
        connection: A connection to the database.
        launches: The launches.
        subject: The NATS subject of the announcements.

    Returns:
        The inputs URIs of the stored launches. The names of the others are in use; nothing of them is stored.
    """
    executions = [launch.execution for launch in launches]
    entities = [execution.entity for execution in executions]
    spec_inputs = [execution.spec_inputs for execution in executions]
    tags = [(launch.inputs_uri, *tag) for launch in launches for tag in sorted(launch.execution.tags)]
    columns = {
        **_columns("", [execution.id for execution in executions], _ID_PARTS[:-1]),
        **_columns("launch_plan_", [None if entity.task_id else entity.launch_plan.id for entity in entities]),
        **_columns("workflow_", [entity.workflow_id for entity in entities]),
        **_columns("task_", [entity.task_id for entity in entities]),
        "specs": [execution.spec.SerializeToString() for execution in executions],
        "spec_inputs": [None if inputs is None else inputs.SerializeToString() for inputs in spec_inputs],
        "closures": [execution.closure.SerializeToString() for execution in executions],
        "configs": [execution.config.SerializeToString() for execution in executions],
        "attributes": [execution.attributes.SerializeToString() for execution in executions],
        "created_times": [execution.created_at for execution in executions],
        "modes": [execution.spec.metadata.mode for execution in executions],
        "sources": [execution.source_execution_id for execution in executions],
        "parent_nodes": [execution.parent_node_execution_id for execution in executions],
        "inputs_uris": [launch.inputs_uri for launch in launches],
        "user_inputs_uris": [launch.user_inputs_uri for launch in launches],
        "users": [execution.spec.metadata.principal for execution in executions],
        "tag_owners": [uri for uri, _, _ in tags],
        "tag_keys": [key for _, key, _ in tags],
        "tag_values": [value for _, _, value in tags],
        "announcements": [launch.announcement for launch in launches],
        "subject": subject,
    }
    cursor = await connection.execute(_INSERT, columns)
    return {uri for (uri,) in await cursor.fetchall()}


def _columns(prefix: str, ids: Sequence[Any], parts: Sequence[str] = _ID_PARTS) -> dict[str, list[str | None]]:
    """Return a list of values for each part of the ids, by parameter; None for an id that is None."""

    def values(part: str) -> list[str | None]:
        return [None if identifier is None else getattr(identifier, part) for identifier in ids]

    return {f"{prefix}{part}s": values(part) for part in parts}
