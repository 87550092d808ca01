"""Answers questions about a shop's opening hours, over HTTP."""
