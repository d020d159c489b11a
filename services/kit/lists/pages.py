"""Pages of lists: read by indexes, and ended early where rows are large.

Of the rows that an offset skips only index entries are read: some 10 ms for 100,000 of them.

A page with the usual limit of 100 rows fits into a response that clients receive (lists.md#large-rows). Rows are as
large as clients have stored them: no client could read a hundred of 4 MiB each, and memory would run out.

A page with a higher limit is long. It is in memory several times while it is made, so few are made at the same time.
"""

from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    LargeBinary,
    Select,
    String,
    Table,
    and_,
    bindparam,
    func,
    literal_column,
    or_,
    select,
)

from services.kit.db.database import Connection, Database, fetch_text
from services.kit.lists.query import ListQuery
from services.kit.lists.statements import STATEMENT_CACHE, paged
from services.kit.rpc.fairness import LARGE_RESPONSE_BYTES, UNREAD_RESPONSES, FairSemaphore, slot_for_response

# The maximum size of a page. Of each row only the bytes beyond USUAL_BYTES count, so a page of 100 rows, the default
# limit, fits into the 4 MiB that gRPC clients receive by default; a longer page may not.
MOST_PAGE_BYTES = 3 * 1024 * 1024
# A row up to this size never ends a page: the console requests ten thousand nodes at once and reads no second page.
USUAL_BYTES = 8 * 1024
# The maximum size of a long page, every byte counted. Ten thousand nodes, as the console requests them, have some
# 10 MiB; flytekit receives 20 MB at most.
MOST_LONG_PAGE_BYTES = 32 * 1024 * 1024
# A page of so many usual rows has 1 MiB, so with MOST_PAGE_BYTES it is no larger than LARGE_RESPONSE_BYTES.
_MOST_SHORT_ROWS = 128
# Each may take three times its bytes.
_LONG_PAGES = FairSemaphore(4, 2)
# A row's bytes without its strings and messages: field headers, numbers, identifiers.
_ROW_BYTES = 64

Item = TypeVar("Item")


class Page(list[Item], Generic[Item]):
    """The rows of a page in order. `more`: the page ended early for its size, and the list has more rows."""

    def __init__(self, rows: Iterable[Item] = (), *, more: bool = False) -> None:
        super().__init__(rows)
        self.more = more


def connection_for_page(db: Database, query: ListQuery) -> AbstractAsyncContextManager[Connection]:
    """Return a block with a connection that reads a page of a list; before a long one it may have to wait.

    Raises:
        ResourceExhausted: As `Database.read` does, or the page is long and the client does not read its responses.
    """
    return db.read(listing=True) if query.limit <= _MOST_SHORT_ROWS else connection_for_long_page(db)


@asynccontextmanager
async def connection_for_long_page(db: Database) -> AsyncIterator[Connection]:
    """Yield a connection that reads as much as a long page has."""
    # The slot comes first: calls that wait for it use no connection to the database.
    async with slot_for_response(_LONG_PAGES), db.read(listing=True) as connection:
        yield connection


@dataclass(frozen=True)
class RowPage:
    """A page of a list: `columns` of the rows of `table` that `restrict` leaves, in the order of `query`."""

    table: Table
    columns: Sequence[ColumnElement[Any]]
    query: ListQuery
    restrict: Callable[[Select[Any]], Select[Any]]
    """Adds joins and conditions to a statement. The result's text depends only on `cache_key`, the shape of `query` and
    the names of `values`."""
    cache_key: Hashable
    """The part of the statement cache's key that is specific to this list."""
    values: Mapping[str, Any]
    """The parameters that `restrict` adds and `query` has not."""
    extra_bytes: ColumnElement[Any] | None = None
    """Bytes that the reply has for a row from other tables."""

    async def read(self, connection: Connection) -> Page[tuple[Any, ...]]:
        """Return the columns of the page's rows: as many as fit, and at least one."""
        text = await STATEMENT_CACHE.text_of(
            (self.table.name, self.cache_key, self.query.shape, tuple(self.values), self._is_long),
            self._page,
            len(self.query.conditions),
        )
        values = {**self.values, **self.query.values, "most_bytes": MOST_PAGE_BYTES}
        if self._is_long:
            values["most_total"] = max(min(MOST_LONG_PAGE_BYTES, UNREAD_RESPONSES.left), LARGE_RESPONSE_BYTES)
        rows = await fetch_text(connection, text, values)
        return Page((row[:-1] for row in rows), more=bool(rows) and rows[-1][-1])

    @property
    def _is_long(self) -> bool:
        return self.query.limit > _MOST_SHORT_ROWS

    def _page(self) -> Select[Any]:
        # The ids of the page come from an index alone: rows that the offset skips are not read from the table.
        row_id = self.table.c.id
        ids = paged(self.restrict(select(row_id))).order_by(*self.query.order_by)
        page = ids.subquery("page")
        order = [*self.query.order_by]
        # All window functions have the same window, so that PostgreSQL sorts once.
        # PostgreSQL returns lengths without reading long values, so values that do not fit are never read.
        size = self._bytes()
        beyond = func.greatest(size - literal_column(str(USUAL_BYTES)), literal_column("0"))
        total = [func.sum(size).over(order_by=order, rows=(None, 0)).label("total")] if self._is_long else []
        rows = select(
            *(column.label(f"column_{at}") for at, column in enumerate(self.columns)),
            *total,
            func.sum(beyond).over(order_by=order, rows=(None, 0)).label("bytes"),
            func.row_number().over(order_by=order, rows=(None, 0)).label("number"),
            func.lead(self.table.c.id).over(order_by=order, rows=(None, 0)).is_not(None).label("more"),
        )
        sized = rows.join(page, page.c.id == row_id).subquery("sized")
        columns = (sized.c[f"column_{at}"] for at in range(len(self.columns)))
        fits = sized.c.bytes <= bindparam("most_bytes", type_=BigInteger)
        if self._is_long:
            fits = and_(fits, sized.c.total <= bindparam("most_total", type_=BigInteger))
        fits = or_(fits, sized.c.number == literal_column("1"))
        return select(*columns, sized.c.more).where(fits).order_by(sized.c.number)

    def _bytes(self) -> ColumnElement[Any]:
        """Return an estimate of a row's bytes in the reply."""
        long = [column for column in self.columns if isinstance(column.type, LargeBinary | String)]
        lengths: list[ColumnElement[Any]] = [
            func.coalesce(func.octet_length(column), literal_column("0")) for column in long
        ]
        if self.extra_bytes is not None:
            lengths.append(self.extra_bytes)
        return sum(lengths, start=literal_column(str(_ROW_BYTES), BigInteger))
