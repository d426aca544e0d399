"""Transformations of class s, val, num: text in, text or number out. None means no result, which prints as empty text."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import time
import zlib
from typing import Final

from kamc.declare import transformation
from kamc.declare.values import DualInt, Value, parse_int, to_int, to_str
from kamc.runtime.hashes import core_hash

_B58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_USER_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.!~*'()&=+$,;?/")
_PARAM_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.!~*'()[]/:&+$")
_URL_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")
_COMMON = {"'": "\\'", '"': '\\"', "\\": "\\\\", "\0": "\\0"}


def _raw(value: Value) -> bytes:
    return to_str(value).encode("latin-1", "replace")


def _percent(text: str, safe: frozenset[str]) -> str:
    return "".join(c if c in safe else f"%{ord(c):02x}" for c in text)


_ESCAPE: Final = re.compile(r"%([0-9A-Fa-f]{2})")


def _unpercent(text: str) -> str | None:
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        return None
    return str(_ESCAPE.sub(lambda m: chr(int(m.group(1), 16)), text))


class StringTransformations:
    @staticmethod
    @transformation("s.len")
    def s_len(value: Value) -> Value:
        return len(to_str(value))

    @staticmethod
    @transformation("s.int", "s.intv")
    def s_int(value: Value) -> Value:
        if isinstance(value, int):
            return value
        text = to_str(value)
        number = parse_int(text) if text else None
        return DualInt(number, text) if number is not None and re.fullmatch(r"[+-]?\d+", text) else None

    @staticmethod
    @transformation("s.md5")
    def s_md5(value: Value) -> Value:
        return hashlib.md5(_raw(value), usedforsecurity=False).hexdigest()

    @staticmethod
    @transformation("s.sha256")
    def s_sha256(value: Value) -> Value:
        return hashlib.sha256(_raw(value)).hexdigest()

    @staticmethod
    @transformation("s.sha384")
    def s_sha384(value: Value) -> Value:
        return hashlib.sha384(_raw(value)).hexdigest()

    @staticmethod
    @transformation("s.sha512")
    def s_sha512(value: Value) -> Value:
        return hashlib.sha512(_raw(value)).hexdigest()

    @staticmethod
    @transformation("s.sha3")
    def s_sha3(value: Value, bits: str = "256") -> Value:
        found = {"224": hashlib.sha3_224, "256": hashlib.sha3_256, "384": hashlib.sha3_384, "512": hashlib.sha3_512}.get(bits)
        return found(_raw(value)).hexdigest() if found is not None else None

    @staticmethod
    @transformation("s.crc32")
    def s_crc32(value: Value) -> Value:
        return f"{zlib.crc32(_raw(value)):08x}"

    @staticmethod
    @transformation("s.tolower")
    def s_tolower(value: Value) -> Value:
        return _raw(value).lower().decode("latin-1")

    @staticmethod
    @transformation("s.toupper")
    def s_toupper(value: Value) -> Value:
        return _raw(value).upper().decode("latin-1")

    @staticmethod
    @transformation("s.numeric")
    def s_numeric(value: Value) -> Value:
        return "".join(c for c in to_str(value) if "0" <= c <= "9")

    # -- encodings -------------------------------------------------------------------------------------------------------

    @staticmethod
    @transformation("s.encode.hexa")
    def s_encode_hexa(value: Value) -> Value:
        return _raw(value).hex()

    @staticmethod
    @transformation("s.decode.hexa")
    def s_decode_hexa(value: Value) -> Value:
        text = to_str(value)
        try:
            # an odd digit at the end is left over
            return bytes.fromhex(text[: len(text) // 2 * 2]).decode("latin-1")
        except ValueError:
            return None

    @staticmethod
    @transformation("s.encode.7bit")
    def s_encode_7bit(value: Value) -> Value:
        """GSM 03.38 packing: seven bits per character."""
        bits = count = 0
        out = bytearray()
        for byte in _raw(value):
            bits |= (byte & 0x7F) << count
            count += 7
            while count >= 8:
                out.append(bits & 0xFF)
                bits >>= 8
                count -= 8
        if count:
            out.append(bits & 0xFF)
        return out.hex().upper()

    @staticmethod
    @transformation("s.decode.7bit")
    def s_decode_7bit(value: Value) -> Value:
        try:
            data = bytes.fromhex(to_str(value))
        except ValueError:
            return None
        bits = count = 0
        out = []
        for byte in data:
            bits |= byte << count
            count += 8
            while count >= 7:
                out.append(chr(bits & 0x7F))
                bits >>= 7
                count -= 7
        return "".join(out)

    @staticmethod
    @transformation("s.encode.base58")
    def s_encode_base58(value: Value) -> Value:
        data = _raw(value)
        number, out = int.from_bytes(data, "big"), ""
        while number:
            number, rest = divmod(number, 58)
            out = _B58[rest] + out
        return "1" * (len(data) - len(data.lstrip(b"\0"))) + out

    @staticmethod
    @transformation("s.decode.base58")
    def s_decode_base58(value: Value) -> Value:
        text = to_str(value)
        number = 0
        for c in text:
            at = _B58.find(c)
            if at < 0:
                return None
            number = number * 58 + at
        zeros = len(text) - len(text.lstrip("1"))
        return (b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")).decode("latin-1")

    @staticmethod
    @transformation("s.encode.base64")
    def s_encode_base64(value: Value) -> Value:
        return base64.b64encode(_raw(value)).decode("ascii")

    @staticmethod
    @transformation("s.decode.base64", "s.decode.base64t")
    def s_decode_base64(value: Value) -> Value:
        data = _raw(value).rstrip(b"=")
        try:
            return base64.b64decode(data + b"=" * (-len(data) % 4)).decode("latin-1")
        except (binascii.Error, ValueError):
            return None

    @staticmethod
    @transformation("s.encode.base64t")
    def s_encode_base64t(value: Value) -> Value:
        return base64.b64encode(_raw(value)).decode("ascii").rstrip("=")

    @staticmethod
    @transformation("s.encode.base64url")
    def s_encode_base64url(value: Value) -> Value:
        return base64.urlsafe_b64encode(_raw(value)).decode("ascii")

    @staticmethod
    @transformation("s.encode.base64urlt")
    def s_encode_base64urlt(value: Value) -> Value:
        return base64.urlsafe_b64encode(_raw(value)).decode("ascii").rstrip("=")

    @staticmethod
    @transformation("s.decode.base64url", "s.decode.base64urlt")
    def s_decode_base64url(value: Value) -> Value:
        data = _raw(value).rstrip(b"=")
        try:
            return base64.urlsafe_b64decode(data + b"=" * (-len(data) % 4)).decode("latin-1")
        except (binascii.Error, ValueError):
            return None

    # -- escapes ---------------------------------------------------------------------------------------------------------

    @staticmethod
    @transformation("s.escape.common")
    def s_escape_common(value: Value) -> Value:
        return "".join(_COMMON.get(c, c) for c in to_str(value))

    @staticmethod
    @transformation("s.unescape.common")
    def s_unescape_common(value: Value) -> Value:
        return re.sub(r"\\(['\"\\0])", lambda m: "\0" if m.group(1) == "0" else m.group(1), to_str(value))

    @staticmethod
    @transformation("s.escape.crlf")
    def s_escape_crlf(value: Value) -> Value:
        return to_str(value).replace("\r", "\\r").replace("\n", "\\n")

    @staticmethod
    @transformation("s.unescape.crlf")
    def s_unescape_crlf(value: Value) -> Value:
        return to_str(value).replace("\\r", "\r").replace("\\n", "\n")

    @staticmethod
    @transformation("s.escape.user")
    def s_escape_user(value: Value) -> Value:
        return _percent(to_str(value), _USER_SAFE)

    @staticmethod
    @transformation("s.unescape.user", "s.unescape.param")
    def s_unescape_user(value: Value) -> Value:
        """Only printable ASCII comes out of escapes: a CR LF in there would begin a new header."""
        text = to_str(value)
        return _unpercent(text) if all(32 <= int(code, 16) <= 126 for code in _ESCAPE.findall(text)) else None

    @staticmethod
    @transformation("s.urldecode.param")
    def s_urldecode(value: Value) -> Value:
        return _unpercent(to_str(value))

    @staticmethod
    @transformation("s.escape.param")
    def s_escape_param(value: Value) -> Value:
        return _percent(to_str(value), _PARAM_SAFE)

    @staticmethod
    @transformation("s.urlencode.param")
    def s_urlencode(value: Value) -> Value:
        return _percent(to_str(value), _URL_SAFE)

    @staticmethod
    @transformation("s.escape.csv")
    def s_escape_csv(value: Value) -> Value:
        text = to_str(value).replace('"', '""')
        return f'"{text}"'

    # -- cutting ---------------------------------------------------------------------------------------------------------

    @staticmethod
    @transformation("s.substr")
    def s_substr(value: Value, offset: int, length: int) -> Value:
        text = to_str(value)
        if offset < 0:
            offset += len(text)
        if not 0 <= offset < len(text):
            return None
        return text[offset:] if length <= 0 else text[offset : offset + length]

    @staticmethod
    @transformation("s.select")
    def s_select(value: Value, index: int, sep: str) -> Value:
        fields = to_str(value).split(sep) if sep else [to_str(value)]
        return fields[index] if -len(fields) <= index < len(fields) else ""

    @staticmethod
    @transformation("s.selectsw")
    def s_selectsw(value: Value, index: int) -> Value:
        fields = re.split(r"[ \t\r\n]", to_str(value))
        return fields[index] if -len(fields) <= index < len(fields) else ""

    @staticmethod
    @transformation("s.strip")
    def s_strip(value: Value, count: int) -> Value:
        return to_str(value)[count:]

    @staticmethod
    @transformation("s.striptail")
    def s_striptail(value: Value, count: int) -> Value:
        text = to_str(value)
        return text[: len(text) - count] if count < len(text) else ""

    @staticmethod
    @transformation("s.stripto")
    def s_stripto(value: Value, char: str) -> Value:
        text = to_str(value)
        at = text.find(char[:1])
        return text[at:] if at >= 0 else ""

    @staticmethod
    @transformation("s.prefixes")
    def s_prefixes(value: Value, limit: int = 0) -> Value:
        text = to_str(value)
        return ",".join(text[:i] for i in range(1, min(len(text), limit or len(text)) + 1))

    @staticmethod
    @transformation("s.prefixes.quoted")
    def s_prefixes_quoted(value: Value, limit: int = 0) -> Value:
        text = to_str(value)
        return ",".join(f"'{text[:i]}'" for i in range(1, min(len(text), limit or len(text)) + 1))

    @staticmethod
    @transformation("s.replace")
    def s_replace(value: Value, match: str, new: str) -> Value:
        return to_str(value).replace(match, new) if match else to_str(value)

    @staticmethod
    @transformation("s.ftime")
    def s_ftime(value: Value, fmt: str) -> Value:
        return time.strftime(fmt, time.localtime(to_int(value)))

    @staticmethod
    @transformation("s.trim")
    def s_trim(value: Value) -> Value:
        return to_str(value).strip(" \t\r\n")

    @staticmethod
    @transformation("s.rtrim")
    def s_rtrim(value: Value) -> Value:
        return to_str(value).rstrip(" \t\r\n")

    @staticmethod
    @transformation("s.ltrim")
    def s_ltrim(value: Value) -> Value:
        return to_str(value).lstrip(" \t\r\n")

    @staticmethod
    @transformation("s.rm")
    def s_rm(value: Value, match: str) -> Value:
        return to_str(value).replace(match, "") if match else to_str(value)

    @staticmethod
    @transformation("s.rmws")
    def s_rmws(value: Value) -> Value:
        return re.sub(r"[ \t\r\n]", "", to_str(value))

    @staticmethod
    @transformation("s.rmhdws", "s.rmhlws")
    def s_rmhdws(value: Value) -> Value:
        return re.sub(r"[ \t]*\r?\n[ \t]+", " ", to_str(value))

    @staticmethod
    @transformation("s.unquote")
    def s_unquote(value: Value) -> Value:
        text = to_str(value)
        return text[1:-1] if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'" else text

    @staticmethod
    @transformation("s.unbracket")
    def s_unbracket(value: Value) -> Value:
        text = to_str(value)
        pairs = {"(": ")", "[": "]", "{": "}", "<": ">"}
        return text[1:-1] if len(text) >= 2 and pairs.get(text[0]) == text[-1] else text

    @staticmethod
    @transformation("s.count")
    def s_count(value: Value, char: str) -> Value:
        return to_str(value).count(char[:1]) if char else 0

    @staticmethod
    @transformation("s.before")
    def s_before(value: Value, char: str) -> Value:
        return to_str(value).split(char[:1], 1)[0]

    @staticmethod
    @transformation("s.after")
    def s_after(value: Value, char: str) -> Value:
        _, found, rest = to_str(value).partition(char[:1])
        return rest if found else ""

    @staticmethod
    @transformation("s.rbefore")
    def s_rbefore(value: Value, char: str) -> Value:
        head, found, _ = to_str(value).rpartition(char[:1])
        return head if found else to_str(value)

    @staticmethod
    @transformation("s.rafter")
    def s_rafter(value: Value, char: str) -> Value:
        _, found, tail = to_str(value).rpartition(char[:1])
        return tail if found else ""

    @staticmethod
    def _lines(value: Value, width: int, count: int, lead: str) -> str:
        """Kamailio breaks after each of the first width-1 characters; kept as recorded."""
        text = to_str(value)
        pad = lead * count
        head = "\r\n".join((pad if i else "") + c for i, c in enumerate(text[: width - 1])) if width > 1 else ""
        return f"{head}\r\n{pad}{text[width - 1:]}" if head else text

    @staticmethod
    @transformation("s.fmtlines")
    def s_fmtlines(value: Value, width: int, count: int) -> Value:
        return StringTransformations._lines(value, width, count, " ")

    @staticmethod
    @transformation("s.fmtlinet")
    def s_fmtlinet(value: Value, width: int, count: int) -> Value:
        return StringTransformations._lines(value, width, count, "\t")

    @staticmethod
    @transformation("s.charat")
    def s_charat(value: Value, index: int) -> Value:
        text = to_str(value)
        return text[index] if -len(text) <= index < len(text) else None

    @staticmethod
    @transformation("s.byteat")
    def s_byteat(value: Value, index: int) -> Value:
        text = to_str(value)
        return ord(text[index]) if -len(text) <= index < len(text) else None

    @staticmethod
    @transformation("s.corehash")
    def s_corehash(value: Value, size: int = 0) -> Value:
        number = core_hash(to_str(value))
        return str(number & (size - 1) if size > 0 else number)

    # -- class val, num --------------------------------------------------------------------------------------------------

    @staticmethod
    @transformation("num.fdigit")
    def num_fdigit(value: Value) -> Value:
        return to_str(value).lstrip("-")[:1]

    @staticmethod
    @transformation("num.ldigit")
    def num_ldigit(value: Value) -> Value:
        return to_str(value)[-1:]
