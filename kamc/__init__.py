"""kamc: Kamailio configurations compiled to Python bytecode, and the runtime that the bytecode calls into."""

__version__ = "0.1.0"
#: the Kamailio whose language kamc follows unless told otherwise: major, minor, patch
LANGUAGE = (6, 2, 0)
#: of what a build folder holds; it changes when older builds cannot be run any more
BUILD_FORMAT = 2
