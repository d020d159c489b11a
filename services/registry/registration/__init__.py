"""Code that registrations of tasks, workflows and launch plans share."""
