"""RPC: one registry of commands that return plain data, several front ends that format it."""
