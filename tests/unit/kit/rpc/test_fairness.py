"""What connections may hold, and how they take turns."""

import asyncio
from collections.abc import Sequence

import pytest

from services.kit.rpc.fairness import FairBudget, FairSemaphore, UnreadResponses

SOON = 5.0


@pytest.mark.parametrize(
    ("peers", "each"),
    [("a", [32]), ("ab", [21, 21]), ("abc", [16, 16, 16]), ("abcdefg", [8] * 7)],
)
def test_peers_share_alike_and_leave_as_much_for_another(peers: str, each: Sequence[int]) -> None:
    budget = FairBudget(64)
    held = dict.fromkeys(peers, 0)
    while True:
        before = dict(held)
        for peer in peers:
            held[peer] += budget.acquire(peer, 1)
        if before == held:
            break
    assert all(abs(got - expected) <= 1 for got, expected in zip(sorted(held.values()), each, strict=True))
    assert budget.acquire("z", 64 - sum(held.values()))


def test_what_is_given_back_can_be_taken_again() -> None:
    budget = FairBudget(64)
    for _ in range(100):
        assert budget.acquire("a", 32)
        assert not budget.acquire("a", 1)
        budget.release("a", 32)


async def test_peers_that_wait_take_turns_whoever_asked_first() -> None:
    turns, order = FairSemaphore(1), list[str]()
    await turns.acquire("busy", SOON)

    async def call(peer: str) -> None:
        await turns.acquire(peer, SOON)
        order.append(peer)
        turns.release(peer)

    async with asyncio.TaskGroup() as calls:
        for peer in "aaaabbc":
            calls.create_task(call(peer))
        await asyncio.sleep(0)
        turns.release("busy")
    assert "".join(order) == "abcabaa"


async def test_a_peer_at_its_bound_leaves_places_free() -> None:
    turns = FairSemaphore(4, 2)
    for peer in "aab":
        await turns.acquire(peer, SOON)
    with pytest.raises(TimeoutError):
        await turns.acquire("a", 0.01)
    await turns.acquire("b", SOON)
    turns.release("a")
    await turns.acquire("a", SOON)


async def test_a_caller_that_gives_up_takes_no_place_with_it() -> None:
    turns = FairSemaphore(1)
    await turns.acquire("a", SOON)
    waiting = [asyncio.create_task(turns.acquire("b", SOON)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    turns.release("a")  # its turn has come, but it will not see it
    waiting[1].cancel()  # it was given the place at the same moment
    await asyncio.gather(*waiting[:2], return_exceptions=True)
    await waiting[2]
    turns.release("b")
    await turns.acquire("c", SOON)


async def test_a_peer_with_much_unread_waits_until_it_has_read() -> None:
    unread = UnreadResponses(10)
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
