"""A function that splits its input into tasks on the queue, and workers that run each once."""
