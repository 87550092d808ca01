"""Release gates for AI agents on GitHub Actions."""
