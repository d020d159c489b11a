"""The compiler compared with the output of flyteadmin's for the same requests (compiler.md#conformance-recipe)."""

from pathlib import Path

import pytest
from flyteidl.admin.task_pb2 import TaskSpec
from flyteidl.admin.workflow_pb2 import WorkflowSpec
from flyteidl.core.compiler_pb2 import CompiledTask, CompiledWorkflowClosure
from flyteidl.core.workflow_pb2 import Node
from google.protobuf.json_format import Parse

from services.registry.compiler import compile_task, compile_workflow, requirements
from services.registry.compiler.requirements import every_node

DATA = Path(__file__).parents[4].parent / "shared/data/compiler"

pytestmark = pytest.mark.skipif(not DATA.exists(), reason="the conformance data is not there")

TASK_FILES = sorted((DATA / "requests").glob("*_1.pb"))
WORKFLOW_FILES = sorted((DATA / "requests").glob("*_2.pb"))


def compiled_task(path: Path) -> CompiledTask:
    template = TaskSpec.FromString(path.read_bytes()).template
    if template.HasField("container"):
        # The recipe of flyteadmin's own test.
        for i in (1, 2, 3):
            template.container.config.add(key=f"testKey{i}", value=f"testValue{i}")
    return compile_task(template)


@pytest.fixture(scope="module")
def tasks() -> list[CompiledTask]:
    return [compiled_task(path) for path in TASK_FILES]


@pytest.mark.parametrize("path", TASK_FILES, ids=lambda path: path.stem)
def test_task_compiles_as_in_flyteadmin(path: Path) -> None:
    golden = (DATA / "compiled" / f"{path.stem}_task.json").read_text()
    assert compiled_task(path) == Parse(golden, CompiledTask())


@pytest.mark.parametrize("path", WORKFLOW_FILES, ids=lambda path: path.stem)
def test_workflow_compiles_as_in_flyteadmin(path: Path, tasks: list[CompiledTask]) -> None:
    spec = WorkflowSpec.FromString(path.read_bytes())
    needed = requirements(spec.template, spec.sub_workflows)
    by_id = {task.template.id.SerializeToString(): task for task in tasks}
    closure = compile_workflow(
        spec.template, spec.sub_workflows, [by_id[task.SerializeToString()] for task in needed.tasks], []
    )
    golden = DATA / "compiled" / f"{path.stem}_wf.json"
    if golden.exists():
        assert closure == Parse(golden.read_text(), CompiledWorkflowClosure())
    else:
        assert spec.sub_workflows, "only workflows with sub-workflows come without an expected closure"
    for workflow in (closure.primary, *closure.sub_workflows):
        ids = {node.id for node in every_node(workflow.template)}
        connected = {*workflow.connections.upstream, *workflow.connections.downstream}
        assert connected <= ids
        assert {node.id for node in every_node(workflow.template) if takes_promises(node)} <= connected


def takes_promises(node: Node) -> bool:
    return any(binding.binding.HasField("promise") for binding in node.inputs)
