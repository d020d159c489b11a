"""The number of parts of a message, which stands for what it costs to write as JSON."""

import pytest
from flyteidl.admin.task_execution_pb2 import TaskExecutionClosure
from flyteidl.core.literals_pb2 import Literal, LiteralMap
from flyteidl.core.tasks_pb2 import Container
from google.protobuf.message import Message

from services.kit.protobuf.json_parts import count_json_parts

MANY = 10**9


@pytest.mark.parametrize(
    ("one", "more"),
    [
        (Container(env=[{}]), Container(env=[{}] * 1000)),
        (Container(args=[""]), Container(args=[""] * 1000)),
        (Literal(collection={"literals": [{}]}), Literal(collection={"literals": [{}] * 1000})),
        (LiteralMap(literals={"": Literal()}), LiteralMap(literals={str(n): Literal() for n in range(1000)})),
        (Literal(metadata={"": ""}), Literal(metadata={str(n): "" for n in range(1000)})),
    ],
)
def test_every_item_counts_however_small(one: Message, more: Message) -> None:
    assert count_json_parts(more, MANY) - count_json_parts(one, MANY) >= 999


def test_what_is_inside_of_messages_counts() -> None:
    closure = TaskExecutionClosure()
    empty = count_json_parts(closure, MANY)
    closure.custom_info.update({"a": {"b": [1] * 1000}})
    assert count_json_parts(closure, MANY) > empty + 1000


def test_bytes_of_a_text_do_not_count() -> None:
    assert count_json_parts(Container(image="i" * 1000), MANY) == count_json_parts(Container(), MANY)


def test_counting_ends_soon_after_the_limit() -> None:
    inner = Literal(collection={"literals": [{}] * 1000})
    nested = Literal(collection={"literals": [inner] * 1000})
    assert count_json_parts(nested, MANY) > 1_000_000
    assert 1000 < count_json_parts(nested, 1000) < 3000
