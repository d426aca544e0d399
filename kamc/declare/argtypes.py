"""Names for the argument kinds of cfg functions, for annotations; see :mod:`kamc.declare.module` for their meaning.

For type checkers they are the types that the functions get; at run time they are markers, so that a module may be written with or
without ``from __future__ import annotations``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    Lit = str
    #: a constant that names a location table: usrloc has it from the start
    Location = str
    #: called with the context, gives the text
    Lazy = Any
    #: a compiled pattern with ``test`` and ``find``
    Regex = Any
    #: a prepared substitution
    Subst = Any
    #: a bound variable with ``get`` and ``set``
    PvArg = Any
    Value = Any
    Flag = int
    FailureRoute = str
    BranchRoute = str
    ReplyRoute = str
    BranchFailureRoute = str
    #: raw argument of a transformation that is prepared once, with the runtime
    RawText = str
    #: an integer or text module parameter
    IntStr = Any
else:
    for _name in ("Lit", "Location", "Lazy", "Regex", "Subst", "PvArg", "Value", "Flag", "FailureRoute", "BranchRoute", "ReplyRoute", "BranchFailureRoute", "RawText",
                  "IntStr"):  # fmt: skip
        globals()[_name] = type(_name, (), {"__doc__": f"Argument kind {_name}."})
