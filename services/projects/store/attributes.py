"""The matchable_attributes table: one row for each scope and kind.

The column of the kind is resource_type, as Flyte calls it in requests.
"""

from datetime import datetime

from flyteidl.admin.matchable_resource_pb2 import MatchableAttributesConfiguration, MatchingAttributes

from services.kit.db.database import Connection
from services.kit.protobuf.wire import message_field, string_field
from services.projects.rules.attributes import Scope

_SCOPE = "project = %(project)s AND domain = %(domain)s AND workflow = %(workflow)s AND launch_plan = ''"
# Rows of less specific scopes match too; of equal priorities the oldest comes first (projects.md#matching).
_MATCHES = """project IN ('', %(project)s) AND domain IN ('', %(domain)s) AND workflow IN ('', %(workflow)s)
    AND launch_plan IN ('', %(launch_plan)s)"""
_SPECIFIC_FIRST = "priority DESC, matchable_attributes.id"
_COLUMNS = "project, domain, workflow, launch_plan, attributes"

_GET = f"SELECT attributes FROM matchable_attributes WHERE {_SCOPE} AND resource_type = %(resource_type)s"
_PUT = """
INSERT INTO matchable_attributes (
    project, domain, workflow, launch_plan, resource_type, priority, attributes, created_at, updated_at
)
VALUES (
    %(project)s, %(domain)s, %(workflow)s, '', %(resource_type)s, %(priority)s, %(attributes)b, %(now)s, %(now)s
)
ON CONFLICT (project, domain, workflow, launch_plan, resource_type)
DO UPDATE SET attributes = excluded.attributes, updated_at = excluded.updated_at
"""
_DELETE = f"DELETE FROM matchable_attributes WHERE {_SCOPE} AND resource_type = %(resource_type)s RETURNING attributes"
_MATCH = f"""
SELECT {_COLUMNS} FROM matchable_attributes
WHERE {_MATCHES} AND resource_type = %(resource_type)s ORDER BY {_SPECIFIC_FIRST} LIMIT 1
"""
_OF_KIND = f"""
SELECT {_COLUMNS} FROM matchable_attributes WHERE resource_type = %(resource_type)s ORDER BY {_SPECIFIC_FIRST}
"""
_SIZE_OF_KIND = """
SELECT COALESCE(sum(octet_length(attributes)), 0)::bigint FROM matchable_attributes
WHERE resource_type = %(resource_type)s
"""
_PROJECT_AND_MATCHES = f"""
SELECT message, matching.* FROM projects
LEFT JOIN (SELECT priority, id AS number, {_COLUMNS} FROM matchable_attributes WHERE {_MATCHES}) AS matching ON true
WHERE identifier = %(project)s ORDER BY priority DESC, number
"""


async def get(connection: Connection, scope: Scope, kind: int) -> MatchingAttributes | None:
    """Return what is set exactly at `scope`; None when nothing is."""
    cursor = await connection.execute(_GET, _key(scope, kind), binary=True)
    row = await cursor.fetchone()
    return MatchingAttributes.FromString(row[0]) if row else None


async def put(connection: Connection, scope: Scope, kind: int, attributes: MatchingAttributes, now: datetime) -> None:
    """Set `attributes` at `scope`, replacing those of their kind."""
    row = {"priority": int(scope.level), "attributes": attributes.SerializeToString(), "now": now}
    await connection.execute(_PUT, _key(scope, kind) | row, binary=True)


async def delete(connection: Connection, scope: Scope, kind: int) -> MatchingAttributes | None:
    """Delete what is set exactly at `scope` and return it; None when nothing was."""
    cursor = await connection.execute(_DELETE, _key(scope, kind), binary=True)
    row = await cursor.fetchone()
    return MatchingAttributes.FromString(row[0]) if row else None


async def match(connection: Connection, scope: Scope, kind: int) -> MatchableAttributesConfiguration | None:
    """Return the most specific attributes that match `scope`, with their own scope; None when none do."""
    cursor = await connection.execute(_MATCH, _key(scope, kind), binary=True)
    row = await cursor.fetchone()
    return _configuration(*row) if row else None


async def size_of_kind(connection: Connection, kind: int) -> int:
    """Return the size of all attributes of a kind, in bytes."""
    cursor = await connection.execute(_SIZE_OF_KIND, {"resource_type": kind}, binary=True)
    ((size,),) = await cursor.fetchall()
    return int(size)


async def of_kind(connection: Connection, kind: int) -> list[bytes]:
    """Return all attributes of a kind as serialized MatchableAttributesConfigurations, most specific first."""
    cursor = await connection.execute(_OF_KIND, {"resource_type": kind}, binary=True)
    # They are not parsed: small parts would take many times their bytes.
    fields = MatchableAttributesConfiguration
    return [
        message_field(fields.ATTRIBUTES_FIELD_NUMBER, attributes)
        + string_field(fields.DOMAIN_FIELD_NUMBER, domain)
        + string_field(fields.PROJECT_FIELD_NUMBER, project)
        + string_field(fields.WORKFLOW_FIELD_NUMBER, workflow)
        + string_field(fields.LAUNCH_PLAN_FIELD_NUMBER, launch_plan)
        for project, domain, workflow, launch_plan, attributes in await cursor.fetchall()
    ]


async def project_and_matches(
    connection: Connection, scope: MatchableAttributesConfiguration
) -> tuple[bytes, list[MatchableAttributesConfiguration]] | None:
    """Return the serialized project of `scope` without its domains, and what matches the scope, most specific first.

    Return None when there is no such project.
    """
    parameters = {
        "project": scope.project,
        "domain": scope.domain,
        "workflow": scope.workflow,
        "launch_plan": scope.launch_plan,
    }
    cursor = await connection.execute(_PROJECT_AND_MATCHES, parameters, binary=True)
    rows = await cursor.fetchall()
    if not rows:
        return None
    project = rows[0][0]
    # A project without attributes is one row whose other columns are null.
    return project, [_configuration(*columns) for _, priority, _, *columns in rows if priority is not None]


def _key(scope: Scope, kind: int) -> dict[str, object]:
    return {
        "project": scope.project,
        "domain": scope.domain,
        "workflow": scope.workflow,
        "launch_plan": "",
        "resource_type": kind,
    }


def _configuration(
    project: str, domain: str, workflow: str, launch_plan: str, attributes: bytes
) -> MatchableAttributesConfiguration:
    return MatchableAttributesConfiguration(
        project=project,
        domain=domain,
        workflow=workflow,
        launch_plan=launch_plan,
        attributes=MatchingAttributes.FromString(attributes),
    )
