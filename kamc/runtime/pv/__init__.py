"""Pseudo-variables at run time: binding of a spec to a getter and a setter, once, when a program is loaded."""
