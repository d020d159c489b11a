"""How a page of names is read: by indexes, at every depth for about the same.

Names are never removed and never renamed, but new ones come in the middle. Those that had come by a settled moment keep
their places among each other (see `positions`), so a place in the whole list is that and the newer names before it, of
which there are few.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Select, bindparam, func, select

from services.kit.db import Connection, fetch_text, snapshot
from services.kit.listing import ASCENDING, Plan
from services.kit.positions import MOST_NEWER, Known, Place, Positions
from services.kit.statements import TEXTS, given, within
from services.registry.store.tables import named_entities

FROM = "from"
"""The parameter of the name that a page goes on from."""

# Up to this offset walking there costs less than asking what is newer.
_DEEP = 2000
_UNCHANGING = frozenset({"project", "domain", "name"})
# Of a row: project, domain and name come first.
_NAME = 2


class Compose(Protocol):
    """Makes the statement of a page, whose rows begin with project, domain and name."""

    def __call__(self, *, going_on: bool) -> Select[Any]:
        """Make it; one that is `going_on` leaves out the names before the parameter FROM."""


@dataclass(frozen=True)
class NamePage:
    """A page of names in `place`, read by what `compose` makes of `kind`."""

    plan: Plan
    place: Mapping[str, Any]
    kind: str
    compose: Compose

    async def read(self, connection: Connection, positions: Positions) -> list[tuple[Any, ...]]:
        """Return the page's rows."""
        if not self._stays():
            return await self._rows(connection, {})
        # A name that comes between two statements would shift what is remembered.
        async with snapshot(connection):
            known = positions.known(self._of)
            newer = await self._newer(connection, known)
            if newer > MOST_NEWER:
                later = Known(positions.settled(), known.until)
                left = await self._newer(connection, later)
                # Places are counted anew from there, which is worth it only when most have settled meanwhile.
                if left <= newer // 2:
                    known, newer = later, left
                    positions.keep(self._of, known)
            rows = await self._rows(connection, await self._start(connection, known, newer))
            if rows:
                await self._remember(connection, known, rows[0][_NAME])
            return rows

    async def _rows(self, connection: Connection, start: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        text = self._text("page from" if start else "page", lambda: self.compose(going_on=bool(start)))
        return await fetch_text(connection, text, {**self.place, **self.plan.values, **start})

    async def _start(self, connection: Connection, known: Known, newer: int) -> dict[str, Any]:
        """Return FROM and the offset from there; empty when nothing better is known than the first name."""
        # However many of the newer names stand before it, it is not beyond the page.
        found = known.nearest(self.plan.offset - newer)
        if found is None:
            return {}
        before = await self._newer(connection, known, before=found.key) if newer else 0
        return {FROM: found.key, "offset": self.plan.offset - found.rank - before}

    async def _remember(self, connection: Connection, known: Known, name: str) -> None:
        rank = self.plan.offset - await self._newer(connection, known, before=name)
        if known.lacks(rank):
            ((created_at,),) = await fetch_text(
                connection, self._text("moment", self._moment), {**self.place, "name": name}
            )
            known.add(Place(rank, created_at, name))

    def _stays(self) -> bool:
        """Whether it is deep in a list by name, of names whose being in it never changes."""
        order, direction = self.plan.order
        by_name = order is None or (order == "name" and direction == ASCENDING)
        stay = all(condition.column in _UNCHANGING for condition in self.plan.conditions)
        return self.plan.offset >= _DEEP and by_name and stay and all(self.place.values())

    async def _newer(self, connection: Connection, known: Known, *, before: str | None = None) -> int:
        """Count the names that came after the moment that places are counted from; those `before` a name, or all."""

        def compose() -> Select[Any]:
            since = bindparam("since", type_=named_entities.c.created_at.type)
            newer = select(func.count()).where(*within(named_entities, self.place), *self.plan.where)
            newer = newer.where(named_entities.c.created_at > since)
            return newer if before is None else newer.where(named_entities.c.name < bindparam("before"))

        text = self._text("newer" if before is None else "newer before", compose)
        told = {} if before is None else {"before": before}
        ((found,),) = await fetch_text(
            connection, text, {**self.place, **self.plan.values, "since": known.since, **told}
        )
        return int(found)

    def _moment(self) -> Select[Any]:
        named = named_entities.c.name == bindparam("name")
        return select(named_entities.c.created_at).where(*within(named_entities, self.place), named)

    @property
    def _of(self) -> tuple[Any, ...]:
        values = (str(condition.value) for condition in self.plan.conditions)
        return ("names", self.plan.shape, *self.place.values(), *values)

    def _text(self, part: str, compose: Any) -> str:
        return TEXTS.of((self.kind, part, self.place["resource_type"], self.plan.shape, given(self.place)), compose)
