"""REST API, runner files and commands, comments, events."""
