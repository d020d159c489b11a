"""How a page of versions, or of their descriptions, is read: by indexes, at every depth for about the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, text

from services.kit.db import Connection
from services.kit.listing import DESCENDING, Plan
from services.kit.positions import Positions
from services.kit.row_pages import Page, RowPage, Stay
from services.kit.statements import within
from services.registry.store.tables import ACTIVE, launch_plans, workflows

# What of a version can change: whether it is in a list that filters by these, too.
_CHANGING = frozenset({"state", "updated_at"})
# Of a launch plan's workflow, what stands beside the plan.
WORKFLOW_KEY = ("project", "domain", "name", "version")


@dataclass(frozen=True)
class VersionPage:
    """A page of a table of versions: `columns` of those in `place`, where empty is everywhere."""

    table: Table
    columns: Sequence[ColumnElement[Any]]
    place: Mapping[str, Any]
    plan: Plan
    active: bool = False

    async def read(self, connection: Connection, positions: Positions) -> Page[tuple[Any, ...]]:
        """Return the columns of the page's rows."""
        given = {column: value for column, value in self.place.items() if value}
        stay = Stay(positions, self.table.c.created_at) if self._stays() else None
        return await RowPage(
            self.table, self.columns, self.plan, self._chosen, about=self.active, values=given, stay=stay
        ).read(connection)

    def _stays(self) -> bool:
        """Whether the list is newest first, of versions whose being in it never changes."""
        order, direction = self.plan.order
        newest_first = order is None or (order == "created_at" and direction == DESCENDING)
        changing = (not condition.prefix and condition.column in _CHANGING for condition in self.plan.conditions)
        return newest_first and not self.active and not any(changing)

    def _chosen(self, statement: Select[Any]) -> Select[Any]:
        """Return `statement` for what the list is about."""
        statement = statement.where(*within(self.table, self.place), *self.plan.where)
        if self.active:
            # In the words of the partial indexes, which a parameter would not be known to have.
            statement = statement.where(text(f"launch_plans.state = {ACTIVE}"))
        if any(condition.prefix and condition.column not in WORKFLOW_KEY for condition in self.plan.conditions):
            statement = statement.join(workflows, workflows.c.id == launch_plans.c.workflow_id)
        return statement
