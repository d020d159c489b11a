"""Executions: what was launched, how far it is, and the data it took and made.

Owns: executions, node executions, task executions, signals, tags; its outbox; the name of every execution.

Serves: CreateExecution, RelaunchExecution, RecoverExecution, UpdateExecution, TerminateExecution; reads and lists of
executions, node executions and task executions, their data and spans; the signed URLs and flyte:// URLs of
DataProxyService; SignalService.

Asks: projects, for a project and the attributes that hold for a workflow, once a launch; the registry, for what is
launched.

Ends by itself: executions that were terminated and whose engine does not confirm it in time.

Says: that an execution was created (which engines run) or terminated (`services.contracts.executions`).

Hears: batches of events (`services.contracts.event_batches`), and answers each with one verdict per event. The
question for the configuration that executions have by default.
"""
