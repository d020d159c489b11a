"""Compilation of a task (compiler.md#tasks).

The types of its interface are not checked here but when a workflow uses the task.
"""

import re

from flyteidl.admin.task_pb2 import Task, TaskClosure, TaskList
from flyteidl.core.compiler_pb2 import CompiledTask
from flyteidl.core.tasks_pb2 import Container, Resources, TaskTemplate
from google.protobuf.message import DecodeError

from services.contracts.quantities import parse_quantity
from services.kit.protobuf.wire import message_field
from services.registry.compiler.errors import ROOT, Code, Errors
from services.registry.compiler.pods import NotAPodSpec, container_names

_CONTAINER = "container"
_MAX_CONTAINER_NAME = 63
_CONTAINER_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", re.ASCII)


def compile_task(template: TaskTemplate) -> CompiledTask:
    """Return the compiled form of `template`, which contains it unchanged; raise CompilationFailed."""
    errors = Errors()
    compiled = _reparsed(template, errors)
    if not template.HasField("id"):
        errors.value_required(ROOT, "Id")
    target = template.WhichOneof("target")
    if target == "container":
        _check_container(template, errors)
    elif target == "k8s_pod":
        _check_pod(template, errors)
    errors.raise_any()
    return compiled


def _reparsed(template: TaskTemplate, errors: Errors) -> CompiledTask:
    """Parse the template as part of a TaskList, the deepest response that contains it, and return the compiled task.

    A request that came by an RPC is not too deep for that, as its method has checked it. The template is not copied in
    addition: CopyFrom would take another fifth of a second for a map of 150,000 entries.
    """
    response = message_field(CompiledTask.TEMPLATE_FIELD_NUMBER, template.SerializeToString())
    for number in (TaskClosure.COMPILED_TASK_FIELD_NUMBER, Task.CLOSURE_FIELD_NUMBER, TaskList.TASKS_FIELD_NUMBER):
        response = message_field(number, response)
    try:
        tasks = TaskList.FromString(response).tasks
    except DecodeError:
        errors.invalid_value(ROOT, "template: nested too deeply")
        errors.raise_any()
    return tasks[0].closure.compiled_task


def _check_container(template: TaskTemplate, errors: Errors) -> None:
    container = template.container
    variables = len(template.interface.inputs.variables) + len(template.interface.outputs.variables)
    # A container gets its inputs and outputs by its command line.
    if variables and not container.command and not container.args:
        errors.value_required(_CONTAINER, "command")
    if not container.image:
        errors.value_required(_CONTAINER, "image")
    _check_quantities(container, errors)


def _check_quantities(container: Container, errors: Errors) -> None:
    for entry in (*container.resources.requests, *container.resources.limits):
        try:
            parse_quantity(entry.value)
        except ValueError:
            known = Resources.ResourceName.DESCRIPTOR.values_by_number.get(entry.name)
            name = known.name if known else str(entry.name)
            errors.add(Code.UNRECOGNIZED_VALUE, f"resources.{name}", f"Unrecognized value [{entry.value}].")


def _check_pod(template: TaskTemplate, errors: Errors) -> None:
    try:
        names = container_names(template.k8s_pod.pod_spec)
    except NotAPodSpec:
        errors.invalid_value(ROOT, "k8s pod spec")
        return
    for name in names:
        if len(name) > _MAX_CONTAINER_NAME or not _CONTAINER_NAME.fullmatch(name):
            errors.invalid_value(ROOT, "k8s pod spec container name")
