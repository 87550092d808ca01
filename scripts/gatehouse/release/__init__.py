"""The package's way from develop to the index: versions, changelog, branches, built files, evidence."""
