"""Pages of versions, or of their descriptions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, text

from services.kit.db.database import Connection
from services.kit.lists.pages import Page, RowPage
from services.kit.lists.query import ListQuery
from services.kit.lists.statements import scope_conditions
from services.registry.store.tables import ACTIVE, launch_plans, workflows

# Columns of a launch plan's workflow that the launch plan has too.
WORKFLOW_KEY = ("project", "domain", "name", "version")


@dataclass(frozen=True)
class VersionPage:
    """A page of `columns` of a table of versions.

    `scope` is the scope of the list: values by column, such as the project; an empty value is any.
    """

    table: Table
    columns: Sequence[ColumnElement[Any]]
    scope: Mapping[str, Any]
    query: ListQuery
    active: bool = False

    async def read(self, connection: Connection) -> Page[tuple[Any, ...]]:
        """Return the columns of the page's rows."""
        given = {column: value for column, value in self.scope.items() if value}
        page = RowPage(self.table, self.columns, self.query, self._restrict, cache_key=self.active, values=given)
        return await page.read(connection)

    def _restrict(self, statement: Select[Any]) -> Select[Any]:
        """Return `statement` with the conditions of the scope and of the query."""
        statement = statement.where(*scope_conditions(self.table, self.scope), *self.query.where)
        if self.active:
            # The condition of the partial indexes as it is: PostgreSQL does not use them for a parameter.
            statement = statement.where(text(f"launch_plans.state = {ACTIVE}"))
        if any(condition.prefix and condition.column not in WORKFLOW_KEY for condition in self.query.conditions):
            statement = statement.join(workflows, workflows.c.id == launch_plans.c.workflow_id)
        return statement
