"""How a page of versions, or of their descriptions, is read: by indexes, at every depth for about the same."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, bindparam, func, select, text, tuple_

from services.kit.db import Connection, fetch_text, snapshot
from services.kit.listing import DESCENDING, Plan
from services.registry.store.positions import MOST_NEWER, Place, Positions
from services.registry.store.statements import TEXTS, given, paged, within
from services.registry.store.tables import ACTIVE, launch_plans, workflows

# Up to this offset walking there costs less than asking what is newer.
_DEEP = 2000
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

    async def read(self, connection: Connection, positions: Positions) -> list[tuple[Any, ...]]:
        """Return the columns of the page's rows."""
        if self.plan.offset >= _DEEP and self._stays():
            # A version that comes between two statements would shift what is remembered.
            async with snapshot(connection):
                return await self._read_deep(connection, positions)
        text = self._text("page", lambda: self._page(self.columns))
        return await fetch_text(connection, text, self._values)

    async def _read_deep(self, connection: Connection, positions: Positions) -> list[tuple[Any, ...]]:
        """Go on from the nearest place that is known, see `services.registry.store.positions`."""
        of = (self._key, *self.place.values(), *(str(condition.value) for condition in self.plan.conditions))
        known = positions.known(of)
        newer = await self._newer(connection, known.since)
        if newer > MOST_NEWER:
            since = positions.settled()
            left = await self._newer(connection, since)
            known = known.moved(since, newer - left)
            positions.keep(of, known)
            newer = left
        rank = self.plan.offset - newer
        start = known.nearest(rank)
        moment = self.table.c.created_at, self.table.c.id
        text = self._text(
            "page from" if start else "page and place",
            lambda: self._page((*self.columns, *moment), going_on=start is not None),
        )
        begin = {"offset": rank - start.rank, "from": start.created_at, "from_id": start.key} if start else {}
        rows = await fetch_text(connection, text, {**self._values, **begin})
        if rows:
            known.add(Place(rank, *rows[0][-len(moment) :]))
        return [row[: -len(moment)] for row in rows]

    def _stays(self) -> bool:
        """Whether the list is newest first, of versions whose being in it never changes."""
        order, direction = self.plan.order
        newest_first = order is None or (order == "created_at" and direction == DESCENDING)
        changing = (not condition.prefix and condition.column in _CHANGING for condition in self.plan.conditions)
        return newest_first and not self.active and not any(changing)

    async def _newer(self, connection: Connection, since: datetime) -> int:
        """Count the versions of the list that are newer than `since`."""

        def compose() -> Select[Any]:
            newer = self.table.c.created_at > bindparam("since", type_=self.table.c.created_at.type)
            return self._chosen(select(func.count())).where(newer)

        ((found,),) = await fetch_text(connection, self._text("newer", compose), {**self._values, "since": since})
        return int(found)

    def _page(self, columns: Sequence[ColumnElement[Any]], *, going_on: bool = False) -> Select[Any]:
        # The page is chosen by ids, of which indexes tell: rows that an offset skips are never read.
        ids = paged(self._chosen(select(self.table.c.id))).order_by(*self.plan.order_by)
        if going_on:
            moment = tuple_(self.table.c.created_at, self.table.c.id)
            place = (
                bindparam("from", type_=self.table.c.created_at.type),
                bindparam("from_id", type_=self.table.c.id.type),
            )
            ids = ids.where(moment <= tuple_(*place))
        page = ids.subquery("page")
        return select(*columns).join(page, page.c.id == self.table.c.id).order_by(*self.plan.order_by)

    def _chosen(self, statement: Select[Any]) -> Select[Any]:
        """Return `statement` for what the list is about."""
        statement = statement.where(*within(self.table, self.place), *self.plan.where)
        if self.active:
            # In the words of the partial indexes, which a parameter would not be known to have.
            statement = statement.where(text(f"launch_plans.state = {ACTIVE}"))
        if any(condition.prefix and condition.column not in WORKFLOW_KEY for condition in self.plan.conditions):
            statement = statement.join(workflows, workflows.c.id == launch_plans.c.workflow_id)
        return statement

    @property
    def _key(self) -> tuple[Hashable, ...]:
        return (self.table.name, self.plan.shape, given(self.place), self.active)

    def _text(self, part: str, compose: Callable[[], Select[Any]]) -> str:
        return TEXTS.of((part, *self._key), compose)

    @property
    def _values(self) -> dict[str, Any]:
        return {**self.place, **self.plan.values}
