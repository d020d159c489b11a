"""Compilation of a task (compiler.md#tasks)."""

from contextlib import suppress

import pytest
from flyteidl.core.tasks_pb2 import Container, Resources, TaskTemplate
from flyteidl.core.types_pb2 import SimpleType
from google.protobuf.json_format import ParseDict
from hypothesis import given
from hypothesis import strategies as st

from services.registry.compiler import CompilationFailed, compile_task
from services.registry.compiler.pods import MAX_BYTES
from tests.unit.registry.compiler.drawing import INTEGER, identifier, interface

NAMES = ["containers", "name", "env", "resources", "limits", "volumes", "nodeSelector", "priority", "ports"]


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
    "pod with much": pod(
        {
            "nodeSelector": {"zone": "a"},
            "tolerations": [{"key": "k", "operator": "Exists", "tolerationSeconds": 30}],
            "securityContext": {"runAsUser": 1000, "fsGroup": 1},
            "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [
                {
                    "name": "a",
                    "env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"fieldRef": {}}}],
                    "ports": [{"containerPort": 80}],
                    "volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": True}],
                }
            ],
        }
    ),
    "pod with a field of the future": pod({"containers": [], "someThing": 1}),
}

# For each kind of field a value that Kubernetes' decoder refuses.
UNDECODABLE: dict[str, dict[str, object]] = {
    "a number for a text": {"hostname": 1},
    "a text for a number": {"priority": "1"},
    "half a number": {"priority": 0.5},
    "a text for a switch": {"hostNetwork": "true"},
    "a text for an object": {"affinity": "x"},
    "a list for an object": {"nodeSelector": []},
    "a number in a map of texts": {"nodeSelector": {"zone": 1}},
    "an object for a list": {"volumes": {}},
    "a number for the value of a variable": {"containers": [{"name": "a", "env": [{"name": "A", "value": 1}]}]},
    "a text for a port": {"containers": [{"name": "a", "ports": [{"containerPort": "80"}]}]},
    "a text for a user": {"containers": [{"name": "a", "securityContext": {"runAsUser": "root"}}]},
    "an object for an amount": {"overhead": {"cpu": {}}},
    "a text for a mount": {"initContainers": [{"name": "a", "volumeMounts": ["/v"]}]},
    "a text for seconds": {"tolerations": [{"tolerationSeconds": "1"}]},
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
    "larger than any cluster takes": (
        pod({"containers": [], "x": "x" * MAX_BYTES}),
        "InvalidValue",
        "root",
        "k8s pod spec",
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
def test_valid_task_is_compiled_unchanged(task: TaskTemplate) -> None:
    assert compile_task(task).template == task


@pytest.mark.parametrize(("task", "code", "node_id", "value"), WRONG.values(), ids=WRONG)
def test_wrong_task_is_reported_with_the_reason(task: TaskTemplate, code: str, node_id: str, value: str) -> None:
    with pytest.raises(CompilationFailed) as failed:
        compile_task(task)
    assert [(error.code, error.node_id) for error in failed.value.errors] == [(code, node_id)]
    assert f"[{value}]." in str(failed.value)


@pytest.mark.parametrize("pod_spec", UNDECODABLE.values(), ids=UNDECODABLE)
def test_pod_that_kubernetes_cannot_decode_is_an_error(pod_spec: dict[str, object]) -> None:
    with pytest.raises(CompilationFailed, match=r"Error 0: Code: InvalidValue, Node Id: root, .*\[k8s pod spec\]"):
        compile_task(pod(pod_spec))


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(NAMES), JSON, max_size=4))
def test_pod_spec_of_any_structure_is_valid_or_refused(pod_spec: dict[str, object]) -> None:
    task = pod(pod_spec)
    with suppress(CompilationFailed):
        assert compile_task(task).template == task


def test_all_errors_are_reported_together_in_order() -> None:
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
def test_type_nested_deeper_than_clients_can_parse_is_an_error(depth: int) -> None:
    task = TaskTemplate(id=identifier("t"))
    inner = task.interface.inputs.variables["x"].type
    for _ in range(depth):
        inner = inner.collection_type
    inner.simple = SimpleType.INTEGER
    with pytest.raises(CompilationFailed, match="nested too deeply"):
        compile_task(task)
