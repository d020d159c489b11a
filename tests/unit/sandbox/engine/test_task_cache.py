"""Entries of the cache are found by what counts, and reservations are held by one task at a time."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flyteidl.core.identifier_pb2 import Identifier, NodeExecutionIdentifier, TaskExecutionIdentifier
from flyteidl.core.interface_pb2 import TypedInterface, Variable, VariableMap
from flyteidl.core.literals_pb2 import Literal, LiteralCollection, LiteralMap, Primitive, Scalar
from flyteidl.core.types_pb2 import LiteralType, SimpleType

from deploy.sandbox.engine.cache import TaskCache, digest
from deploy.sandbox.engine.graph.interface import CacheKey
from services.kit.objects.store import ObjectStore


def number(n: int, **fields: Any) -> Literal:
    return Literal(scalar=Scalar(primitive=Primitive(integer=n)), **fields)


def key(**changed: Any) -> CacheKey:
    variables = VariableMap(variables={"n": Variable(type=LiteralType(simple=SimpleType.INTEGER), description="d")})
    values: dict[str, Any] = {
        "task": Identifier(project="p", domain="d", name="t", version="1"),
        "cache_version": "1.0",
        "interface": TypedInterface(inputs=variables),
        "inputs": LiteralMap(literals={"n": number(1)}),
    }
    return CacheKey(**(values | changed))


SOURCE = TaskExecutionIdentifier(node_execution_id=NodeExecutionIdentifier(node_id="n0"))
OUTPUTS = LiteralMap(literals={"o0": number(2)})


@pytest.fixture
def cache(tmp_path: Path) -> TaskCache:
    return TaskCache(ObjectStore.open((tmp_path / "objects").as_uri(), "", ""), tmp_path / "reservations")


@pytest.mark.parametrize(
    "same",
    [
        key(task=Identifier(project="p", domain="d", name="t", version="2")),
        key(inputs=LiteralMap(literals={"n": number(1, metadata={"a": "b"})})),
        key(
            interface=TypedInterface(
                inputs=VariableMap(variables={"n": Variable(type=LiteralType(simple=SimpleType.INTEGER))})
            )
        ),
    ],
)
def test_version_of_the_task_metadata_and_descriptions_do_not_count(same: CacheKey) -> None:
    assert digest(same) == digest(key())


@pytest.mark.parametrize(
    "other",
    [
        key(task=Identifier(project="p", domain="d", name="u", version="1")),
        key(cache_version="2.0"),
        key(interface=TypedInterface()),
        key(inputs=LiteralMap(literals={"n": number(2)})),
        key(inputs=LiteralMap(literals={"m": number(1)})),
        key(inputs=LiteralMap(literals={"n": Literal(collection=LiteralCollection(literals=[number(1)]))})),
    ],
)
def test_name_versions_interface_and_inputs_count(other: CacheKey) -> None:
    assert digest(other) != digest(key())


def test_hash_of_a_literal_counts_instead_of_its_value() -> None:
    def hashed(n: int, text: str) -> CacheKey:
        literals = LiteralCollection(literals=[number(n, hash=text)])
        return key(inputs=LiteralMap(literals={"n": Literal(collection=literals)}))

    assert digest(hashed(1, "x")) == digest(hashed(2, "x"))
    assert digest(hashed(1, "x")) != digest(hashed(1, "y"))


async def test_stored_outputs_are_found_with_their_source(cache: TaskCache) -> None:
    assert await cache.look_up(key()) is None
    stored = await cache.store(key(), OUTPUTS, SOURCE)
    hit = await cache.look_up(key())
    assert hit is not None
    assert (hit.outputs, hit.metadata) == (OUTPUTS, stored)
    assert stored.source_task_execution == SOURCE
    assert stored.dataset_id.name == "flyte_task-t"


async def test_reservation_is_held_until_the_outputs_are_there(cache: TaskCache) -> None:
    assert await cache.look_up_or_reserve(key(), "a") is None
    assert await cache.look_up_or_reserve(key(), "a") is None  # again after a restart
    waiting = asyncio.create_task(cache.look_up_or_reserve(key(), "b"))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await cache.store(key(), OUTPUTS, SOURCE)
    cache.release(key(), "a")
    hit = await waiting
    assert hit is not None
    assert hit.outputs == OUTPUTS


async def test_released_reservation_goes_to_the_next_task(cache: TaskCache) -> None:
    await cache.look_up_or_reserve(key(), "run/1/n0")
    other = replace(key(), cache_version="2.0")
    await cache.look_up_or_reserve(other, "other/n0")
    waiting = asyncio.create_task(cache.look_up_or_reserve(key(), "b"))
    cache.release(key(), "another")
    cache.release_all("run/1/")
    assert await waiting is None
    assert not (await asyncio.wait([asyncio.create_task(cache.look_up_or_reserve(other, "c"))], timeout=0.05))[0]
