"""The span tree of GetExecutionMetrics: where the time of an execution went (executions.md section 9).

`execution_span` builds it from rows. It does no I/O: it is a generator that yields what it wants next (`wanted`) and is
sent what was found.
"""
