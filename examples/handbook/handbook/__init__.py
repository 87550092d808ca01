"""Answers questions about the employee handbook."""
