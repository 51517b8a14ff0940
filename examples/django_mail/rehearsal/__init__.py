"""The parts of demo.py: the mail server, the trouble on purpose, and what is checked."""
