"""List queries: filters, sort keys and tokens (lists.md#filter-values, lists.md#sort, lists.md#token)."""

import threading
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import BigInteger, Column, DateTime, Integer, LargeBinary, MetaData, Select, String, Table, select

from services.kit.errors import InvalidArgument
from services.kit.lists import query as listing
from services.kit.lists.query import Entity, Listing, ListQuery, ValueType
from services.kit.lists.statements import StatementCache, compiled

tasks = Table(
    "tasks",
    MetaData(),
    Column("id", BigInteger, primary_key=True),
    Column("name", String),
    Column("version", String),
    Column("type", String),
    Column("state", Integer),
    Column("duration", BigInteger),
    Column("created_at", DateTime(timezone=True)),
    Column("closure", LargeBinary),
)
workflows = Table("workflows", MetaData(), Column("name", String))

LISTING = Listing(
    "task",
    Entity(
        "t",
        {
            "id": listing.Column(tasks.c.id, ValueType.INTEGER),
            "name": listing.Column(tasks.c.name),
            "version": listing.Column(tasks.c.version),
            "type": listing.Column(tasks.c.type),
            "state": listing.Column(tasks.c.state, ValueType.INTEGER, {"ACTIVE": 0, "ARCHIVED": 1}),
            "duration": listing.Column(tasks.c.duration, ValueType.DURATION),
            "created_at": listing.Column(tasks.c.created_at, ValueType.TIMESTAMP),
            "closure": listing.Column(tasks.c.closure, ValueType.BYTES),
        },
    ),
    tie_break=tasks.c.id,
    joined={
        "workflow": Entity("w", {"name": listing.Column(workflows.c.name)}),
        "execution_tag": Entity("et", {"key": listing.Column(workflows.c.name)}, by_subquery=True),
    },
)


def make_query(
    filters: str = "", token: str = "", sort: str | None = None, direction: int = 0, limit: int = 10
) -> ListQuery:
    return LISTING.query(
        name="ListTasks", limit=limit, token=token, filters=filters, sort_key=sort, sort_direction=direction
    )


