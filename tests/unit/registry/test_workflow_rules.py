"""Checks of workflows before they are compiled."""

from collections.abc import Callable

import pytest
from flyteidl.admin.workflow_pb2 import WorkflowSpec
from flyteidl.core.workflow_pb2 import WorkflowTemplate

from services.kit.errors import InvalidArgument
from services.registry.rules.workflows import MAX_ENTRIES, check_spec


def tags(template: WorkflowTemplate, entries: int) -> None:
    template.metadata.tags.update({str(number): "" for number in range(entries)})


def inputs(template: WorkflowTemplate, entries: int) -> None:
    for number in range(entries):
        template.interface.inputs.variables[str(number)].SetInParent()


@pytest.mark.parametrize("fill", [tags, inputs])
def test_a_workflow_has_no_more_entries_than_it_may(fill: Callable[[WorkflowTemplate, int], None]) -> None:
    spec = WorkflowSpec()
    spec.template.SetInParent()
    fill(spec.sub_workflows.add(), MAX_ENTRIES - 2)
    check_spec(spec)
    fill(spec.template, 1)
    with pytest.raises(InvalidArgument, match="interfaces and tags of the workflow cannot exceed 25000 entries"):
        check_spec(spec)
