"""Executions: what was launched, how far it is, and the data it took and made.

Owns: executions, node executions, task executions, signals, tags; its outbox; the name of every execution.

Serves: CreateExecution, RelaunchExecution, RecoverExecution, UpdateExecution, TerminateExecution; reads and lists of
executions, node executions and task executions, their data and spans; the signed URLs and flyte:// URLs of
DataProxyService; SignalService.

Asks: projects, for a project and the attributes that hold for a workflow, once a launch; the registry, for what is
launched.

Hands to an engine, where one is configured: what is to run and what is to stop (`rules.engine` is the port).

Ends by itself: executions that were terminated and whose engine does not confirm it in time, that the engine refuses,
or that it no longer has.

Says: that an execution was created or terminated (`services.contracts.executions`).

Hears: its own two facts, to act on them for the engine; batches of events (`services.contracts.event_batches`), and
answers each with one verdict per event; the question for the configuration that executions have by default.
"""
