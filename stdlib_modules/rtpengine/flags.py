"""The flags of the module's functions, as the dictionary that goes to rtpengine. What is not special goes there as it is: a word into ``flags``,
``key=value`` as a key."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

_TRANSPORTS: Final = frozenset({"RTP/AVP", "RTP/SAVP", "RTP/AVPF", "RTP/SAVPF", "UDP/TLS/RTP/SAVP", "UDP/TLS/RTP/SAVPF"})
_INTERFACES: Final = ("internal", "external")
#: prefix of a word → list that the rest of it goes into
_LISTS: Final = {"replace-": "replace", "rtcp-mux-": "rtcp-mux", "SDES-": "SDES", "T38-": "T.38", "T.38-": "T.38"}
#: keys whose values are collected
_COLLECTED: Final = {"direction": "direction", "rtcp-mux": "rtcp-mux", "SDES": "SDES", "T.38": "T.38", "T38": "T.38", "replace": "replace"}
_NUMBERS: Final = ("TOS", "repacketize")
_CODECS: Final = ("strip", "offer", "mask", "transcode", "set", "except", "consume", "accept")
#: keys that say which call is meant, and nothing to rtpengine
_NAMES: Final = ("call-id", "from-tag", "to-tag", "via-branch", "received-from")


@dataclass(slots=True)
class Flags:
    """``fields`` go along; the rest says which call is meant, and how."""

    fields: dict[str, Any] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    #: the To tag of the message goes along
    to_tag: bool = False
    directional: bool = False

    def _append(self, key: str, value: str) -> None:
        self.fields.setdefault(key, []).append(value)

    def _codec(self, what: str, name: str) -> None:
        self.fields.setdefault("codec", {}).setdefault(what, []).append(name)

    def word(self, text: str) -> None:
        """One without a value."""
        for prefix, key in _LISTS.items():
            if text.startswith(prefix) and len(text) > len(prefix):
                self._append(key, text[len(prefix) :])
                return
        kind, _, codec = text.removeprefix("codec-").partition("-")
        if codec and ((text.startswith("codec-") and kind in _CODECS) or kind == "transcode"):
            self._codec(kind, codec)
        elif text in _INTERFACES:
            self._append("direction", text)
        elif text in _TRANSPORTS:
            self.fields["transport-protocol"] = text
        elif text == "to-tag":
            self.to_tag = True
        elif text == "directional":
            self.directional = True
        else:
            self._append("flags", text)

    def value(self, key: str, text: str) -> None:
        """``key=text``."""
        if key in _NAMES:
            self.names[key] = text
        elif key in _COLLECTED:
            self._append(_COLLECTED[key], text)
        elif key in _NUMBERS and text.isdecimal():
            self.fields[key] = int(text)
        elif key == "transcode":
            self._codec(key, text)
        else:
            if key == "delete-delay" and text.isdecimal():
                self.fields["delete delay"] = int(text)
            self.fields[key] = text


def parse(text: str) -> Flags:
    """Words, separated by blanks. RTP, SRTP, AVP and AVPF together are a transport."""
    found = Flags()
    short: set[str] = set()
    for word in text.split():
        key, equal, value = word.partition("=")
        if word in ("RTP", "SRTP", "AVP", "AVPF"):
            short.add(word)
        elif equal and key:
            found.value(key, value)
        else:
            found.word(word)
    if short:
        found.fields["transport-protocol"] = f"RTP/{'S' if 'SRTP' in short else ''}AVP{'F' if 'AVPF' in short else ''}"
    return found
