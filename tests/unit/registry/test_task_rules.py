"""Checks of tasks (registry.md#createtask-steps)."""

from collections.abc import Callable

import pytest
from flyteidl.admin.task_pb2 import TaskSpec
from flyteidl.core.identifier_pb2 import Identifier, ResourceType
from flyteidl.core.interface_pb2 import TypedInterface
from flyteidl.core.tasks_pb2 import Container, K8sPod, Resources, RuntimeMetadata, TaskMetadata, TaskTemplate
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct

from services.kit.errors import InvalidArgument
from services.registry.compiler.pods import MAX_CONTAINERS, MAX_VALUES
from services.registry.config import WhitelistScope
from services.registry.rules.resources import ResourceLimits
from services.registry.rules.tasks import MAX_CUSTOM_PARTS, MAX_ENTRIES, MAX_RESOURCES, check_task

TASK = Identifier(resource_type=ResourceType.TASK, project="p", domain="d", name="n", version="v")
PLATFORM = ResourceLimits({Resources.CPU: "2"})


def spec(change: Callable[[TaskTemplate], object] = lambda _: None) -> TaskSpec:
    template = TaskTemplate(
        type="python-task",
        metadata=TaskMetadata(runtime=RuntimeMetadata(version="1.0")),
        interface=TypedInterface(),
        container=Container(image="image"),
    )
    change(template)
    return TaskSpec(template=template)


def pod(containers: object) -> Callable[[TaskTemplate], object]:
    return lambda template: template.k8s_pod.CopyFrom(K8sPod(pod_spec=ParseDict({"containers": containers}, Struct())))


def requesting(**requests: object) -> list[dict[str, object]]:
    return [{"name": "main", "resources": {"requests": requests}}]


def requesting_often(template: TaskTemplate) -> None:
    template.container.resources.requests.extend([Resources.ResourceEntry()] * MAX_RESOURCES)
    template.container.resources.limits.add()


def with_config(entries: int) -> Callable[[TaskTemplate], object]:
    return lambda template: template.config.update({str(number): "" for number in range(entries)})


def with_custom(values: int) -> Callable[[TaskTemplate], object]:
    return lambda template: template.custom.update({"list": ["a" * 8] * values})


AMOUNTS = {f"vendor/{number}": "1" for number in range(MAX_VALUES // 5)}


@pytest.mark.parametrize(
    "good",
    [
        spec(),
        spec(lambda template: template.metadata.ClearField("runtime")),
        spec(with_config(MAX_ENTRIES)),
        spec(with_custom(MAX_CUSTOM_PARTS - 10)),
        spec(lambda template: template.ClearField("container")),
        spec(pod(requesting(cpu="2"))),
        spec(pod(requesting(cpu=2))),
        spec(pod(requesting(**{"nvidia.com/gpu": "40"}))),
        spec(pod([{"name": "main"}])),
        spec(pod([{"name": "main", "env": [{"name": "a", "value": "b"}] * 30, "args": ["x"] * 50}] * 100)),
        spec(pod(None)),
    ],
)
def test_complete_spec_is_valid(good: TaskSpec) -> None:
    check_task(TASK, good, {}, PLATFORM)


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (TaskSpec(), "missing spec"),
        (spec(lambda template: template.ClearField("type")), "missing type"),
        (spec(lambda template: setattr(template, "type", "x" * 256)), "size of type exceeded length 255"),
        (spec(lambda template: template.ClearField("metadata")), "missing metadata"),
        (spec(lambda template: template.metadata.runtime.ClearField("version")), "missing runtime version"),
        (spec(lambda template: template.ClearField("interface")), "missing typed interface"),
        (spec(lambda template: template.container.ClearField("image")), "missing image"),
        (spec(lambda template: template.k8s_pod.SetInParent()), "pod tasks should specify their target as a K8sPod"),
        (spec(pod("main")), "cannot be read as a Kubernetes PodSpec"),
        (spec(with_config(MAX_ENTRIES + 1)), "config of the task cannot exceed 10000 entries"),
        (
            spec(lambda template: template.container.args.extend([""] * (MAX_ENTRIES + 1))),
            "container.args of the task cannot exceed 10000 entries",
        ),
        (spec(with_custom(MAX_CUSTOM_PARTS)), "custom of the task has more than 100000 messages, entries and items"),
        (spec(requesting_often), "the container has 1001 resource requests and limits, it may have 1000"),
        (spec(pod([None] * (MAX_CONTAINERS + 1))), "has 1001 containers, it may have 1000"),
        (spec(pod([{"args": [""] * MAX_VALUES}])), "has too many values, it may have 20000"),
        (spec(pod([{"tolerations": []}, *requesting(**AMOUNTS)])), "has too many values, it may have 20000"),
        (spec(pod(requesting(cpu="3"))), "Requested CPU default [3] is greater than current limit"),
    ],
)
def test_incomplete_spec_is_refused(bad: TaskSpec, text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_task(TASK, bad, {}, PLATFORM)
    assert text in caught.value.message


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [
        ([], True),
        ([WhitelistScope()], True),
        ([WhitelistScope(project="p")], True),
        ([WhitelistScope(project="p", domain="d")], True),
        ([WhitelistScope(project="p", domain="other")], False),
        ([WhitelistScope(project="other")], False),
        ([WhitelistScope(project="other"), WhitelistScope(project="p")], True),
        ([WhitelistScope(domain="other")], True),  # a domain without a project restricts nothing
    ],
)
def test_whitelisted_type_is_allowed_in_its_scopes_only(scopes: list[WhitelistScope], *, allowed: bool) -> None:
    if allowed:
        check_task(TASK, spec(), {"python-task": scopes}, PLATFORM)
    else:
        with pytest.raises(InvalidArgument, match="task type must be whitelisted before use"):
            check_task(TASK, spec(), {"python-task": scopes}, PLATFORM)
