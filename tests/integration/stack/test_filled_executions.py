"""The history that the benchmark of executions makes is read like executions that were launched and played."""

from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from google.protobuf import json_format

from bench.executions import play_models
from bench.executions_calls import list_calls
from bench.fill_executions import NODES, fill, filled_name
from bench.repeated import PAGE
from bench.stack import SCOPE
from tests.support.sandbox import Sandbox

EXECUTIONS = 120


async def test_filled_executions_are_read_by_every_call_of_the_benchmark(
    sandbox: Sandbox, admin: AdminServiceStub
) -> None:
    await play_models(sandbox.port)
    fill(sandbox.folder, EXECUTIONS - 40)
    fill(sandbox.folder, EXECUTIONS)
    for call in list_calls(SCOPE):
        response = await getattr(admin, call.method)(call.request)
        rows = call.rows(response.SerializeToString())
        assert rows > 0, call
        if call.method == "ListNodeExecutions":
            assert rows in {PAGE, NODES}
        if call.method == "GetExecutionData":
            assert json_format.MessageToDict(response.full_outputs) == {
                "literals": {"o0": {"scalar": {"primitive": {"integer": "1"}}}}
            }
    newest = next(call for call in list_calls(SCOPE) if call.what == "newest first")
    listed = (await admin.ListExecutions(newest.request)).executions
    filled = [execution.id.name for execution in listed if execution.id.name.startswith("h0")]
    # Every tenth is archived.
    wanted = [filled_name(number) for number in range(EXECUTIONS) if number % 10]
    assert filled == wanted[: len(filled)]
    assert len(filled) > EXECUTIONS // 3
