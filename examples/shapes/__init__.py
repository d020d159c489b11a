"""Every shape that flytekit gives a task, a workflow or a launch plan, small; for registering, not for a first read.

`pyflyte register -p flytesnacks -d development --version v1 shapes`, typed one folder up. `references` refers to what
`first_session/report.py` registers as version v1, so that one comes first.
"""
