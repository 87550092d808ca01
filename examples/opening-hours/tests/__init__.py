"""Tests of the service's own code."""
