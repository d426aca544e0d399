"""Hash tables of module htable: their definition, their items, and searching through them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from kamc.declare.regex import RegexError, compile_regex
from kamc.declare.values import to_str
from kamc.runtime.hashes import core_hash

Item = int | str
_NUMBERS: Final = ("size", "autoexpire", "updateexpire", "initval", "dbmode", "dmqreplicate")


@dataclass(slots=True)
class HashTable:
    """One ``name=>size=4;autoexpire=60;initval=0;updateexpire=0;``. ``rows`` is the table of the store."""

    name: str
    size: int = 8
    autoexpire: int = 0
    updateexpire: bool = True
    initval: Item | None = None
    dbtable: str = ""
    #: written back to the database at the end
    dbmode: bool = False
    #: of the database's table: the key, and what is joined by ``delimiter`` to the value; ``null`` stands for a column without one
    columns: tuple[str, ...] = ()
    delimiter: str = ","
    null: str = "*"
    rows: Any = field(default=None, repr=False)
    clock: Callable[[], float] = field(default=lambda: 0.0, repr=False)

    @property
    def slots(self) -> int:
        """``size`` is the power of two."""
        return int(1 << min(max(self.size, 1), 14))

    def get(self, key: str) -> Item | None:
        found: Item | None = self.rows.get(key)
        return self.initval if found is None else found

    def put(self, key: str, value: Item | None, expires: float | None = None) -> None:
        """Set a value; ``expires`` in seconds from now overrides what the table says. None deletes."""
        if value is None:
            self.rows.delete(key)
            return
        if expires is None:
            at = self._end(None if self.updateexpire else self.rows.expires(key))
        else:
            at = self.clock() + expires if expires > 0 else 0
        self.rows.put(key, value, at)

    def add(self, key: str, step: int) -> int | None:
        """Count an item up or down; None where it is a text, or not there and without an initial value."""
        counted: list[int] = []

        def change(held: Item | None, at: float) -> tuple[Item | None, float]:
            value = self.initval if held is None else held
            if not isinstance(value, int):
                return held, at
            counted.append(value + step)
            return value + step, self._end(at if held is not None else None)

        self.rows.change(key, change)
        return counted[-1] if counted else None

    def _end(self, known: float | None) -> float:
        """Until when a value that is set now stays, 0 for ever; ``known``: until when the one before would have."""
        if known is not None and not self.updateexpire:
            return known
        return self.clock() + self.autoexpire if self.autoexpire else 0

    def seconds_left(self, key: str) -> int:
        """Seconds until an item expires, 0 for never and for what is not there."""
        at = self.rows.expires(key)
        return max(0, round(at - self.clock())) if at else 0

    def set_seconds(self, key: str, seconds: int) -> None:
        """Let an item expire some seconds from now; one that is not there stays away, as does one of a table without expiry."""
        if self.autoexpire:
            self.rows.set_expires(key, self.clock() + seconds)

    def items(self) -> Iterator[tuple[str, Item]]:
        yield from self.rows.scan()

    def remove(self, matches: Callable[[str, Item], bool]) -> int:
        over = [key for key, value in self.items() if matches(key, value)]
        for key in over:
            self.rows.delete(key)
        return len(over)

    def slot(self, key: str) -> int:
        return core_hash(key, "", self.slots)

    def order(self, key: str) -> tuple[int, int]:
        """Where Kamailio keeps an item: its slot, and its place there."""
        return self.slot(key), core_hash(key)


def parse_table(text: str) -> HashTable:
    """The value of parameter ``htable``. Raises ValueError."""
    name, arrow, rest = text.partition("=>")
    name = name.strip()
    if not arrow or not name:
        raise ValueError(f"{text!r}: not name=>attribute=value;...")
    table = HashTable(name)
    for part in rest.split(";"):
        if not part.strip():
            continue
        key, equal, value = (x.strip() for x in part.partition("="))
        if not equal:
            raise ValueError(f"{part.strip()!r} of table {name}: not attribute=value")
        number = int(value) if value.lstrip("+-").isdigit() else None
        if key in _NUMBERS and key != "initval" and number is None:
            raise ValueError(f"{key} of table {name} wants a number, not {value!r}")
        match key:
            case "size":
                table.size = number or 0
            case "autoexpire":
                table.autoexpire = number or 0
            case "updateexpire":
                table.updateexpire = bool(number)
            case "initval":
                table.initval = number if number is not None else value
            case "dbtable":
                table.dbtable = value
            case "dbmode":
                table.dbmode = bool(number)
            case "cols":
                table.columns = tuple(c.strip() for c in value.strip("'\"").split(",") if c.strip())
                if len(table.columns) < 2:
                    raise ValueError(f"cols of table {name} names at least two columns, the key and a value")
            case "coldelim" | "colnull":
                text = value.strip("'\"")
                if len(text) > 1 or (key == "coldelim" and not text):
                    raise ValueError(f"{key} of table {name} is a single character, not {value!r}")
                if key == "coldelim":
                    table.delimiter = text
                else:
                    table.null = text
            case "dmqreplicate":
                if number:
                    raise ValueError(f"dmqreplicate of table {name} is not implemented: there is no replication by DMQ")
            case _:
                raise ValueError(f"table {name} has no attribute {key!r}")
    return table


# -- searching ---------------------------------------------------------------------------------------------------------------


def matcher(operator: str, wanted: str) -> Callable[[str], bool] | None:
    """For ``sht_match_name`` and kin: eq, ne, sw (starts with), re; None for another operator."""
    match operator:
        case "eq":
            return lambda text: text == wanted
        case "ne":
            return lambda text: text != wanted
        case "sw":
            return lambda text: text.startswith(wanted)
        case "re":
            return searcher(wanted)
    return None


def searcher(pattern: str) -> Callable[[str], bool]:
    """Whether a pattern is found. A bad one is found nowhere."""
    try:
        test = compile_regex(pattern).test
    except RegexError:
        return lambda text: False
    return lambda text: bool(test(text))


def counted(expression: str) -> Callable[[Item], bool]:
    """The expression of ``$shtcn`` and ``$shtcv``: ``~~regex  ~%end  %~start  ==text  eqNUMBER  **`` or a plain regular expression."""
    operator, rest = expression[:2], expression[2:]
    if operator == "**":
        return lambda value: True
    if operator == "eq" and rest.lstrip("-").isdigit():
        number = int(rest)
        return lambda value: value == number
    test: Callable[[str], bool]
    match operator:
        case "~~":
            test = searcher(rest)
        case "~%":
            test = lambda text: text.endswith(rest)  # noqa: E731
        case "%~":
            test = lambda text: text.startswith(rest)  # noqa: E731
        case "==":
            test = lambda text: text == rest  # noqa: E731
        case _:
            test = searcher(expression)
    return lambda value: isinstance(value, str) and test(value)


def shown(value: Item) -> str:
    return to_str(value)
