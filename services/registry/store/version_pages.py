"""Read a page of versions, or of their descriptions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, text

from services.kit.db.database import Connection
from services.kit.lists.pages import Page, RowPage
from services.kit.lists.query import ListQuery
from services.kit.lists.statements import within
from services.registry.store.tables import ACTIVE, launch_plans, workflows

# Columns of a launch plan's workflow that the launch plan has too.
WORKFLOW_KEY = ("project", "domain", "name", "version")


@dataclass(frozen=True)
class VersionPage:
    """A page of a table of versions: `columns` of those in `place`, where empty is everywhere."""

    table: Table
    columns: Sequence[ColumnElement[Any]]
    place: Mapping[str, Any]
    plan: ListQuery
    active: bool = False

    async def read(self, connection: Connection) -> Page[tuple[Any, ...]]:
        """Return the columns of the page's rows."""
        given = {column: value for column, value in self.place.items() if value}
        page = RowPage(self.table, self.columns, self.plan, self._chosen, about=self.active, values=given)
        return await page.read(connection)

    def _chosen(self, statement: Select[Any]) -> Select[Any]:
        """Return `statement` for what the list is about."""
        statement = statement.where(*within(self.table, self.place), *self.plan.where)
        if self.active:
            # In the words of the partial indexes, which a parameter would not be known to have.
            statement = statement.where(text(f"launch_plans.state = {ACTIVE}"))
        if any(condition.prefix and condition.column not in WORKFLOW_KEY for condition in self.plan.conditions):
            statement = statement.join(workflows, workflows.c.id == launch_plans.c.workflow_id)
        return statement
