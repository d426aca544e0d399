"""AVPs in a database: whose they are, which are meant, and how a row holds one. Table ``usr_preferences`` of Kamailio's schema.

Column ``type`` says what a row holds: bit 0 a number (else a text), bit 1 that the name of the AVP is a number (``$avp(i:7)``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from kamc.declare.pvspec import PvSyntaxError, parse_pv
from kamc.declare.values import parse_int
from kamc.runtime.db import Cell, Where
from kamc.runtime.sip.uri import parse_uri

VALUE_IS_NUMBER: Final = 1
NAME_IS_NUMBER: Final = 2
_PARTS: Final = ("username", "domain", "uri", "uuid")
#: variables whose value is a URI: without a part, its user and domain are meant
_URIS: Final = frozenset({"ru", "fu", "tu", "ou"})
#: names that stand for all AVPs, for those with a text as their name, for those with a number
_ALL: Final = {"*": "", "a": "", "A": "", "s": "s", "S": "s", "i": "i", "I": "i"}


@dataclass(frozen=True, slots=True)
class Source:
    """``$variable[/username|/domain|/uri|/uuid]``, or a text that is a uuid."""

    text: str
    part: str
    literal: bool

    def where(self, value: str, columns: Columns, use_domain: bool) -> list[tuple[str, str, Cell]]:
        """The conditions that name the owner. Raises ValueError for what should be a URI and is none."""
        if self.part == "uuid":
            return [(columns.uuid, "=", value)]
        uri = parse_uri(value)
        if uri is None or not uri.host:
            raise ValueError(f"{value!r} is no URI")
        user: tuple[str, str, Cell] = (columns.username, "=", uri.user or "")
        domain: tuple[str, str, Cell] = (columns.domain, "=", uri.host)
        if self.part == "username":
            return [user]
        if self.part == "domain":
            return [domain]
        return [user, domain] if use_domain else [user]


@lru_cache(maxsize=256)
def source(text: str) -> Source:
    """Raises ValueError."""
    name, _, part = text.partition("/")
    if part and part not in _PARTS:
        raise ValueError(f"unknown flag {part!r}: {', '.join(_PARTS)} are known")
    if not name.startswith("$"):
        return Source(name, part or "uuid", True)
    try:
        spec = parse_pv(name)
    except PvSyntaxError as err:
        raise ValueError(f"{name!r} is no variable: {err}") from None
    return Source(name, part or ("uri" if spec.name in _URIS else "uuid"), False)


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table of preferences."""

    uuid: str = "uuid"
    username: str = "username"
    domain: str = "domain"
    attribute: str = "attribute"
    value: str = "value"
    type: str = "type"


@dataclass(frozen=True, slots=True)
class Scheme:
    """Modparam ``db_scheme``: a table of another shape, one column of which gives the values of one AVP."""

    name: str
    table: str = ""
    columns: Columns = field(default_factory=Columns)
    number: bool = False


def scheme(text: str, columns: Columns) -> Scheme:
    """``name:uuid_col=..;username_col=..;domain_col=..;value_col=..;value_type=integer|string;table=..``. Raises ValueError."""
    name, sep, rest = text.partition(":")
    if not sep or not name.strip():
        raise ValueError(f"db_scheme {text!r} has no name")
    found: dict[str, str] = {}
    for part in rest.split(";"):
        key, sep, value = (piece.strip() for piece in part.partition("="))
        if not key and not sep:
            continue
        if key not in ("uuid_col", "username_col", "domain_col", "value_col", "value_type", "table") or not value:
            raise ValueError(f"db_scheme {name.strip()}: unknown attribute {key!r}" if value else f"db_scheme {name.strip()}: {key!r} has no value")
        found[key] = value
    kind = found.get("value_type", "string")
    if kind not in ("integer", "string"):
        raise ValueError(f"db_scheme {name.strip()}: unknown value type {kind!r}")
    changed = Columns(found.get("uuid_col", columns.uuid), found.get("username_col", columns.username), found.get("domain_col", columns.domain),
                      columns.attribute, found.get("value_col", columns.value), columns.type)  # fmt: skip
    return Scheme(name.strip(), found.get("table", ""), changed, kind == "integer")


@dataclass(frozen=True, slots=True)
class Wanted:
    """``$avp(name)``, or ``*``, ``s`` or ``i`` for many; behind a slash the table, or a scheme with ``$`` before its name."""

    #: the key of the AVP on the stacks of a context; empty for many
    key: str
    #: of many: only those with a text (``s``) or a number (``i``) as their name
    only: str
    table: str
    scheme: str


@lru_cache(maxsize=256)
def wanted(text: str) -> Wanted:
    """Raises ValueError."""
    name, sep, rest = text.partition("/")
    if sep and not rest.strip("$"):
        raise ValueError(f"{text!r}: a table, or a scheme with $ before its name, follows the slash")
    table, scheme_name = ("", rest[1:]) if rest.startswith("$") else (rest, "")
    if name in _ALL:
        if scheme_name:
            raise ValueError(f"{text!r}: a scheme needs the name of one AVP")
        return Wanted("", _ALL[name], table, "")
    try:
        spec = parse_pv(name)
    except PvSyntaxError as err:
        raise ValueError(f"{name!r} is no variable: {err}") from None
    if spec.name != "avp" or not spec.inner or "$" in spec.inner or spec.index is not None or spec.transformations:
        raise ValueError(f"{name!r} is neither $avp(name) nor one of * s i")
    return Wanted(spec.inner.strip().removeprefix("s:"), "", table, scheme_name)


def attribute_of(key: str) -> str:
    """The name as column ``attribute`` has it."""
    return key.removeprefix("i:")


def kind_of(key: str, value: int | str) -> int:
    return (VALUE_IS_NUMBER if isinstance(value, int) else 0) | (NAME_IS_NUMBER if key.startswith("i:") else 0)


def read_row(attribute: str, value: Cell, kind: int) -> tuple[str, int | str]:
    """The key and the value of a row. Raises ValueError where it does not hold what its type says."""
    key = attribute
    if kind & NAME_IS_NUMBER:
        number = parse_int(attribute)
        if number is None:
            raise ValueError(f"name is not ID as flags say <{attribute}>")
        key = f"i:{number}"
    text = "" if value is None else str(value)
    if not kind & VALUE_IS_NUMBER:
        return key, text
    number = parse_int(text)
    if number is None:
        raise ValueError(f"value is not int as flags say <{text}>")
    return key, number


def named(where: Where, key: str, columns: Columns) -> list[tuple[str, str, Cell]]:
    return [*where, (columns.attribute, "=", attribute_of(key))] if key else list(where)
