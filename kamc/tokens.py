"""Words, token types and the small readings of text that the scanner is made of."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from kamc import catalogue
from kamc.source import ESCAPE

# -- words -------------------------------------------------------------------------------------------------------------------

_TRUE: Final = ("yes", "true", "on", "enable")
_FALSE: Final = ("no", "false", "off", "disable")
#: words that are numbers
NUMBER_WORDS: Final[dict[str, int]] = {
    **dict.fromkeys(_TRUE, 1),
    **dict.fromkeys(_FALSE, 0),
    **dict.fromkeys(("inet", "INET", "ipv4", "IPv4", "IPV4"), 2),
    **dict.fromkeys(("inet6", "INET6", "ipv6", "IPv6", "IPV6"), 10),
}
KEYWORDS: Final[dict[str, tuple[str, ...]]] = {
    "ROUTE": ("route",),
    "REQUEST_ROUTE": ("request_route",),
    "REPLY_ROUTE": ("reply_route",),
    "ONREPLY_ROUTE": ("onreply_route",),
    "OTHER_ROUTE": ("failure_route", "branch_route", "onsend_route"),
    "EVENT_ROUTE": ("event_route",),
    "IF": ("if",), "ELSE": ("else",), "SWITCH": ("switch",), "CASE": ("case",), "DEFAULT": ("default",), "WHILE": ("while",),
    "CONTROL": ("exit", "drop", "return"), "BREAK": ("break",),
    "LOG_OR": ("or",), "LOG_AND": ("and",), "NOT": ("not",), "MODULO": ("mod",),
    "WORD_EQUAL": ("eq", "ne", "ieq", "ine"),
    "DEFINED": ("defined",), "STRLEN": ("strlen",), "STREMPTY": ("strempty",), "SELVAL": ("selval",),
    "TEST_STR": ("method", "uri", "status", "from_uri", "to_uri"),
    "TEST_IP": ("src_ip", "dst_ip"), "TEST_IP_ONSEND": ("snd_ip", "to_ip"),
    "TEST_INT": ("src_port", "dst_port", "snd_port", "to_port", "af", "snd_af", "to_af", "msg:len"),
    "TEST_PROTO": ("proto", "snd_proto", "to_proto"),
    "MYSELF": ("myself",),
    "PROTO": ("udp", "UDP", "tcp", "TCP", "tls", "TLS", "sctp", "SCTP"), "WSPROTO": ("ws", "WS", "wss", "WSS"),
    "LISTEN": ("listen",), "ALIAS": ("alias", "domain"), "SOCKET": ("socket",),
    "ADVERTISE": ("advertise", "ADVERTISE"), "NAME": ("name", "NAME"), "VIRTUAL": ("virtual",), "BIND": ("bind",),
    "AGNAME": ("agname", "AGNAME"), "VRF": ("vrf", "VRF"),
    "FLAGS": ("flags", "bool"), "AVPFLAGS": ("avpflags",),
    "LOADMODULE": ("loadmodule", "loadmodulex"), "LOADPATH": ("loadpath", "mpath"), "CFGENGINE": ("cfgengine",),
    "MODPARAM": ("modparam", "modparamx"), "COREPARAM": ("coreparam",), "KEMI": ("kemi",),
    "KEMI_PARAM": ("request_route_callback", "onsend_route_callback", "reply_route_callback", "event_route_callback",
                   "received_route_callback", "pre_routing_callback"),
    "DESC": ("desc", "descr", "description"),
    "URIHOST": ("uri:host",), "URIPORT": ("uri:port",),
    "FORWARD": ("forward", "forward_udp", "forward_tcp", "forward_tls", "forward_sctp"),
    "LOG": ("log",), "ERROR": ("error",),
    "FLAG_FN": ("setflag", "resetflag", "isflagset"),
    "AVPFLAG_FN": ("setavpflag", "resetavpflag", "isavpflagset"),
    "STR_FN": ("exec", "rewritehost", "sethost", "seth", "prefix", "rewritehostport", "sethostport", "sethp", "rewritehostporttrans",
               "sethostporttrans", "sethpt", "rewriteport", "setport", "setp", "rewriteuser", "setuser", "setu", "rewriteuserpass",
               "setuserpass", "setup", "rewriteuri", "seturi"),
    "INT_FN": ("strip", "strip_tail"),
    "EMPTY_FN": ("userphone", "clear_branches"),
    "BARE_FN": ("revert_uri", "add_local_rport", "set_forward_no_connect", "set_reply_no_connect", "set_forward_close", "set_reply_close"),
    "RPORT": ("force_rport", "add_rport"),
    "TCP_ALIAS": ("force_tcp_alias", "add_tcp_alias"),
    "REMOVE_BRANCH": ("remove_branch",),
    "UDP_MTU_TRY_PROTO": ("udp_mtu_try_proto",),
    "SET_ADV_ADDRESS": ("set_advertised_address",), "SET_ADV_PORT": ("set_advertised_port",),
    "FORCE_SEND_SOCKET": ("force_send_socket",),
    "CFG_SELECT": ("cfg_select",), "CFG_RESET": ("cfg_reset",),
}  # fmt: skip


@lru_cache(maxsize=1)
def keywords() -> dict[str, str]:
    """Every reserved word → token type. Core parameters are PARAM; words that no rule uses are RESERVED."""
    table = {word: kind for kind, words in KEYWORDS.items() for word in words}
    for name in catalogue.core_params():
        if name.isidentifier():
            table.setdefault(name, "PARAM")
    for word in catalogue.core()["keywords"]:
        if word.isidentifier() and word not in ("include_file", "import_file"):
            table.setdefault(word, "RESERVED")
    for word in NUMBER_WORDS:
        table[word] = "NUMBER"
    return table


TOKENS: Final = (
    *KEYWORDS, "PARAM", "RESERVED", "NUMBER", "NUMID", "ID", "STRING", "PVAR", "AVP", "SELECT", "IPV4", "IPV6",
    "EQUAL", "EQUAL_T", "DIFF", "MATCH", "BIN_OR", "BIN_AND", "BIN_XOR", "LSHIFT", "RSHIFT", "LT", "GT", "LTE", "GTE", "PLUS", "MINUS",
    "STAR", "SLASH", "BIN_NOT", "INTCAST", "STRCAST", "DOT", "COMMA", "SEMICOLON", "COLON", "LPAREN", "RPAREN", "LBRACE", "RBRACE",
    "LBRACK", "RBRACK", "SUBST", "UNUSED", "RESTART",
)  # fmt: skip

OPERATORS: Final[dict[str, str]] = {
    "+=": "UNUSED", "@": "UNUSED", "%": "UNUSED", "==": "EQUAL_T", "=~": "MATCH", "=": "EQUAL", "!=": "DIFF", "!": "NOT", "&&": "LOG_AND", "&": "BIN_AND", "||": "LOG_OR",
    "|": "BIN_OR", "<<": "LSHIFT", "<=": "LTE", "<": "LT", ">>": "RSHIFT", ">=": "GTE", ">": "GT", "+": "PLUS", "-": "MINUS", "*": "STAR",
    "/": "SLASH", "~": "BIN_NOT", "^": "BIN_XOR", ",": "COMMA", ";": "SEMICOLON", ":": "COLON", "(": "LPAREN", ")": "RPAREN", "{": "LBRACE",
    "}": "RBRACE", "[": "LBRACK", "]": "RBRACK", ".": "DOT",
}  # fmt: skip
_SIMPLE: Final = {"n": "\n", "r": "\r", "a": "\a", "t": "\t", '"': '"', "\\": "\\"}


def unescape(text: str) -> str:
    """The value of a double-quoted string. Unknown escapes keep their backslash; a zero byte ends the text."""

    def one(match: re.Match[str]) -> str:
        simple, hexa, octal, newline = match.groups()
        if simple is not None:
            return _SIMPLE[simple]
        if newline is not None:
            return ""
        return chr(int(hexa, 16) if hexa is not None else int(octal, 8) & 255)

    return ESCAPE.sub(one, text).split("\0", 1)[0] if "\\" in text else text


def describe_token(kind: str, text: str) -> str:
    """How a token is named in a message."""
    if kind == "STRING":
        return "a string"
    if kind in ("ID", "NUMID"):
        return f"identifier '{text}'"
    if kind == "NUMBER":
        return f"number {text}"
    if kind == "PVAR":
        return f"variable '{text}'"
    return f"'{text}'"


def to_number(text: str) -> int:
    """C's reading of a number: 32 bits for decimals."""
    if text[:2] in ("0x", "0X"):
        return int(text, 16)
    if text.endswith("b"):
        return int(text[:-1], 2)
    if text[0] == "0" and len(text) > 1:
        return int(text, 8)
    return ((int(text) + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


def closing_quote(data: str, start: int) -> int:
    """Offset of the quote that ends a double-quoted string, or -1."""
    at = start
    while True:
        at = data.find('"', at)
        if at < 0:
            return -1
        slashes = 0
        while data[at - 1 - slashes] == "\\" and at - 1 - slashes >= start:
            slashes += 1
        if slashes % 2 == 0:
            return at
        at += 1


def closing_bracket(data: str, start: int) -> int:
    """Offset after the bracket that closes the one at ``start``; -1 when the line ends first."""
    depth = 0
    for at in range(start, len(data)):
        c = data[at]
        if c == "(":
            depth += 1
        elif c == ")":
            depth -= 1
            if depth == 0:
                return at + 1
        elif c == "\n":
            return -1
    return -1


def line_end(data: str, start: int) -> int:
    """Offset of the newline that ends the logical line (a backslash continues it)."""
    at = start
    while True:
        end = data.find("\n", at)
        if end < 0:
            return len(data)
        before = end - 1 if end and data[end - 1] != "\r" else end - 2
        if before >= start and data[before] == "\\":
            at = end + 1
            continue
        return end
