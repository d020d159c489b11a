"""Compiling a task (compiler.md 2)."""

import pytest
from flyteidl.core.tasks_pb2 import Container, Resources, TaskTemplate
from flyteidl.core.types_pb2 import SimpleType
from google.protobuf.json_format import ParseDict

from services.registry.rules.compiler import CompilationFailed, compile_task
from tests.unit.compiler.drawing import INTEGER, identifier, interface


def template(**fields: object) -> TaskTemplate:
    return ParseDict({"id": {"name": "t"}, **fields}, TaskTemplate())


def container(**fields: object) -> TaskTemplate:
    return template(container={"image": "i", **fields})


def pod(pod_spec: dict[str, object]) -> TaskTemplate:
    return template(k8sPod={"podSpec": pod_spec})


def with_input(task: TaskTemplate) -> TaskTemplate:
    task.interface.CopyFrom(interface({"x": INTEGER}))
    return task


RIGHT = {
    "container": container(),
    "container with inputs and a command": with_input(container(command=["run"])),
    "container with inputs and arguments": with_input(container(args=["run"])),
    "container with resources": container(resources={"limits": [{"name": "CPU", "value": "500m"}]}),
    "sql": template(sql={"statement": "select 1"}),
    "no target": template(),
    "pod without a spec": template(k8sPod={}),
    "pod": pod({"containers": [{"name": "primary", "resources": {"limits": {"cpu": 1, "memory": "1Gi"}}}]}),
    "pod with nulls": pod({"containers": [{"name": "a", "env": None, "resources": None}], "volumes": None}),
    "pod with a field of the future": pod({"containers": [], "someThing": 1}),
}

WRONG = {
    "no id": (TaskTemplate(), "ValueRequired", "root", "Id"),
    "no command": (with_input(container()), "ValueRequired", "container", "command"),
    "no image": (template(container={}), "ValueRequired", "container", "image"),
    "bad request": (
        container(resources={"requests": [{"name": "CPU", "value": "much"}]}),
        "UnrecognizedValue",
        "resources.CPU",
        "much",
    ),
    "bad limit": (
        container(resources={"limits": [{"name": "MEMORY", "value": ""}]}),
        "UnrecognizedValue",
        "resources.MEMORY",
        "",
    ),
    "containers are no list": (pod({"containers": "x"}), "InvalidValue", "root", "k8s pod spec"),
    "a container is no object": (pod({"containers": ["x"]}), "InvalidValue", "root", "k8s pod spec"),
    "a name is a number": (pod({"containers": [{"name": 1}]}), "InvalidValue", "root", "k8s pod spec"),
    "a list of texts has a number": (
        pod({"containers": [{"name": "a", "args": [1]}]}),
        "InvalidValue",
        "root",
        "k8s pod spec",
    ),
    "pod resources are no quantity": (
        pod({"initContainers": [{"name": "a", "resources": {"limits": {"cpu": "much"}}}]}),
        "InvalidValue",
        "root",
        "k8s pod spec",
    ),
    "upper case": (pod({"containers": [{"name": "A"}]}), "InvalidValue", "root", "k8s pod spec container name"),
    "no name": (pod({"containers": [{}]}), "InvalidValue", "root", "k8s pod spec container name"),
    "long name": (pod({"containers": [{"name": "a" * 64}]}), "InvalidValue", "root", "k8s pod spec container name"),
}


@pytest.mark.parametrize("task", RIGHT.values(), ids=RIGHT)
def test_a_right_task_is_kept_as_it_is(task: TaskTemplate) -> None:
    assert compile_task(task).template == task


@pytest.mark.parametrize(("task", "code", "node_id", "value"), WRONG.values(), ids=WRONG)
def test_a_wrong_task_is_told_why(task: TaskTemplate, code: str, node_id: str, value: str) -> None:
    with pytest.raises(CompilationFailed) as failed:
        compile_task(task)
    assert [(error.code, error.node_id) for error in failed.value.errors] == [(code, node_id)]
    assert f"[{value}]." in str(failed.value)


def test_all_that_is_wrong_is_told_at_once_and_in_order() -> None:
    task = with_input(TaskTemplate(container=Container()))
    task.container.resources.requests.add(name=Resources.GPU, value="x")
    with pytest.raises(CompilationFailed) as failed:
        compile_task(task)
    assert str(failed.value) == (
        "Collected Errors: 4\n"
        "\tError 0: Code: UnrecognizedValue, Node Id: resources.GPU, Description: Unrecognized value [x].\n"
        "\tError 1: Code: ValueRequired, Node Id: container, Description: Value required [command].\n"
        "\tError 2: Code: ValueRequired, Node Id: container, Description: Value required [image].\n"
        "\tError 3: Code: ValueRequired, Node Id: root, Description: Value required [Id].\n"
    )


@pytest.mark.parametrize("depth", [200, 2000])
def test_a_type_that_no_client_could_read_back_is_refused(depth: int) -> None:
    task = TaskTemplate(id=identifier("t"))
    inner = task.interface.inputs.variables["x"].type
    for _ in range(depth):
        inner = inner.collection_type
    inner.simple = SimpleType.INTEGER
    with pytest.raises(CompilationFailed, match="nested too deeply"):
        compile_task(task)
