"""The story that plays everything on one machine, and its stand-ins."""
