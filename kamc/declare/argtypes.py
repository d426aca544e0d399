"""Names for the argument kinds of cfg functions, for annotations; see :mod:`kamc.declare.module` for their meaning."""

from __future__ import annotations

from typing import Any

Lit = str
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
EventRoute = str
#: raw argument of a transformation that is prepared once, with the runtime
RawText = str
#: an integer or text module parameter
IntStr = Any
