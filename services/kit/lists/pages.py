"""Read a page of a list of rows by indexes, no larger than clients receive.

The rows that an offset skips are index entries only: some 10 ms for 100,000 of them.

A page ends early where its rows would not fit into what clients receive. Rows are as large as clients have stored them:
no client could read a hundred rows of 4 MiB each, and the service would run out of memory.
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
from services.kit.lists.statements import TEXTS, paged

# Of the rows of a page together, as far as they are larger than usual. By default gRPC clients receive 4 MiB; the rest
# is for what counts as usual of the hundred rows that a page has without a limit.
MOST_BYTES = 3 * 1024 * 1024
# Up to this a row is as clients expect it, and they get as many as they ask for: the console asks for ten thousand
# nodes at once and reads no second page.
USUAL_BYTES = 8 * 1024
# Of a row without its texts and messages: heads of fields, numbers, identifiers.
_ROW_BYTES = 64

Item = TypeVar("Item")


class Page(list[Item], Generic[Item]):
    """The rows of a page in their order; `cut` where the list goes on although there are fewer than were asked for."""

    def __init__(self, rows: Iterable[Item] = (), *, cut: bool = False) -> None:
        super().__init__(rows)
        self.cut = cut


@dataclass(frozen=True)
class RowPage:
    """A page of `columns` of those rows of `table` to which `chosen` restricts a statement."""

    table: Table
    columns: Sequence[ColumnElement[Any]]
    plan: ListQuery
    chosen: Callable[[Select[Any]], Select[Any]]
    """The text of its result depends on `about`, the shape of `plan` and the keys of `values` only."""
    about: Hashable
    values: Mapping[str, Any]
    """The parameters of `chosen` that are not those of `plan`."""
    extra_bytes: ColumnElement[Any] | None = None
    """How many bytes of other tables the reply has for a row."""

    async def read(self, connection: Connection) -> Page[tuple[Any, ...]]:
        """Return the columns of the page's rows, as many as fit; the first one always does."""
        text = TEXTS.of((self.table.name, self.about, self.plan.shape, tuple(self.values)), self._page)
        values = {**self.values, **self.plan.values, "most_bytes": MOST_BYTES}
        rows = await fetch_text(connection, text, values)
        return Page((row[:-1] for row in rows), cut=bool(rows) and rows[-1][-1])

    def _page(self) -> Select[Any]:
        # An index alone gives the ids of the page: rows that the offset skips are not read from the table.
        number = self.table.c.id
        ids = paged(self.chosen(select(number))).order_by(*self.plan.order_by)
        page = ids.subquery("page")
        order = [*self.plan.order_by]
        # Lengths are known without reading what is long, and what does not fit is never read.
        rows = select(
            *(column.label(f"column_{at}") for at, column in enumerate(self.columns)),
            func.sum(self._bytes()).over(order_by=order, rows=(None, 0)).label("bytes"),
            func.row_number().over(order_by=order, rows=(None, 0)).label("number"),
            func.lead(self.table.c.id).over(order_by=order, rows=(None, 0)).is_not(None).label("more"),
        )
        sized = rows.join(page, page.c.id == number).subquery("sized")
        wanted = (sized.c[f"column_{at}"] for at in range(len(self.columns)))
        fits = or_(sized.c.bytes <= bindparam("most_bytes", type_=BigInteger), sized.c.number == literal_column("1"))
        return select(*wanted, sized.c.more).where(fits).order_by(sized.c.number)

    def _bytes(self) -> ColumnElement[Any]:
        """Return about how many bytes more than usual a row takes of an answer."""
        long = [column for column in self.columns if isinstance(column.type, LargeBinary | String)]
        lengths: list[ColumnElement[Any]] = [
            func.coalesce(func.octet_length(column), literal_column("0")) for column in long
        ]
        if self.extra_bytes is not None:
            lengths.append(self.extra_bytes)
        bytes_of_row: ColumnElement[Any] = sum(lengths, start=literal_column(str(_ROW_BYTES), BigInteger))
        return func.greatest(bytes_of_row - literal_column(str(USUAL_BYTES)), literal_column("0"))
