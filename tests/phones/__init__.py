"""Real phones."""
