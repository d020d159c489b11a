"""Executions: what was launched, its progress, and its inputs and outputs.

Owns: executions, node executions, task executions, signals, tags; its outbox; the names of executions; applied batches
until the event log has them.

RPCs: CreateExecution, RelaunchExecution, RecoverExecution, UpdateExecution, TerminateExecution; reads and lists of
executions, node executions and task executions, their data and spans; the signed URLs and flyte:// URLs of
DataProxyService; SignalService.

Sends service requests: to projects, for a project and the attributes that match a workflow, once for launches that come
together; to the registry, for the launch plan or task to launch, and for the URI of a compiled workflow (spans).

Submits executions to an engine, and stops them there, if one is configured (`engine.interface`).

Ends executions itself: those that were terminated and whose engine does not confirm it in time, those that the engine
refuses, and those that it no longer has.

Announces: that an execution was created or terminated, or an event refused (`services.contracts.executions`).

Consumes: its own announcements, for the engine; batches of events (`services.contracts.event_batches`), for which it
returns one verdict per event. Serves the service requests for the default configuration of executions, and for the
batches that it has applied (`services.contracts.applied_batches`).
"""
