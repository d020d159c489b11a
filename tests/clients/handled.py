"""A user's calls about executions, except waiting for them, by FlyteRemote; run with the clients' own environment.

`handled.py again NAME VERSION` launches an execution again in every way, and a single task and a workflow by names of
their own, and prints the names. `ended NAME CAUSE OTHER...` terminates one and prints its phase and cause, the outputs
of others, and the recent executions. `inside NAME` prints the content of an execution's flyte:// URLs, and its signals
before and after they are set. `files FOLDER` uploads a file of FOLDER and prints what downloads return. All as JSON;
a process of flytekit takes seconds to start, so each does much.
"""

import json
import sys
from pathlib import Path

import requests
from flytekit.configuration import Config
from flytekit.core.type_engine import LiteralsResolver
from flytekit.remote import FlyteRemote
from google.protobuf.json_format import MessageToDict

PROJECT, DOMAIN = "flytesnacks", "development"


def again(remote: FlyteRemote, name: str, version: str) -> dict[str, str]:
    """Launch an execution again, recover it, and launch a task and a workflow."""
    identifier = remote.fetch_execution(name=name).id
    task = remote.fetch_task(name="report.double", version=version)
    workflow = remote.fetch_workflow(name="report.report", version=version)
    return {
        "relaunched": remote.client.relaunch_execution(identifier).name,
        "named": remote.client.relaunch_execution(identifier, f"{name}-again").name,
        "recovered": remote.client.recover_execution(identifier).name,
        "task": remote.execute(task, inputs={"count": 4}, execution_name=f"{name}-task").id.name,
        "workflow": remote.execute(
            workflow, inputs={"count": 5, "unit": "pears"}, execution_name=f"{name}-workflow"
        ).id.name,
    }


def ended(remote: FlyteRemote, name: str, cause: str, *others: str) -> dict[str, object]:
    """Terminate an execution; read it and others."""
    remote.terminate(remote.fetch_execution(name=name), cause)
    closure = remote.fetch_execution(name=name).closure
    read = {}
    for other in others:
        execution = remote.sync(remote.fetch_execution(name=other), sync_nodes=True)
        outputs = {key: execution.outputs.get(key) for key in execution.outputs}
        read[other] = {"phase": execution.closure.phase, "outputs": outputs}
    return {
        "phase": closure.phase,
        "cause": closure.abort_metadata.cause,
        "others": read,
        "recent": [execution.id.name for execution in remote.recent_executions(limit=50)],
    }


def inside(remote: FlyteRemote, name: str) -> dict[str, object]:
    """Read outputs by URL; set the signals that gates wait for."""
    base = f"flyte://v1/{PROJECT}/{DOMAIN}/{name}"
    outputs, attempt, single = (remote.get(f"{base}/{rest}") for rest in ("n1/o", "n1/0/o", "n1/o/o0"))

    def listed() -> dict[str, object]:
        return {
            signal.id.signal_id: MessageToDict(signal.value.scalar.primitive) if signal.HasField("value") else None
            for signal in remote.list_signals(name)
        }

    before = listed()
    remote.approve("go", name)
    remote.set_input("how many", name, 7, python_type=int)
    after = listed()
    remote.reject("go", name)
    return {
        "outputs": outputs.get("o0", int) if isinstance(outputs, LiteralsResolver) else None,
        "attempt": attempt.get("o0", int) if isinstance(attempt, LiteralsResolver) else None,
        "single": single.scalar.primitive.integer,
        "before": before,
        "after": after,
        "rejected": listed()["go"],
    }


def files(remote: FlyteRemote, folder: str) -> dict[str, str]:
    """Upload a file; download it by a signed URL, and as flytekit does when a task reads it."""
    sent, fetched = Path(folder, "größe — 大小.txt"), Path(folder, "fetched.txt")
    sent.write_text("zwölf Äpfel 🍎\n" * 1000)
    _, uri = remote.upload_file(sent)
    link = remote.client.get_download_signed_url(uri)
    remote.file_access.get_data(uri, str(fetched))
    signed = requests.get(link.signed_url, timeout=10).content.decode()
    return {"sent": sent.read_text(), "signed": signed, "fetched": fetched.read_text()}


if __name__ == "__main__":
    commands = {"again": again, "ended": ended, "inside": inside, "files": files}
    print(json.dumps(commands[sys.argv[1]](FlyteRemote(Config.auto(), PROJECT, DOMAIN), *sys.argv[2:]), default=str))
