"""What CreateExecution, RelaunchExecution and RecoverExecution share: from a spec to a stored execution."""
