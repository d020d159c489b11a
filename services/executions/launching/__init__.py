"""Launching: from the spec of CreateExecution, RelaunchExecution or RecoverExecution to a stored execution."""
