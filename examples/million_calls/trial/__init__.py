"""What the demo needs around the task: a service to call, and what is shown of a run."""
