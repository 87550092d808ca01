"""Tests of the agent's own code."""