def parameters(filters: str) -> list[object]:
    return list(compiled(select(tasks.c.id).where(*make_query(filters).where))[1].values())


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ("nonsense", "invalid value for filters"),
        ("eq(name,a)+", "invalid value for filters"),
        ("+eq(name,a)", "invalid value for filters"),
        ("eq(name,)", "invalid value for filters"),
        ("eq(,a)", "invalid value for filters"),
        ("eq(project.name, 123)", "'p' entity is not allowed in filters"),
        ("eq(foo, 123)", "'t.foo' is invalid filter"),
        ("eq(workflow.foo, 123)", "'w.foo' is invalid filter"),
        ("eq(unknown.name, 1)", "'t.unknown.name' is invalid filter"),
        ("eq(name,a,b)", "'t.name,a' is invalid filter"),
        ("invalid_function(type,bar)", "unrecognized filter function: invalid_function"),
        ("EQ(type,bar)", "unrecognized filter function: EQ"),
        ("eq(name,a;b)", "invalid single value filter expression: eq(name,a;b)"),
        ("contains(name,a;b)", "invalid single value filter expression: contains(name,a;b)"),
        ("eq(duration,soon)", "Failed to parse duration [soon]"),
        ("gt(created_at,yesterday)", "Timestamp yesterday must conform to RFC3339 Nano spec"),
        ("eq(state,many)", "'many' is not a value of state"),
        ("eq(state,99999999999999999999999999)", "'99999999999999999999999999' is not a value of state"),
        ("eq(state,2147483648)", "'2147483648' is not a value of state"),
        ("eq(name,a\0b)", "a value of name cannot hold a NUL character"),
        ("contains(name,\0)", "a value of name cannot hold a NUL character"),
        ("not_like(name,a\\\\\\)", "'a\\\\\\' is not a pattern for name: it ends with an escape character"),
        ("eq(closure,x)", "'t.closure' cannot be compared in filters"),
    ],
)
def test_a_bad_filter_is_refused_with_its_message(filters: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        make_query(filters)
    assert raised.value.message == message


TOO_LONG_PATTERNS = "invalid value for filters: more than 1000 characters in patterns"
TOO_MANY_SUBQUERIES = "invalid value for filters: more than 20 expressions on tags or states of names"


@pytest.mark.parametrize(
    ("expression", "most", "message"),
    [
        (f"not_like(name,{'é' * 1000})", 1, TOO_LONG_PATTERNS),
        (f"contains(name,{'é' * 10})", 100, TOO_LONG_PATTERNS),
        ("contains(created_at,20)", 500, None),
        ("eq(name,a)", 500, None),
        ("eq(execution_tag.key,a)", 20, TOO_MANY_SUBQUERIES),
    ],
)
def test_the_conditions_of_a_filter_are_limited_by_their_sum(expression: str, most: int, message: str | None) -> None:
    assert len(make_query("+".join([expression] * most)).conditions) == most
    if message is not None:
        with pytest.raises(InvalidArgument) as raised:
            make_query("+".join([expression] * (most + 1)))
        assert raised.value.message == message


@pytest.mark.parametrize(
    ("filters", "values"),
    [
        ("eq(name, a)", ["a"]),
        ("eq(name,  a)", [" a"]),
        ("eq(name,a(b))", ["a(b)"]),
        ("eq(task.name,a)", ["a"]),
        ("value_in(type, 4;5;6)", [["4", "5", "6"]]),
        ("value_in(type,4)", [["4"]]),
        ("contains(name,50%)", ["%50%%"]),
        ("not_like(name,.flytegen%)", [".flytegen%"]),
        ("eq(state,1)", [1]),
        ("eq(state,ARCHIVED)", [1]),
        ("gt(state,-2147483647)", [-2147483647]),
        ("gt(id,9223372036854775807)", [2**63 - 1]),
        ("eq(duration,3600.5)", [3600500000000]),
        ("eq(duration,3600.5s)", [3600500000000]),
        ("gt(duration,1h5m)", [3900000000000]),
        ("gte(created_at,2024-01-01)", [datetime(2024, 1, 1, tzinfo=UTC)]),
        ("gte(created_at,2024-01-01T02:00:00+02:00)", [datetime(2024, 1, 1, tzinfo=UTC)]),
        ("lt(created_at,2024-01-01 00:00:00+00:00)+eq(version,v1+2)", [datetime(2024, 1, 1, tzinfo=UTC), "v1+2"]),
        ("eq(state,+1)", [1]),
        ("gte(created_at,2024-01-01T10:00:00.123456789Z)", [datetime(2024, 1, 1, 10, 0, 0, 123456, tzinfo=UTC)]),
        ("eq(name,a)+ne(version,b)", ["a", "b"]),
        ("eq(name,a) trailing text is ignored", ["a"]),
    ],
)
def test_a_filter_compares_with_its_values(filters: str, values: list[object]) -> None:
    assert parameters(filters) == values


@pytest.mark.parametrize(
    ("first_query", "second_query"),
    [
        ("value_in(type,4)", "value_in(type,4;5;6)"),
        ("value_not_in(state,1;2)", "value_not_in(state,3)"),
        ("eq(name,a)+contains(version,b)", "eq(name,c)+contains(version,%_d)"),
        ("gte(created_at,2024-01-01)", "gte(created_at,2025-01-01T10:00:00Z)"),
        ("not_like(workflow.name,a%)", "not_like(workflow.name,)b)"),
    ],
)
def test_queries_of_one_shape_differ_only_in_values(first_query: str, second_query: str) -> None:
    first, second = make_query(first_query), make_query(second_query)
    assert first.shape == second.shape
    texts = {compiled(select(tasks.c.id).where(*query.where).order_by(*query.order_by))[0] for query in (first, second)}
    assert len(texts) == 1
    assert first.values != second.values


@pytest.mark.parametrize(
    ("first_query", "second_query"),
    [
        (make_query("eq(name,a)"), make_query("ne(name,a)")),
        (make_query("eq(name,a)"), make_query("eq(version,a)")),
        (make_query("eq(name,a)"), make_query("eq(workflow.name,a)")),
        (make_query("eq(name,a)"), make_query("eq(name,a)+eq(name,a)")),
        (make_query(sort="name"), make_query(sort="name", direction=1)),
        (make_query(sort="name"), make_query()),
    ],
)
def test_queries_with_different_statements_have_different_shapes(
    first_query: ListQuery, second_query: ListQuery
) -> None:
    assert first_query.shape != second_query.shape


async def test_statement_cache_composes_once_per_shape() -> None:
    texts, composed = StatementCache(), list[str]()

    def compose(name: str) -> Select[Any]:
        composed.append(name)
        return select(tasks.c[name])

    for name in ("name", "type", "name"):
        text = await texts.text_of(name, partial(compose, name), 1)
        assert text == compiled(select(tasks.c[name]))[0]
    assert composed == ["name", "type"]


async def test_statement_of_many_conditions_is_composed_in_a_thread_and_not_kept() -> None:
    texts, threads = StatementCache(), list[threading.Thread]()

    def compose() -> Select[Any]:
        threads.append(threading.current_thread())
        return select(tasks.c.name)

    for _ in range(2):
        assert await texts.text_of("many", compose, 499) == compiled(select(tasks.c.name))[0]
    assert len(threads) == 2
    assert threading.current_thread() not in threads


def test_a_query_has_the_entities_and_fields_of_its_filters() -> None:
    query = make_query("eq(workflow.name,w)+eq(state,1)")
    assert query.entities == {"workflow"}
    assert query.filtered_fields == {"name", "state"}


def test_a_list_without_limit_has_a_hundred_entries() -> None:
    query = make_query(limit=0)
    assert query.limit == 100
    assert query.next_token(100) == "100"


def test_a_higher_limit_than_the_most_rows_is_that() -> None:
    query = make_query(limit=2**32 - 1)
    assert query.limit == query.values["limit"] == 50_000
    assert query.next_token(50_000) == "50000"


@pytest.mark.parametrize("token", ["x", "-1", "1.5", " ", "9" * 5000, "١"])
def test_a_token_that_is_no_offset_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument, match=r"invalid pagination token .* for ListTasks"):
        make_query(token=token)


