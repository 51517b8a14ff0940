"""A main loop whose turns run at the same time: called on the function directly, and gathered."""
