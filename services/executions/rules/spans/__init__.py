"""The tree of spans of GetExecutionMetrics (executions.md#getexecutionmetrics).

`execution_span` builds it without I/O: it is a generator that yields a SpanRequest for what it needs next, and is sent
the result.
"""
