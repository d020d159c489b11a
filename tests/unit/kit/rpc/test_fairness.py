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
    shares = FairBudget(64)
    held = dict.fromkeys(peers, 0)
    while True:
        before = dict(held)
        for peer in peers:
            held[peer] += shares.take(peer, 1)
        if before == held:
            break
    assert all(abs(got - expected) <= 1 for got, expected in zip(sorted(held.values()), each, strict=True))
    assert shares.take("z", 64 - sum(held.values()))


def test_what_is_given_back_can_be_taken_again() -> None:
    shares = FairBudget(64)
    for _ in range(100):
        assert shares.take("a", 32)
        assert not shares.take("a", 1)
        shares.give("a", 32)


async def test_peers_that_wait_take_turns_whoever_asked_first() -> None:
    turns, order = FairSemaphore(1), list[str]()
    await turns.take("busy", SOON)

    async def call(peer: str) -> None:
        await turns.take(peer, SOON)
        order.append(peer)
        turns.give(peer)

    async with asyncio.TaskGroup() as calls:
        for peer in "aaaabbc":
            calls.create_task(call(peer))
        await asyncio.sleep(0)
        turns.give("busy")
    assert "".join(order) == "abcabaa"


async def test_a_peer_at_its_bound_leaves_places_free() -> None:
    turns = FairSemaphore(4, 2)
    for peer in "aab":
        await turns.take(peer, SOON)
    with pytest.raises(TimeoutError):
        await turns.take("a", 0.01)
    await turns.take("b", SOON)
    turns.give("a")
    await turns.take("a", SOON)


async def test_a_caller_that_gives_up_takes_no_place_with_it() -> None:
    turns = FairSemaphore(1)
    await turns.take("a", SOON)
    waiting = [asyncio.create_task(turns.take("b", SOON)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    turns.give("a")  # its turn has come, but it will not see it
    waiting[1].cancel()  # it was given the place at the same moment
    await asyncio.gather(*waiting[:2], return_exceptions=True)
    await waiting[2]
    turns.give("b")
    await turns.take("c", SOON)


async def test_a_peer_with_much_unread_waits_until_it_has_read() -> None:
    unread = UnreadResponses(10)
    unread.grow("a", 25)
    assert unread.too_many("a")
    assert not unread.too_many("b")
    with pytest.raises(TimeoutError):
        await unread.fewer("a", 0.01)
    waiting = [asyncio.create_task(unread.fewer("a", SOON)) for _ in range(3)]
    await asyncio.sleep(0)
    unread.grow("a", -10)
    assert unread.too_many("a")
    unread.grow("a", -10)
    await asyncio.gather(*waiting)
    assert not unread.too_many("a")