@pytest.mark.parametrize(("token", "offset"), [("", 0), ("0", 0), ("5", 5), ("+5", 5)])
def test_a_token_is_an_offset(token: str, offset: int) -> None:
    assert make_query(token=token).offset == offset


def test_only_a_full_page_has_a_token() -> None:
    query = make_query(token="20", limit=10)
    assert query.next_token(10) == "30"
    assert query.next_token(9) == ""


@pytest.mark.parametrize("key", ["", "nothing", "workflow.name"])
def test_an_unknown_sort_key_is_refused(key: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        make_query(sort=key)
    assert raised.value.message == f"invalid sort key '{key}'"


def test_an_unknown_direction_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="invalid sort order specified: 7"):
        make_query(sort="name", direction=7)


@pytest.mark.parametrize(
    ("sort", "direction", "order"),
    [
        ("name", 0, ["tasks.name DESC", "tasks.id DESC"]),
        ("name", 1, ["tasks.name ASC", "tasks.id ASC"]),
        (None, 0, ["tasks.id ASC"]),
    ],
)
def test_every_order_ends_with_a_tie_break(sort: str | None, direction: int, order: list[str]) -> None:
    assert [str(clause) for clause in make_query(sort=sort, direction=direction).order_by] == order


@given(st.text())
def test_any_filter_text_gives_a_query_or_invalid_argument(filters: str) -> None:
    try:
        query = make_query(filters)
    except InvalidArgument:
        return
    compiled(select(tasks.c.id).where(*query.where))


FUNCTIONS = st.sampled_from(["eq", "ne", "gt", "gte", "lt", "lte", "contains", "not_like", "value_in", "value_not_in"])
FIELDS = st.sampled_from(["name", "state", "duration", "created_at", "workflow.name", "closure", "project.id", "id"])


@given(st.lists(st.tuples(FUNCTIONS, FIELDS, st.text(min_size=1)), min_size=1, max_size=4))
def test_any_value_in_a_well_formed_filter_gives_a_query_or_invalid_argument(parts: list[tuple[str, str, str]]) -> None:
    filters = "+".join(f"{function}({field},{value})" for function, field, value in parts)
    try:
        query = make_query(filters)
    except InvalidArgument:
        return
    compiled(select(tasks.c.id).where(*query.where))
