"""What the benchmark of the registry says of its lists."""

import math

from flyteidl.admin.task_pb2 import Task, TaskList

from bench.registry_calls import list_calls
from bench.repeated import DEEP_PAGE, PAGE, Listed, table
from bench.stack import PLACE

SIZES = (1_000, 50_000, 200_000)
CALL = next(call for call in list_calls(PLACE) if call.method == "ListTasks" and call.paged)


def listed(*first_pages: float, deep: float | None = None) -> Listed:
    one = Listed(CALL)
    for size, median in zip(SIZES, first_pages, strict=True):
        one.medians[1, size], one.rows[1, size] = median, 100
    if deep is not None:
        one.medians[DEEP_PAGE, SIZES[-1]] = deep
    return one


def test_growth_and_depth_are_multiples_of_the_first_page() -> None:
    one = listed(0.002, 0.002, 0.003, deep=0.006)
    assert math.isclose(one.growth(SIZES), 1.5)
    assert math.isclose(one.depth(SIZES), 2.0)


def test_a_list_that_grows_too_much_is_said_to() -> None:
    assert "| 1.50 |" in table([listed(0.002, 0.002, 0.003)], SIZES)[-1]
    assert "| **1.55, too much** |" in table([listed(0.002, 0.002, 0.0031)], SIZES)[-1]


def test_a_call_that_fails_is_reported_with_its_answer() -> None:
    one = Listed(CALL, failure="code 12: not implemented")
    assert "**failed**: code 12: not implemented" in table([one], SIZES)[-1]


def test_every_line_of_the_table_has_as_many_cells_as_its_head() -> None:
    lines = table([listed(1, 1, 1), listed(1, 1, 1, deep=1), Listed(CALL, failure="x")], SIZES)
    assert len({line.count("|") for line in lines}) == 1


def test_a_page_is_asked_for_by_its_offset_and_its_rows_are_counted() -> None:
    request = type(CALL.request).FromString(CALL.page(DEEP_PAGE))
    assert int(request.token) == (DEEP_PAGE - 1) * PAGE  # type: ignore[attr-defined]
    assert CALL.rows(TaskList(tasks=[Task(), Task()], token="2").SerializeToString()) == 2
