"""Times at which a rule holds: ``dtstart|duration|freq|until|interval|byday|bymday|byyday|byweekno|bymonth``, the recurrences of RFC 5545 in short."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

_FREQUENCIES: Final = ("daily", "weekly", "monthly", "yearly")
_DAYS: Final = {"MO": 0, "TU": 1, "WE": 2, "TH": 3, "FR": 4, "SA": 5, "SU": 6}
_DURATION: Final = re.compile(r"(\d+)([WDHMS])")
_UNITS: Final = {"W": 604800, "D": 86400, "H": 3600, "M": 60, "S": 1}
_BYDAY: Final = re.compile(r"([+-]?\d+)?(MO|TU|WE|TH|FR|SA|SU)")
_FIELDS: Final = 10


def _moment(text: str) -> datetime:
    """``YYYYMMDD[THHMMSS]``. Raises ValueError."""
    return datetime.strptime(text, "%Y%m%dT%H%M%S" if "T" in text else "%Y%m%d")


def _duration(text: str) -> int:
    """Seconds of ``10H30M`` or ``P1DT2H``. Raises ValueError."""
    rest = text.upper().replace("P", "").replace("T", "")
    if not rest or _DURATION.sub("", rest):
        raise ValueError(f"{text!r} is no duration")
    return sum(int(number) * _UNITS[unit] for number, unit in _DURATION.findall(rest))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part.strip())


def _days(text: str) -> tuple[tuple[int, int], ...]:
    found = []
    for part in text.upper().replace(" ", "").split(","):
        match = _BYDAY.fullmatch(part)
        if match is None:
            raise ValueError(f"{part!r} is no day")
        found.append((int(match[1] or 0), _DAYS[match[2]]))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Recurrence:
    """``duration`` 0: the rest of the day, and without ``freq`` for ever."""

    start: datetime
    duration: int = 0
    freq: str = ""
    until: datetime | None = None
    interval: int = 1
    days: tuple[tuple[int, int], ...] = ()
    month_days: tuple[int, ...] = ()
    year_days: tuple[int, ...] = ()
    weeks: tuple[int, ...] = ()
    months: tuple[int, ...] = ()

    def holds(self, now: datetime) -> bool:
        """At a local time."""
        if now < self.start or (self.until is not None and now > self.until):
            return False
        if not self.freq:
            return not self.duration or now < self.start + timedelta(seconds=self.duration)
        into = (now - datetime.combine(now.date(), self.start.time())).total_seconds()
        if self.duration and into < 0:
            # what began yesterday may last until today
            into += 86400
            now -= timedelta(days=1)
        if self.duration and not 0 <= into < self.duration:
            return False
        return self._recurs(now) and self._named(now)

    def _recurs(self, now: datetime) -> bool:
        start = self.start
        match self.freq:
            case "daily":
                steps = (now.date() - start.date()).days
            case "weekly":
                steps = ((now.date() - timedelta(days=now.weekday())) - (start.date() - timedelta(days=start.weekday()))).days // 7
            case "monthly":
                steps = (now.year - start.year) * 12 + now.month - start.month
            case _:
                steps = now.year - start.year
        return steps % max(1, self.interval) == 0

    def _named(self, now: datetime) -> bool:
        if self.months and now.month not in self.months:
            return False
        if self.weeks and now.isocalendar().week not in self.weeks:
            return False
        length = (now.replace(month=now.month % 12 + 1, day=1, year=now.year + (now.month == 12)) - now.replace(day=1)).days
        if self.month_days and now.day not in self.month_days and now.day - length - 1 not in self.month_days:
            return False
        year_day = now.timetuple().tm_yday
        if self.year_days and year_day not in self.year_days and year_day - self._length_of_year(now.year) - 1 not in self.year_days:
            return False
        if self.days:
            return any(day == now.weekday() and (not n or (self._nth(now, length, n))) for n, day in self.days)
        if self.month_days or self.year_days or self.weeks or self.months or self.freq == "daily":
            return True
        return self._as_at_start(now)

    @staticmethod
    def _length_of_year(year: int) -> int:
        return (datetime(year + 1, 1, 1) - datetime(year, 1, 1)).days

    @staticmethod
    def _nth(now: datetime, length: int, n: int) -> bool:
        """The n-th such weekday of the month, from its end when negative."""
        return (now.day - 1) // 7 + 1 == n if n > 0 else -((length - now.day) // 7 + 1) == n

    def _as_at_start(self, now: datetime) -> bool:
        if self.freq == "weekly":
            return now.weekday() == self.start.weekday()
        if self.freq == "monthly":
            return now.day == self.start.day
        return (now.month, now.day) == (self.start.month, self.start.day)


def recurrence(text: str) -> Recurrence | None:
    """None for an empty text: always. Raises ValueError."""
    if not text.strip(" |"):
        return None
    parts = [part.strip() for part in text.split("|")]
    start, duration, freq, until, interval, days, month_days, year_days, weeks, months, *_ = parts + [""] * _FIELDS
    if freq and freq.lower() not in _FREQUENCIES:
        raise ValueError(f"{freq!r} is none of {' '.join(_FREQUENCIES)}")
    return Recurrence(_moment(start), _duration(duration) if duration else 0, freq.lower(), _moment(until) if until else None, int(interval) if interval else 1,
                      _days(days) if days else (), _numbers(month_days), _numbers(year_days), _numbers(weeks), _numbers(months))  # fmt: skip
