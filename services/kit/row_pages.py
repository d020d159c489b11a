"""How a page of a list of rows is read: by indexes, and, where rows stay, at every depth for about the same.

A page ends early where its rows would not fit into what clients receive. They are as large as whoever stored them
wanted: a hundred rows of 4 MiB each no client could read, and a service that put them together would be full of them.
"""

from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    LargeBinary,
    Select,
    String,
    Table,
    bindparam,
    func,
    literal_column,
    or_,
    select,
    tuple_,
)

from services.kit.db import Connection, fetch_text, snapshot
from services.kit.listing import Plan
from services.kit.positions import MOST_NEWER, Place, Positions
from services.kit.statements import TEXTS, paged

# Up to this offset walking there costs less than asking what is newer.
_DEEP = 2000
# Of the rows of a page together, as far as they are larger than usual. gRPC clients receive 4 MiB unless they are told
# otherwise; the rest is for what counts as usual of the hundred rows that a page has without a limit.
MOST_BYTES = 3 * 1024 * 1024
# Up to this a row is as clients expect it, and they get as many as they ask for: the console asks for ten thousand
# nodes at once and reads no second page.
USUAL_BYTES = 8 * 1024
# Of a row beside its texts and messages: heads of fields, numbers, identifiers.
_ROW_BYTES = 64

Item = TypeVar("Item")


class Page(list[Item], Generic[Item]):
    """The rows of a page in their order; `cut` where the list goes on although there are fewer than were asked for."""

    def __init__(self, rows: Iterable[Item] = (), *, cut: bool = False) -> None:
        super().__init__(rows)
        self.cut = cut


@dataclass(frozen=True)
class Stay:
    """Why the place of a row in a list stays: the list is newest first by `moment`, and no row leaves it."""

    positions: Positions
    moment: ColumnElement[Any]
    """When a row was made: of the rows that appear after a while none is older than that (see `positions`)."""
    counted: Callable[[Connection], Awaitable[int]] | None = None
    """Answers how often rows have left or joined otherwise; places that were remembered before are then forgotten."""


@dataclass(frozen=True)
class RowPage:
    """A page of `columns` of the rows of `table` which `chosen` makes a statement be about."""

    table: Table
    columns: Sequence[ColumnElement[Any]]
    plan: Plan
    chosen: Callable[[Select[Any]], Select[Any]]
    """Its text depends on `about`, the plan's shape and which of `values` there are."""
    about: Hashable
    values: Mapping[str, Any]
    """The parameters of `chosen` beside those of the plan."""
    stay: Stay | None = None
    beside: ColumnElement[Any] | None = None
    """Bytes that the answer shows of a row from elsewhere."""

    async def read(self, connection: Connection) -> Page[tuple[Any, ...]]:
        """Return the columns of the page's rows, as many as fit; the first one always does."""
        rows = await self._read(connection)
        return Page((row[:-1] for row in rows), cut=bool(rows) and rows[-1][-1])

    async def _read(self, connection: Connection) -> list[tuple[Any, ...]]:
        """Return the rows, and at the end of each whether another one comes behind it."""
        if self.stay is not None and self.plan.offset >= _DEEP:
            # A row that comes between two statements would shift what is remembered.
            async with snapshot(connection):
                return await self._read_deep(connection, self.stay)
        text = self._text("page", lambda: self._page(self.columns))
        return await fetch_text(connection, text, self._values)

    async def _read_deep(self, connection: Connection, stay: Stay) -> list[tuple[Any, ...]]:
        """Go on from the nearest place that is known, see `services.kit.positions`."""
        changes = await stay.counted(connection) if stay.counted else 0
        filtered = (str(condition.value) for condition in self.plan.conditions)
        of = (self._key, *self.values.values(), *filtered, changes)
        known = stay.positions.known(of)
        newer = await self._newer(connection, stay, known.since)
        if newer > MOST_NEWER:
            since = stay.positions.settled()
            left = await self._newer(connection, stay, since)
            known = known.moved(since, newer - left)
            stay.positions.keep(of, known)
            newer = left
        rank = self.plan.offset - newer
        start = known.nearest(rank)
        place = stay.moment, self.table.c.id
        text = self._text(
            "page from" if start else "page and place",
            lambda: self._page((*self.columns, *place), from_=stay.moment if start else None),
        )
        begin = {"offset": rank - start.rank, "from": start.moment, "from_id": start.key} if start else {}
        rows = await fetch_text(connection, text, {**self._values, **begin})
        if rows and rows[0][-len(place) - 1] is not None:
            known.add(Place(rank, *rows[0][-len(place) - 1 : -1]))
        return [(*row[: -len(place) - 1], row[-1]) for row in rows]

    async def _newer(self, connection: Connection, stay: Stay, since: datetime) -> int:
        """Count the rows of the list that are newer than `since`."""

        def compose() -> Select[Any]:
            newer = stay.moment > bindparam("since", type_=stay.moment.type)
            return self.chosen(select(func.count()).select_from(self.table)).where(newer)

        ((found,),) = await fetch_text(connection, self._text("newer", compose), {**self._values, "since": since})
        return int(found)

    def _page(self, columns: Sequence[ColumnElement[Any]], from_: ColumnElement[Any] | None = None) -> Select[Any]:
        # The page is chosen by ids, of which indexes tell: rows that an offset skips are never read.
        number = self.table.c.id
        ids = paged(self.chosen(select(number))).order_by(*self.plan.order_by)
        if from_ is not None:
            place = bindparam("from", type_=from_.type), bindparam("from_id", type_=number.type)
            ids = ids.where(tuple_(from_, number) <= tuple_(*place))
        page = ids.subquery("page")
        order = [*self.plan.order_by]
        # Lengths are known without reading what is long, and what does not fit is never read.
        rows = select(
            *(column.label(f"column_{at}") for at, column in enumerate(columns)),
            func.sum(self._bytes()).over(order_by=order, rows=(None, 0)).label("bytes"),
            func.row_number().over(order_by=order, rows=(None, 0)).label("number"),
            func.lead(self.table.c.id).over(order_by=order, rows=(None, 0)).is_not(None).label("more"),
        )
        sized = rows.join(page, page.c.id == number).subquery("sized")
        wanted = (sized.c[f"column_{at}"] for at in range(len(columns)))
        fits = or_(sized.c.bytes <= bindparam("most_bytes", type_=BigInteger), sized.c.number == literal_column("1"))
        return select(*wanted, sized.c.more).where(fits).order_by(sized.c.number)

    def _bytes(self) -> ColumnElement[Any]:
        """Return about how many bytes more than usual a row takes of an answer."""
        long = [column for column in self.columns if isinstance(column.type, LargeBinary | String)]
        lengths: list[ColumnElement[Any]] = [
            func.coalesce(func.octet_length(column), literal_column("0")) for column in long
        ]
        if self.beside is not None:
            lengths.append(self.beside)
        bytes_of_row: ColumnElement[Any] = sum(lengths, start=literal_column(str(_ROW_BYTES), BigInteger))
        return func.greatest(bytes_of_row - literal_column(str(USUAL_BYTES)), literal_column("0"))

    @property
    def _key(self) -> tuple[Hashable, ...]:
        return (self.table.name, self.about, self.plan.shape, tuple(self.values))

    def _text(self, part: str, compose: Callable[[], Select[Any]]) -> str:
        return TEXTS.of((part, *self._key), compose)

    @property
    def _values(self) -> dict[str, Any]:
        return {**self.values, **self.plan.values, "most_bytes": MOST_BYTES}
