"""The report of the registry's benchmark about its lists."""

import math

from flyteidl.admin.task_pb2 import Task, TaskList

from bench.registry_calls import list_calls
from bench.repeated import DEEP_PAGE, PAGE, Measured, table
from bench.stack import SCOPE

SIZES = (1_000, 50_000, 200_000)
CALL = next(call for call in list_calls(SCOPE) if call.method == "ListTasks" and call.paged)


def measured_with(*first_pages: float, deep: float | None = None) -> Measured:
    measured = Measured(CALL)
    for size, median in zip(SIZES, first_pages, strict=True):
        measured.medians[1, size], measured.rows[1, size] = median, 100
    if deep is not None:
        measured.medians[DEEP_PAGE, SIZES[-1]] = deep
    return measured


def test_growth_and_depth_are_multiples_of_the_first_page() -> None:
    measured = measured_with(0.002, 0.002, 0.003, deep=0.006)
    assert math.isclose(measured.growth(SIZES), 1.5)
    assert math.isclose(measured.depth(SIZES), 2.0)


def test_list_that_becomes_too_slow_is_marked() -> None:
    assert "| 1.50 |" in table([measured_with(0.002, 0.002, 0.003)], SIZES)[-1]
    assert "| **1.55, too much** |" in table([measured_with(0.002, 0.002, 0.0031)], SIZES)[-1]


def test_call_that_fails_is_reported_with_its_response() -> None:
    measured = Measured(CALL, failure="code 12: not implemented")
    assert "**failed**: code 12: not implemented" in table([measured], SIZES)[-1]


def test_table_has_as_many_cells_in_every_line() -> None:
    lines = table([measured_with(1, 1, 1), measured_with(1, 1, 1, deep=1), Measured(CALL, failure="x")], SIZES)
    assert len({line.count("|") for line in lines}) == 1


def test_page_is_requested_by_its_offset_and_its_rows_are_counted() -> None:
    request = type(CALL.request).FromString(CALL.page(DEEP_PAGE))
    assert int(request.token) == (DEEP_PAGE - 1) * PAGE  # type: ignore[attr-defined]
    assert CALL.rows(TaskList(tasks=[Task(), Task()], token="2").SerializeToString()) == 2
