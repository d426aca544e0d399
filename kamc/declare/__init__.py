"""The vocabulary of declarations, shared by the compiler and the runtime."""

from kamc.declare.module import Module, Spread, function, modparam, pv, pv_class, rpc, transformation
from kamc.declare.routes import ANY, Exit, Routes

__all__ = ["ANY", "Exit", "Module", "Routes", "Spread", "function", "modparam", "pv", "pv_class", "rpc", "transformation"]
