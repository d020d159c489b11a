"""What a user does with executions beside waiting for them, by FlyteRemote; run with the clients' own environment.

`handled.py again NAME` launches an execution again in every way and prints the names; `data NAME` prints what its
flyte:// URLs hold; `signals NAME` lists its signals, answers them and lists them again; `terminate NAME CAUSE` ends it
and prints how it is told; `task NAME VERSION` launches a single task; `recent` prints the names of recent executions.
All as JSON.
"""

import json
import sys

from flytekit.configuration import Config
from flytekit.core.type_engine import LiteralsResolver
from flytekit.remote import FlyteRemote
from google.protobuf.json_format import MessageToDict

PROJECT, DOMAIN = "flytesnacks", "development"


def again(remote: FlyteRemote, name: str) -> dict[str, str]:
    """Launch it again, and recover it."""
    identifier = remote.fetch_execution(name=name).id
    return {
        "relaunched": remote.client.relaunch_execution(identifier).name,
        "named": remote.client.relaunch_execution(identifier, f"{name}-again").name,
        "recovered": remote.client.recover_execution(identifier).name,
    }


def data(remote: FlyteRemote, name: str) -> dict[str, object]:
    """Read outputs by URL."""
    base = f"flyte://v1/{PROJECT}/{DOMAIN}/{name}"
    outputs = remote.get(f"{base}/n1/o")
    attempt = remote.get(f"{base}/n1/0/o")
    single = remote.get(f"{base}/n1/o/o0")
    return {
        "outputs": outputs.get("o0", int) if isinstance(outputs, LiteralsResolver) else None,
        "attempt": attempt.get("o0", int) if isinstance(attempt, LiteralsResolver) else None,
        "single": single.scalar.primitive.integer,
    }


def signals(remote: FlyteRemote, name: str) -> dict[str, object]:
    """Answer what gates wait for."""

    def listed() -> dict[str, object]:
        found = remote.list_signals(name)
        return {
            one.id.signal_id: MessageToDict(one.value.scalar.primitive) if one.HasField("value") else None
            for one in found
        }

    before = listed()
    remote.approve("go", name)
    remote.set_input("how many", name, 7, python_type=int)
    after = listed()
    remote.reject("go", name)
    return {"before": before, "after": after, "rejected": listed()["go"]}


def terminate(remote: FlyteRemote, name: str, cause: str) -> dict[str, object]:
    """End it."""
    remote.terminate(remote.fetch_execution(name=name), cause)
    closure = remote.fetch_execution(name=name).closure
    return {"phase": closure.phase, "cause": closure.abort_metadata.cause}


def task(remote: FlyteRemote, name: str, version: str) -> str:
    """Launch a single task, by a name of its own."""
    chosen = remote.fetch_task(name=name, version=version)
    return remote.execute(chosen, inputs={"count": 4}, execution_name="handled-task").id.name


def recent(remote: FlyteRemote) -> list[str]:
    """Which executions there were lately."""
    return [execution.id.name for execution in remote.recent_executions(limit=50)]


if __name__ == "__main__":
    commands = {
        "again": again,
        "data": data,
        "signals": signals,
        "terminate": terminate,
        "task": task,
        "recent": recent,
    }
    print(json.dumps(commands[sys.argv[1]](FlyteRemote(Config.auto(), PROJECT, DOMAIN), *sys.argv[2:])))
