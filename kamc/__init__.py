"""kamc: Kamailio configurations compiled to Python bytecode, and the runtime that the bytecode calls into."""

__version__ = "0.1.0"
