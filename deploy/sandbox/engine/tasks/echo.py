"""Tasks of the type `echo` (flytekit's `Echo`): no process runs, the input is the output."""

from typing import Final

from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.core.tasks_pb2 import TaskTemplate

from deploy.sandbox.engine.tasks.results import Result, user_error

ECHO: Final = "echo"


def echoed(template: TaskTemplate, inputs: LiteralMap) -> Result:
    """Return the result of an echo task: one input variable, or none, becomes the output variable."""
    names = list(template.interface.inputs.variables)
    outputs = list(template.interface.outputs.variables)
    if len(names) != len(outputs):
        message = f"the number of input ({len(names)}) and output ({len(outputs)}) variables does not match"
        return user_error("BadTaskSpecification", message)
    if len(names) > 1:
        return user_error("BadTaskSpecification", "an echo task does not support more than one input variable")
    values = {output: inputs.literals[name] for name, output in zip(names, outputs, strict=True)}
    return Result(outputs=LiteralMap(literals=values))
