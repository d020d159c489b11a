"""Echo tasks: the input is the output, and no process runs."""

import pytest
from flyteidl.core.tasks_pb2 import TaskTemplate

from deploy.sandbox.engine.tasks.echo import ECHO, echoed
from tests.support.entities import INTEGER, Types, interface, literals


def template(inputs: Types, outputs: Types) -> TaskTemplate:
    return TaskTemplate(type=ECHO, interface=interface(inputs, outputs))


def test_input_becomes_the_output() -> None:
    result = echoed(template({"radius": INTEGER}, {"o0": INTEGER}), literals(radius=5))
    assert result.outputs == literals(o0=5)
    assert result.error is None


def test_task_without_variables_has_no_outputs() -> None:
    assert echoed(template({}, {}), literals()).outputs == literals()


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [({"a": INTEGER}, {}), ({"a": INTEGER, "b": INTEGER}, {"o0": INTEGER, "o1": INTEGER})],
)
def test_other_variables_are_errors_of_the_user(inputs: Types, outputs: Types) -> None:
    result = echoed(template(inputs, outputs), literals(a=1, b=2))
    assert result.error is not None
    assert result.error.code == "BadTaskSpecification"
    assert not result.recoverable
