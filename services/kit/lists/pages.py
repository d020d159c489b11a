"""Pages of lists: read by indexes, and ended early where rows are large.

Of the rows that an offset skips only index entries are read: some 10 ms for 100,000 of them.

A page with the usual limit of 100 rows fits into a response that clients receive (lists.md#large-rows). Rows are as
large as clients have stored them: no client could read a hundred of 4 MiB each, and memory would run out.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
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
)

from services.kit.db.database import Connection, fetch_text
from services.kit.lists.query import ListQuery
from services.kit.lists.statements import STATEMENT_CACHE, paged

# The maximum size of a page. Of each row only the bytes beyond USUAL_BYTES count, so a page of 100 rows, the default
# limit, fits into the 4 MiB that gRPC clients receive by default; a longer page may not.
MOST_PAGE_BYTES = 3 * 1024 * 1024
# A row up to this size never ends a page: the console requests ten thousand nodes at once and reads no second page.
USUAL_BYTES = 8 * 1024
# A row's bytes without its strings and messages: field headers, numbers, identifiers.
_ROW_BYTES = 64

Item = TypeVar("Item")


class Page(list[Item], Generic[Item]):
    """The rows of a page in order. `more`: the page ended early for its size, and the list has more rows."""

    def __init__(self, rows: Iterable[Item] = (), *, more: bool = False) -> None:
        super().__init__(rows)
        self.more = more


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
            (self.table.name, self.cache_key, self.query.shape, tuple(self.values)),
            self._page,
            len(self.query.conditions),
        )
        values = {**self.values, **self.query.values, "most_bytes": MOST_PAGE_BYTES}
        rows = await fetch_text(connection, text, values)
        return Page((row[:-1] for row in rows), more=bool(rows) and rows[-1][-1])

    def _page(self) -> Select[Any]:
        # The ids of the page come from an index alone: rows that the offset skips are not read from the table.
        row_id = self.table.c.id
        ids = paged(self.restrict(select(row_id))).order_by(*self.query.order_by)
        page = ids.subquery("page")
        order = [*self.query.order_by]
        # All three window functions have the same window, so that PostgreSQL sorts once.
        # PostgreSQL returns lengths without reading long values, so values that do not fit are never read.
        rows = select(
            *(column.label(f"column_{at}") for at, column in enumerate(self.columns)),
            func.sum(self._bytes()).over(order_by=order, rows=(None, 0)).label("bytes"),
            func.row_number().over(order_by=order, rows=(None, 0)).label("number"),
            func.lead(self.table.c.id).over(order_by=order, rows=(None, 0)).is_not(None).label("more"),
        )
        sized = rows.join(page, page.c.id == row_id).subquery("sized")
        columns = (sized.c[f"column_{at}"] for at in range(len(self.columns)))
        fits = or_(sized.c.bytes <= bindparam("most_bytes", type_=BigInteger), sized.c.number == literal_column("1"))
        return select(*columns, sized.c.more).where(fits).order_by(sized.c.number)

    def _bytes(self) -> ColumnElement[Any]:
        """Return an estimate of a row's bytes in the reply beyond the usual size."""
        long = [column for column in self.columns if isinstance(column.type, LargeBinary | String)]
        lengths: list[ColumnElement[Any]] = [
            func.coalesce(func.octet_length(column), literal_column("0")) for column in long
        ]
        if self.extra_bytes is not None:
            lengths.append(self.extra_bytes)
        bytes_of_row: ColumnElement[Any] = sum(lengths, start=literal_column(str(_ROW_BYTES), BigInteger))
        return func.greatest(bytes_of_row - literal_column(str(USUAL_BYTES)), literal_column("0"))
