"""The transaction layer: sans-IO. Events and the time come in, effects go out through small protocols that tests replace."""
