"""Processes: the only place that forks, installs signal handlers and runs a loop."""
