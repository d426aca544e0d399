"""Module sqlops: the ``{sql.*}`` transformations. Queries (``sql_query`` and kin, ``$dbr``) are not there."""

from __future__ import annotations

import re

from kamc.declare import Module, transformation
from kamc.declare.values import Value, to_int, to_str

_SPECIAL = re.compile(r"[\\'\"\0]")


def quoted(value: Value) -> str:
    """A text for a statement: quotes, backslashes and NUL are escaped as MySQL reads them."""
    return "'" + _SPECIAL.sub(lambda m: "\\0" if m.group() == "\0" else "\\" + m.group(), to_str(value)) + "'"


class Sqlops(Module):
    name = "sqlops"
    tuning_params = ("tr_buf_size", "log_buf_size", "results_maxsize")

    @staticmethod
    @transformation("sql.val", nulls=True)
    def sql_val(value: Value) -> Value:
        """A value as a statement takes it: NULL, a number, or a text in quotes."""
        if value is None:
            return "NULL"
        return str(value) if isinstance(value, int) else quoted(value)

    @staticmethod
    @transformation("sql.val.int", nulls=True)
    def sql_val_int(value: Value) -> Value:
        """The same with 0 for null."""
        if value is None:
            return "0"
        return str(to_int(value)) if isinstance(value, int) else quoted(value)

    @staticmethod
    @transformation("sql.val.str", nulls=True)
    def sql_val_str(value: Value) -> Value:
        """The same with the empty text for null, and numbers as they are."""
        if value is None:
            return "''"
        return str(value) if isinstance(value, int) else quoted(value)


module = Sqlops
