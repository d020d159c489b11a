"""The compiler: what a registered task or workflow must look like, and the form in which the engine gets it.

A package of pure functions over flyteidl's messages, following compiler.md. `compile_task` checks a task;
`requirements` says what a workflow needs to be compiled, which the caller looks up; `compile_workflow` makes the
closure. All findings of one call are told at once, in the text of CompilationFailed.

Where the reference compiler crashes, stalls or lets through what cannot run, this one has an error: sub-workflows that
contain themselves, two nodes with one id, dependencies on nodes that do not exist, requests of absurd size or depth.

    errors        the findings and their text
    tasks, pods   one task
    requirements  what a workflow refers to
    workflows     a workflow from request to closure
    nodes         the nodes of one workflow
    interfaces, bindings, branches   parts of that
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
