"""Resource requests and limits of a task (registry.md#task-resource-limits)."""

import pytest
from flyteidl.admin.matchable_resource_pb2 import TaskResourceSpec
from flyteidl.core.identifier_pb2 import Identifier
from flyteidl.core.tasks_pb2 import Resources

from services.kit.errors import InvalidArgument
from services.registry.rules.resources import Entry, ResourceLimits, check_resources, limits_of

CPU, GPU, MEMORY, DISK = Resources.CPU, Resources.GPU, Resources.MEMORY, Resources.EPHEMERAL_STORAGE
TASK = Identifier(project="p", domain="d", name="n", version="v")
PLATFORM = ResourceLimits({CPU: "2", MEMORY: "1Gi", GPU: "1", DISK: "0"})


@pytest.mark.parametrize(
    ("requests", "limits"),
    [
        ([], []),
        ([Entry(CPU, "2")], [Entry(CPU, "2000m")]),
        ([Entry(GPU, "1")], [Entry(GPU, "1")]),
        ([Entry(DISK, "900Gi")], []),  # a limit of zero is no limit
        ([Entry(Resources.STORAGE, "x"), Entry(Resources.STORAGE, "y"), Entry(Resources.UNKNOWN, "z")], []),
        ([], [Entry(MEMORY, "1Gi")]),
    ],
)
def test_requests_that_fit_are_allowed(requests: list[Entry], limits: list[Entry]) -> None:
    check_resources(TASK, requests, limits, PLATFORM)


@pytest.mark.parametrize(
    ("requests", "limits", "text"),
    [
        ([Entry(CPU, "1"), Entry(CPU, "1")], [], "can't specify CPU limit for task [project:"),
        ([], [Entry(CPU, "1"), Entry(CPU, "1")], "can't specify CPU limit for task [project:"),
        ([Entry(MEMORY, "lots")], [], "Parsing of MEMORY request failed for value lots - reason"),
        ([Entry(CPU, "-1")], [], "Parsing of CPU request failed for value -1 - reason must be greater than or equal"),
        ([], [Entry(MEMORY, "-1Gi")], "Parsing of MEMORY request failed for value -1Gi - reason"),
        ([Entry(GPU, "0.5")], [], "must be a whole number, got: 0.5 instead"),
        (
            [Entry(CPU, "1900m")],
            [Entry(CPU, "1100m")],
            "Requested CPU default [1900m] is greater than the limit [1100m]",
        ),
        (
            [Entry(CPU, "1")],
            [Entry(CPU, "2100m")],
            "Requested CPU limit [2100m] is greater than current limit set in the platform configuration [2]",
        ),
        (
            [],
            [Entry(MEMORY, "2Gi")],
            "Requested MEMORY limit [2Gi] is greater than current limit set in the platform configuration [1Gi]",
        ),
        (
            [Entry(MEMORY, "1025Mi")],
            [],
            "Requested MEMORY default [1025Mi] is greater than current limit set in the platform configuration [1Gi]",
        ),
        ([Entry(GPU, "1")], [Entry(GPU, "2")], "For extended resource 'gpu' the default value must equal the limit"),
        ([Entry(GPU, "2")], [], "Requested GPU default [2] is greater than current limit set in the platform"),
    ],
)
def test_requests_that_do_not_fit_are_refused(requests: list[Entry], limits: list[Entry], text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_resources(TASK, requests, limits, PLATFORM)
    assert text in caught.value.message


def test_limits_of_attributes_replace_all_of_the_platforms() -> None:
    limits = limits_of(TaskResourceSpec(cpu="3", ephemeral_storage="0", storage="1"), PLATFORM)
    assert limits.of(CPU) == Entry(CPU, "3")
    assert [limits.of(resource) for resource in (MEMORY, GPU, DISK, Resources.STORAGE)] == [None] * 4


def test_stored_limit_that_cannot_be_parsed_leaves_the_platforms_limit() -> None:
    limits = limits_of(TaskResourceSpec(cpu="many", memory="m", gpu="-1", ephemeral_storage="x"), PLATFORM)
    assert [limits.of(resource) for resource in (CPU, MEMORY, GPU)] == [
        PLATFORM.of(resource) for resource in (CPU, MEMORY, GPU)
    ]
    assert limits.of(DISK) is None
