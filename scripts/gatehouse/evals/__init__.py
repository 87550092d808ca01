"""Golden set, run, score, statistics, verdict."""
