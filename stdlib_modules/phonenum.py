"""Module phonenum: phone numbers checked, brought into one form and described, by Google's libphonenumber in Python.
https://www.kamailio.org/docs/modules/devel/modules/phonenum.html"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from kamc.declare import ANY, Module, function, pv_class
from kamc.declare.pvspec import PvSpec
from kamc.declare.values import Value
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from kamc.runtime.pv.bind import BoundPv

_KEYS: Final = ("number", "valid", "normalized", "natnum", "cctel", "ltype", "ndesc", "error", "ccname")
#: kinds of numbers, by libphonenumber's numbers
_TYPES: Final = ("fixed-line", "mobile", "fixed-line-or-mobile", "toll-free", "premium-rate", "shared-cost", "voip", "personal-number", "pager", "uan", "voicemail")


@dataclass(slots=True)
class Described:
    """What is known of a number: the keys of ``$phn``."""

    number: str
    valid: int = 0
    normalized: str | None = None
    natnum: str | None = None
    cctel: str | None = "0"
    ltype: str | None = None
    ndesc: str | None = None
    error: str | None = None
    ccname: str | None = None


class Phonenum(Module):
    name = "phonenum"
    kept = ("found",)
    ignored_params = ("resid",)

    class Params:
        smode: int = 0
        shortcode: int = 0

    def mod_init(self) -> None:
        try:
            import phonenumbers
            from phonenumbers import geocoder
            from phonenumbers.geodata.locale import LOCALE_DATA
        except ImportError:
            raise ConfigError("phonenum needs phonenumbers: pip install 'kamc[phonenum]'") from None
        self.lib: Any = phonenumbers
        self.geocoder: Any = geocoder
        self.countries: dict[str, dict[str, str]] = LOCALE_DATA
        #: result container → the number that was looked at last
        self.found: dict[str, Described] = {}

    def _describe(self, number: str, country: str) -> Described:
        lib, out = self.lib, Described(number)
        try:
            parsed = lib.parse(number, country or None)
        except lib.NumberParseException:
            out.error = "Parsing number failed"
            return out
        if not self.p.smode and not lib.is_valid_number(parsed):
            if self.p.shortcode and lib.is_valid_short_number(parsed):
                out.valid, out.ltype = 1, "shortcode"
            else:
                out.error = "Invalid number"
                return out
        out.valid = 1
        out.normalized = lib.format_number(parsed, lib.PhoneNumberFormat.E164)
        out.natnum, out.cctel = str(parsed.national_number), str(parsed.country_code)
        kind = lib.number_type(parsed)
        out.ltype = out.ltype or (_TYPES[kind] if 0 <= kind < len(_TYPES) else "unknown")
        out.ccname = lib.region_code_for_number(parsed)
        out.ndesc = self.geocoder.description_for_number(parsed, "en") or self._country(out.ccname or "")
        return out

    def _country(self, region: str) -> str:
        """Its name. A star stands for the name in another language."""
        names = self.countries.get(region, {})
        name = names.get("en", "")
        return names.get(name[1:], "") if name.startswith("*") else name

    def _match(self, number: str, country: str, container: str) -> int:
        self.found[container] = self._describe(number, country)
        return 1

    @function(ANY)
    def phonenum_match(self, ctx: Ctx, num: str, pvc: str) -> int:
        """Look at a number with its country in front (``+49…``); ``$phn(pvc=>…)`` has what is found, ``valid`` whether it is a number."""
        return self._match(num, "", pvc)

    @function(ANY)
    def phonenum_match_cn(self, ctx: Ctx, num: str, cnc: str, pvc: str) -> int:
        """Look at a number as it is dialled in a country, such as ``DE``."""
        return self._match(num, cnc.upper(), pvc)

    @classmethod
    def check_pv_phn(cls, spec: PvSpec) -> str | None:
        container, arrow, key = (part.strip() for part in (spec.inner or "").partition("=>"))
        return None if container and arrow and key in _KEYS else f"the name has the form CONTAINER=>KEY, the key is one of {' '.join(_KEYS)}"

    @pv_class("phn")
    def pv_phn(self, spec: PvSpec) -> BoundPv:
        container, _, key = (part.strip() for part in (spec.inner or "").partition("=>"))

        def get(ctx: Ctx) -> Value:
            found = self.found.get(container)
            value: Value = getattr(found, key) if found is not None else None
            return value

        return BoundPv(get)


module = Phonenum
