"""Every metric joins one registry here."""
