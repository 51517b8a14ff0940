"""What is deployed: the app, its one task, and what the task is made of."""
