"""The projects table: one row for each project, archived ones included. A project is never deleted."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from flyteidl.admin.project_pb2 import Project
from sqlalchemy import ARRAY, DateTime, Select, Text, any_, bindparam, cast, literal_column, null

from services.kit.db.database import Connection
from services.kit.lists.pages import Page, RowPage
from services.kit.lists.query import Column, Entity, Listing, ListQuery, ValueType
from services.projects.store.tables import projects

_INSERT = """
INSERT INTO projects (identifier, name, description, state, created_at, updated_at, message)
VALUES (%(identifier)s, %(name)s, %(description)s, %(state)s, %(now)s, %(now)s, %(message)b)
ON CONFLICT (identifier) DO NOTHING
RETURNING id
"""
_UPDATE = """
UPDATE projects
SET name = %(name)s, description = %(description)s, state = %(state)s, updated_at = %(now)s, message = %(message)b
WHERE identifier = %(identifier)s
"""
_GET = "SELECT message FROM projects WHERE identifier = %(identifier)s"
_LOCK = _GET + " FOR UPDATE"
_UNARCHIVED = "SELECT identifier FROM projects WHERE state <> %(archived)s ORDER BY created_at DESC, identifier"

LISTING = Listing(
    "project",
    Entity(
        "p",
        {
            "id": Column(projects.c.id, ValueType.INTEGER),
            "created_at": Column(projects.c.created_at, ValueType.TIMESTAMP),
            "updated_at": Column(projects.c.updated_at, ValueType.TIMESTAMP),
            # A project is never deleted; filters may name the column nevertheless, as in flyteadmin.
            "deleted_at": Column(cast(null(), DateTime(timezone=True)), ValueType.TIMESTAMP),
            "identifier": Column(projects.c.identifier),
            "name": Column(projects.c.name),
            "description": Column(projects.c.description),
            "labels": Column(projects.c.message, ValueType.BYTES),
            "state": Column(projects.c.state, ValueType.INTEGER),
        },
    ),
    # Unique: it ends every order, so that pages do not overlap.
    tie_break=projects.c.identifier,
)


async def insert(connection: Connection, project: Project, now: datetime) -> bool:
    """Insert `project` and return whether it is new; leave an existing row with its id unchanged."""
    cursor = await connection.execute(_INSERT, _row(project, now), binary=True)
    return await cursor.fetchone() is not None


async def update(connection: Connection, project: Project, now: datetime) -> None:
    """Replace the row that has the id of `project`."""
    await connection.execute(_UPDATE, _row(project, now), binary=True)


async def get(connection: Connection, identifier: str) -> bytes | None:
    """Return the serialized project without its domains; None when there is none."""
    cursor = await connection.execute(_GET, {"identifier": identifier}, binary=True)
    row = await cursor.fetchone()
    return row[0] if row else None


async def lock(connection: Connection, identifier: str) -> Project | None:
    """Return the project and lock its row until the transaction ends; None when there is none."""
    cursor = await connection.execute(_LOCK, {"identifier": identifier}, binary=True)
    row = await cursor.fetchone()
    return Project.FromString(row[0]) if row else None


async def unarchived(connection: Connection) -> list[str]:
    """Return the ids of all projects that are not archived, the newest first."""
    cursor = await connection.execute(_UNARCHIVED, {"archived": int(Project.ARCHIVED)}, binary=True)
    return [identifier for (identifier,) in await cursor.fetchall()]


async def find(connection: Connection, query: ListQuery, visible: Sequence[str] | None = None) -> Page[bytes]:
    """Return the serialized projects of a page; archived ones only if there is a filter (lists.md#listprojects).

    Args:
        connection: A connection to the database.
        query: The list request.
        visible: Patterns of LIKE for the ids of the projects that the list has; None for all.
    """

    def restrict(statement: Select[Any]) -> Select[Any]:
        statement = statement.where(*(query.where or [projects.c.state != literal_column(str(Project.ARCHIVED))]))
        if visible is None:
            return statement
        return statement.where(projects.c.identifier.like(any_(bindparam("visible", type_=ARRAY(Text)))))

    values = {} if visible is None else {"visible": list(visible)}
    page = RowPage(projects, (projects.c.message,), query, restrict, cache_key=None, values=values)
    rows = await page.read(connection)
    return Page((message for (message,) in rows), more=rows.more)


def _row(project: Project, now: datetime) -> dict[str, object]:
    return {
        "identifier": project.id,
        "name": project.name,
        "description": project.description,
        "state": project.state,
        "now": now,
        "message": project.SerializeToString(),
    }
