"""Attempts of tasks as processes of this machine: command, environment, folder, budget, processes, results.

`attempts.AttemptRunner` runs one from `StartTask` to `TaskFinished`; `forks` is the client of the fork server, which is
in `deploy.sandbox.engine.forking`.
"""
