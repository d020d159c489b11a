"""Resources compared with those that flyteadmin's builder makes of the same workflows (engine.md#golden-files)."""

import json
from pathlib import Path

import pytest
from flyteidl.core.compiler_pb2 import CompiledWorkflowClosure
from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier
from google.protobuf.json_format import Parse

from services.executions.rules.flyteworkflow import build_resource
from tests.support.default_inputs import default_inputs

DATA = Path(__file__).parents[4].parent / "shared/data/compiler"

pytestmark = pytest.mark.skipif(not DATA.exists(), reason="the conformance data is not there")

RESOURCES = sorted((DATA / "resource").glob("*_wf_crd.json"))
EXECUTION = WorkflowExecutionIdentifier(project="hello", domain="domain", name="name")


@pytest.mark.parametrize("golden", RESOURCES, ids=lambda path: path.name.removesuffix("_2_wf_crd.json"))
def test_resource_is_built_as_in_flyteadmin(golden: Path) -> None:
    compiled = DATA / "compiled" / golden.name.replace("_crd.json", ".json")
    closure = Parse(compiled.read_text(), CompiledWorkflowClosure())
    before = closure.SerializeToString(deterministic=True)
    inputs = default_inputs(closure.primary.template.interface)
    assert build_resource(closure, inputs, EXECUTION, "namespace") == json.loads(golden.read_text())
    assert closure.SerializeToString(deterministic=True) == before
