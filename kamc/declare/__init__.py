"""The vocabulary of declarations, shared by the compiler and the runtime."""

from kamc.declare.module import Module, function, modparam, pv, pv_class, rpc, transformation
from kamc.declare.routes import ANY, Exit, Routes

__all__ = ["ANY", "Exit", "Module", "Routes", "function", "modparam", "pv", "pv_class", "rpc", "transformation"]
