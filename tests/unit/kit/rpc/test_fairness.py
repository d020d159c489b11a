"""Budgets, queues and limits shared by client connections."""

import asyncio
from collections.abc import Sequence

import pytest

from services.kit.rpc.fairness import FairBudget, FairSemaphore, UnreadResponses

SOON = 5.0


@pytest.mark.parametrize(
    ("connections", "each"),
    [("a", [32]), ("ab", [21, 21]), ("abc", [16, 16, 16]), ("abcdefg", [8] * 7)],
)
def test_connections_share_equally_and_leave_a_share_for_another(connections: str, each: Sequence[int]) -> None:
    budget = FairBudget(64)
    held = dict.fromkeys(connections, 0)
    while True:
        before = dict(held)
        for connection in connections:
            held[connection] += budget.acquire(connection, 1)
        if before == held:
            break
    assert all(abs(got - expected) <= 1 for got, expected in zip(sorted(held.values()), each, strict=True))
    assert budget.acquire("z", 64 - sum(held.values()))


def test_released_budget_can_be_acquired_again() -> None:
    budget = FairBudget(64)
    for _ in range(100):
        assert budget.acquire("a", 32)
        assert not budget.acquire("a", 1)
        budget.release("a", 32)


async def test_waiting_connections_take_turns() -> None:
    semaphore, order = FairSemaphore(1), list[str]()
    await semaphore.acquire("busy", SOON)

    async def call(connection: str) -> None:
        await semaphore.acquire(connection, SOON)
        order.append(connection)
        semaphore.release(connection)

    async with asyncio.TaskGroup() as calls:
        for connection in "aaaabbc":
            calls.create_task(call(connection))
        await asyncio.sleep(0)
        semaphore.release("busy")
    assert "".join(order) == "abcabaa"


async def test_a_connection_at_its_limit_leaves_slots_free() -> None:
    semaphore = FairSemaphore(4, 2)
    for connection in "aab":
        await semaphore.acquire(connection, SOON)
    with pytest.raises(TimeoutError):
        await semaphore.acquire("a", 0.01)
    await semaphore.acquire("b", SOON)
    semaphore.release("a")
    await semaphore.acquire("a", SOON)


async def test_a_caller_of_many_slots_has_its_turn_before_later_ones() -> None:
    semaphore, order = FairSemaphore(10, 8), list[str]()
    await semaphore.acquire("busy", SOON, 6)

    async def call(connection: str, size: int) -> None:
        await semaphore.acquire(connection, SOON, size)
        order.append(connection)

    waiting = [asyncio.create_task(call(connection, size)) for connection, size in [("many", 8), ("few", 1)]]
    for _ in range(3):
        await asyncio.sleep(0)
    assert not order
    semaphore.release("busy", 6)
    await asyncio.gather(*waiting)
    assert order == ["many", "few"]


async def test_slots_that_are_released_at_once_serve_all_who_wait() -> None:
    semaphore = FairSemaphore(4)
    await semaphore.acquire("busy", SOON, 4)
    waiting = [asyncio.create_task(semaphore.acquire("a", SOON)) for _ in range(4)]
    await asyncio.sleep(0)
    semaphore.release("busy", 4)
    await asyncio.gather(*waiting)


async def test_a_caller_of_many_slots_that_gives_up_holds_up_no_other() -> None:
    semaphore = FairSemaphore(4)
    await semaphore.acquire("busy", SOON, 2)
    many = asyncio.create_task(semaphore.acquire("many", 0.01, 4))
    await asyncio.sleep(0)
    few = asyncio.create_task(semaphore.acquire("few", SOON, 2))
    with pytest.raises(TimeoutError):
        await many
    await few


async def test_a_cancelled_caller_releases_its_slot() -> None:
    semaphore = FairSemaphore(1)
    await semaphore.acquire("a", SOON)
    waiting = [asyncio.create_task(semaphore.acquire("b", SOON)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    semaphore.release("a")  # grants the slot to a cancelled caller
    waiting[1].cancel()  # cancelled at the moment of its grant
    await asyncio.gather(*waiting[:2], return_exceptions=True)
    await waiting[2]
    semaphore.release("b")
    await semaphore.acquire("c", SOON)


async def test_a_connection_with_too_much_unread_waits_until_it_has_read() -> None:
    unread = UnreadResponses(10, 100)
    unread.add("a", 25)
    assert unread.exceeded("a")
    assert not unread.exceeded("b")
    with pytest.raises(TimeoutError):
        await unread.wait("a", 0.01)
    waiting = [asyncio.create_task(unread.wait("a", SOON)) for _ in range(3)]
    await asyncio.sleep(0)
    unread.add("a", -10)
    assert unread.exceeded("a")
    unread.add("a", -10)
    await asyncio.gather(*waiting)
    assert not unread.exceeded("a")


async def test_connections_together_leave_no_more_unread_than_the_total() -> None:
    unread = UnreadResponses(10, 30)
    for connection in "abcd":
        unread.add(connection, 8)
    assert all(unread.exceeded(connection) for connection in "abcd")
    assert not unread.exceeded("reads")
    waiting = asyncio.create_task(unread.wait("a", SOON))
    await asyncio.sleep(0)
    unread.add("b", -8)
    assert unread.exceeded("a")
    unread.add("c", -8)
    await waiting
    assert not unread.exceeded("a")


async def test_calls_under_way_count_as_unread_where_memory_is_short() -> None:
    mebibyte = 1024 * 1024
    unread = UnreadResponses(16 * mebibyte, 20 * mebibyte)
    assert not unread.exceeded("new", under_way=5)
    assert unread.exceeded("new", under_way=6)
    unread.add("a", 14 * mebibyte)
    assert not unread.exceeded("new", under_way=1)
    assert unread.exceeded("new", under_way=2)
    unread.add("b", 8 * mebibyte)
    assert not unread.exceeded("new")
    assert unread.exceeded("new", under_way=1)
    waiting = asyncio.create_task(unread.wait("new", SOON))
    await asyncio.sleep(0)
    unread.call_ended("other")
    unread.call_ended("new")
    await waiting
