"""The registry.

Owns: tasks, workflows, launch plans and their schedules, named entities, description entities; compiled workflows in
the object store.

Serves: Create, Get, List and ListIds of tasks, workflows and launch plans, GetActiveLaunchPlan, ListActiveLaunchPlans
and UpdateLaunchPlan; Get, List and Update of named entities; Get and List of description entities, of AdminService.

Publishes: a version was registered, a launch plan was activated or deactivated (`services.contracts.registry`).

Serves to other services: launch plans, also the generated one that runs a single task, and URIs of compiled workflows.

Requests: of projects, the project before anything is registered in it, and the limits of task resources there.
"""
