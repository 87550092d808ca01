"""Judges: models that grade what no string comparison sees, on data only, never beside the agent's code."""
