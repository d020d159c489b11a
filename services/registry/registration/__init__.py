"""What the registrations of tasks, workflows and launch plans share."""
