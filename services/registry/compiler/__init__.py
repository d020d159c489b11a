"""The compiler: checks tasks and workflows at registration and returns the compiled form that engines run.

Pure functions over flyteidl's messages. `compile_task` checks a task; `requirements` returns what a workflow refers to,
which the caller reads from the database; `compile_workflow` returns the closure. All errors of one call are reported
together, in the text of CompilationFailed (compiler.md#compiler-errors).

Where flyteadmin's compiler crashes, does not end or accepts what cannot run, this one reports an error: sub-workflows
that contain themselves, two nodes with one id, dependencies on nodes that do not exist, requests of excessive size or
depth.

    errors        errors and their text
    tasks, pods   one task
    requirements  what a workflow refers to
    workflows     a workflow from request to closure
    nodes         the nodes of one workflow
    interfaces, bindings, branches   parts of nodes
    graph         connections, cycles, reachability
"""

from services.registry.compiler.errors import CompilationFailed, CompileError
from services.registry.compiler.requirements import Requirements, requirements
from services.registry.compiler.tasks import compile_task
from services.registry.compiler.workflows import compile_workflow

__all__ = [
    "CompilationFailed",
    "CompileError",
    "Requirements",
    "compile_task",
    "compile_workflow",
    "requirements",
]
