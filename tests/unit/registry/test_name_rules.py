"""Checks of requests for names, descriptions and lists of both.

See registry.md#named-entities, registry.md#description-entities and lists.md#name-lists.
"""

from collections.abc import Callable
from functools import partial

import pytest
from flyteidl.admin.common_pb2 import NamedEntityIdentifier, NamedEntityMetadata, NamedEntityState
from flyteidl.core.identifier_pb2 import ResourceType

from services.kit.errors import InvalidArgument
from services.registry.rules.descriptions import check_filterable
from services.registry.rules.lists import check_project_or_domain_given
from services.registry.rules.names import (
    DEFAULT_FILTERS,
    MAX_DESCRIPTION_CHARACTERS,
    check_has_metadata,
    check_listed,
    check_metadata,
    check_name,
)

UNSPECIFIED, TASK, WORKFLOW = ResourceType.UNSPECIFIED, ResourceType.TASK, ResourceType.WORKFLOW
LAUNCH_PLAN, DATASET = ResourceType.LAUNCH_PLAN, ResourceType.DATASET
FROM_A_NEWER_CLIENT: ResourceType = 77  # type: ignore[assignment]  # protobuf lets numbers without a name through
ARCHIVED, GENERATED = NamedEntityState.NAMED_ENTITY_ARCHIVED, NamedEntityState.SYSTEM_GENERATED

Check = Callable[[], None]


def named(project: str = "p", domain: str = "d", name: str = "n") -> NamedEntityIdentifier:
    return NamedEntityIdentifier(project=project, domain=domain, name=name)


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (partial(check_name, UNSPECIFIED, None), "invalid value for resource_type"),
        (partial(check_name, TASK, None), "missing id"),
        (partial(check_name, TASK, NamedEntityIdentifier()), "missing project"),
        (partial(check_name, TASK, named(domain="", name="")), "missing domain"),
        (partial(check_name, TASK, named(name="")), "missing name"),
        (partial(check_has_metadata, DATASET), "Cannot get NamedEntityMetadata for resource type: DATASET"),
        (partial(check_has_metadata, FROM_A_NEWER_CLIENT), "Cannot get NamedEntityMetadata for resource type: 77"),
        (partial(check_listed, DATASET), "Cannot list entity names for resource type: DATASET"),
        (partial(check_metadata, DATASET, None), "missing metadata"),
        (
            partial(check_metadata, DATASET, NamedEntityMetadata(state=ARCHIVED)),
            "Resource [DATASET] cannot have its state updated",
        ),
        (partial(check_metadata, TASK, NamedEntityMetadata(state=77)), "invalid value for state"),  # type: ignore[arg-type]  # as above
        (
            partial(check_metadata, TASK, NamedEntityMetadata(description="x" * 301)),
            "description cannot exceed 300 characters",
        ),
        (partial(check_filterable, UNSPECIFIED), "unsupported entity ''"),
        (partial(check_filterable, DATASET), "unsupported entity ''"),
        (partial(check_project_or_domain_given, "", ""), "missing and/or invalid parameters: filters"),
    ],
)
def test_first_error_is_reported(check: Check, message: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check()
    assert refused.value.message == message


@pytest.mark.parametrize(
    "check",
    [
        partial(check_name, DATASET, named()),
        partial(check_has_metadata, TASK),
        partial(check_listed, LAUNCH_PLAN),
        partial(check_metadata, DATASET, NamedEntityMetadata()),
        partial(check_metadata, WORKFLOW, NamedEntityMetadata(state=ARCHIVED)),
        # Clients may set it, too.
        partial(check_metadata, LAUNCH_PLAN, NamedEntityMetadata(state=GENERATED)),
        # Characters count, not bytes.
        partial(check_metadata, TASK, NamedEntityMetadata(description="ü" * MAX_DESCRIPTION_CHARACTERS)),
        partial(check_filterable, WORKFLOW),
        partial(check_project_or_domain_given, "p", ""),
        partial(check_project_or_domain_given, "", "d"),
    ],
)
def test_valid_requests_are_allowed(check: Check) -> None:
    check()


def test_list_without_filters_leaves_generated_names_out() -> None:
    assert DEFAULT_FILTERS == "not_like(name,.flytegen%)"
