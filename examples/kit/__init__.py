"""What the examples' demos have in common: what ran, how it is shown, and where it runs."""
