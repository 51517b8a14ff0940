"""Examples. Those that are modules of this package are run from the top of the repository."""
