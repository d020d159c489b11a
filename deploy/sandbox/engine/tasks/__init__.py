"""Attempts of tasks as processes of this machine: command, environment, folder, budget, processes, results.

`attempts.AttemptRunner` runs one from `StartTask` to `TaskFinished`. `fork_server` is a script of the tasks' Python,
`forks` its client.
"""
