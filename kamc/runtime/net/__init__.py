"""Transports: bytes in and out. They turn bytes into framed messages with a Flow and decide nothing."""
