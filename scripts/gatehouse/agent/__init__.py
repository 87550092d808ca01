"""What is under test: definition, digest, providers, worker protocol."""
