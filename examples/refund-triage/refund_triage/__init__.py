"""Triage of refund requests at Larkfield Home."""
