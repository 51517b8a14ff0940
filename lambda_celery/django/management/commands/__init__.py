"""What Django lists as commands: each module is one, by its name."""
