"""Attempts share cores and memory in the order in which they ask."""

import asyncio
from contextlib import AsyncExitStack
from fractions import Fraction

from flyteidl.core.tasks_pb2 import Resources, TaskMetadata, TaskTemplate

from deploy.sandbox.engine.tasks.attempts import share_of
from deploy.sandbox.engine.tasks.budget import Budget, Share
from deploy.sandbox.engine.tasks.containers import TaskContainer


def share(cores: float, memory: int = 0) -> Share:
    return Share(Fraction(cores), Fraction(memory))


class Holder:
    """Takes a share until it is released."""

    def __init__(self, budget: Budget, wanted: Share) -> None:
        self.has = False
        self.release = asyncio.Event()
        self.task = asyncio.create_task(self._hold(budget, wanted))

    async def _hold(self, budget: Budget, wanted: Share) -> None:
        async with budget.taken(wanted):
            self.has = True
            await self.release.wait()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_shares_are_granted_while_they_fit() -> None:
    budget = Budget(share(2, 100))
    holders = [Holder(budget, share(1, 40)) for _ in range(3)]
    await settle()
    assert [holder.has for holder in holders] == [True, True, False]
    holders[0].release.set()
    await settle()
    assert holders[2].has
    for holder in holders:
        holder.release.set()
    await asyncio.gather(*(holder.task for holder in holders))


async def test_memory_is_bounded_as_cores_are() -> None:
    budget = Budget(share(8, 100))
    first, second = Holder(budget, share(1, 60)), Holder(budget, share(1, 60))
    await settle()
    assert (first.has, second.has) == (True, False)
    for holder in (first, second):
        holder.release.set()
    await asyncio.gather(first.task, second.task)


async def test_large_share_is_not_overtaken_by_small_ones() -> None:
    budget = Budget(share(2))
    small = Holder(budget, share(1))
    large, late = Holder(budget, share(2)), Holder(budget, share(1))
    await settle()
    assert (small.has, large.has, late.has) == (True, False, False)
    small.release.set()
    await settle()
    assert (large.has, late.has) == (True, False)
    for holder in (large, late):
        holder.release.set()
    await asyncio.gather(small.task, large.task, late.task)


async def test_share_above_the_total_runs_alone() -> None:
    budget = Budget(share(2))
    huge, small = Holder(budget, share(64)), Holder(budget, share(1))
    await settle()
    assert (huge.has, small.has) == (True, False)
    huge.release.set()
    await settle()
    assert small.has
    small.release.set()
    await asyncio.gather(huge.task, small.task)


async def test_cancelled_wait_leaves_its_place_and_keeps_nothing() -> None:
    budget = Budget(share(1))
    first, cancelled, last = (Holder(budget, share(1)) for _ in range(3))
    await settle()
    cancelled.task.cancel()
    await settle()
    assert budget.waiting == 1
    first.release.set()
    await settle()
    assert last.has
    last.release.set()
    await asyncio.gather(first.task, last.task)
    async with budget.taken(share(1)):
        assert budget.waiting == 0


def test_share_of_a_task_is_what_it_requests() -> None:
    resources = Resources(
        requests=[
            Resources.ResourceEntry(name=Resources.CPU, value="500m"),
            Resources.ResourceEntry(name=Resources.MEMORY, value="1Ki"),
            Resources.ResourceEntry(name=Resources.GPU, value="1"),
        ]
    )
    assert Share.of(resources) == Share(Fraction(1, 2), Fraction(1024))
    unreadable = Resources(requests=[Resources.ResourceEntry(name=Resources.CPU, value="many")])
    assert Share.of(unreadable) == share(0)


def test_eager_task_takes_nothing_as_it_waits_for_executions_that_need_cores() -> None:
    entries = [Resources.ResourceEntry(name=Resources.CPU, value="2")]
    container = TaskContainer(["true"], "image", resources=Resources(requests=entries))
    assert share_of(TaskTemplate(), container) == share(2)
    assert share_of(TaskTemplate(metadata=TaskMetadata(is_eager=True)), container) == share(0)


async def test_reason_says_what_is_missing_and_who_has_it() -> None:
    budget = Budget(share(2, 4 << 20))
    async with AsyncExitStack() as stack:
        assert budget.first_reason() == ""
        await stack.enter_async_context(budget.taken(share(1.5, 1 << 20), holder="e1/n0"))
        assert budget.reason(share(1)) == "waiting for 1 of 2 cores, taken by e1/n0"
        assert budget.reason(share(0, 9 << 20)) == "waiting for 4 of 4 MiB of memory, taken by e1/n0"
        for number in range(4):
            await stack.enter_async_context(budget.taken(share(0.125), holder=f"e{number + 2}/n0"))
        assert budget.reason(share(1)).endswith("taken by e1/n0, e2/n0, e3/n0 and 2 more")
        waiting = Holder(budget, share(2))
        await settle()
        assert budget.first_reason().startswith("waiting for 2 of 2 cores, taken by e1/n0")
        assert budget.reason(share(0)) == "waiting for tasks that asked before"
    waiting.release.set()
    await waiting.task
    assert budget.first_reason() == ""
