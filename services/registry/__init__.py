"""The registry.

Owns: tasks, workflows, launch plans and their schedules, named entities, description entities; compiled workflows in
the object store.

Serves: Create, Get, List and ListIds of tasks, workflows and launch plans, GetActiveLaunchPlan, ListActiveLaunchPlans
and UpdateLaunchPlan; Get, List and Update of named entities; Get and List of description entities, of AdminService.

Says: a version was registered, a launch plan was activated or deactivated (`services.contracts.registry`).

Hears: questions for registered versions, and for the launch plan by which a single task runs.

Asks: the projects service, before anything is registered in a project, and for what it lets tasks ask for there.
"""
