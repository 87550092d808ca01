"""One module per action: read inputs, decide, write outputs."""
