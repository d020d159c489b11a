"""Failures that the user of the sandbox can do something about; shown without a traceback."""


class SandboxError(Exception):
    """Something outside the sandbox is in the way: a port, a folder, a missing user."""


class PartError(SandboxError):
    """A part did not start, or a step before it failed; the message names it and ends with the end of its log."""
