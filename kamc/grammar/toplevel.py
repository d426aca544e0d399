"""Rules for the top level: parameters, sockets, modules, flags, route blocks."""

from __future__ import annotations

import difflib
from typing import Any

from kamc import catalogue
from kamc import nodes as n
from kamc.grammar.base import GrammarBase

_NUMBER_TYPES = ("int", "bool", "signed int")


class TopLevelRules(GrammarBase):
    items: list[n.Item]
    declared_flags: set[str]

    def p_cfg(self, p: Any) -> None:
        """cfg : items"""

    def p_items(self, p: Any) -> None:
        """items : item
        | items item"""

    def p_item(self, p: Any) -> None:
        """item : param
        | custom
        | listen
        | alias
        | flags
        | module
        | block"""
        self.items.append(p[1])

    def p_item_null(self, p: Any) -> None:
        """item : SEMICOLON
        | SUBST"""
        self.saw_statement()

    def saw_statement(self) -> None: ...

    # -- parameters ------------------------------------------------------------------------------------------------------

    def p_param(self, p: Any) -> None:
        """param : PARAM EQUAL param_value
        | RPORT EQUAL param_value
        | UDP_MTU_TRY_PROTO EQUAL param_value"""
        p[0] = n.CoreParam(span=self.whole(p), name=p[1], value=p[3])
        self._check_param(p[1], p[3])

    def _check_param(self, name: str, value: n.Node) -> None:
        row = catalogue.core_params()[name]
        allowed = row["type"].split("|")
        kind = {n.Int: "int", n.Str: "string"}.get(type(value), "word")
        if kind == "int":
            number = isinstance(value, n.Int) and value.value
            ok = any(t in _NUMBER_TYPES for t in allowed) and (number >= 0 or "signed int" in allowed)
        elif kind == "string":
            ok = bool({"string", "address", "identifier"} & set(allowed)) and allowed != ["identifier"]
        else:
            ok = bool({"identifier", "address", "ipv4", "ipv6", "proto"} & set(allowed))
        if not ok:
            wanted = {"bool": "yes or no", "int": "a number", "signed int": "a number", "string": "a quoted string"}.get(allowed[0], allowed[0])
            self.fail("K0110", value.span, f"core parameter '{name}' wants {wanted}")

    def p_param_unknown(self, p: Any) -> None:
        """param : ID EQUAL param_value"""
        instead = catalogue.removed("core_params", p[1])
        if instead is not None:
            self.fail("K0308", self.at(p, 1), f"core parameter '{p[1]}' was removed from Kamailio", f"instead: {instead}")
        else:
            close = difflib.get_close_matches(p[1], catalogue.core_params(), 1)
            self.fail("K0113", self.at(p, 1), f"unknown core parameter '{p[1]}'", f"did you mean '{close[0]}'?" if close else None)
        p[0] = n.CoreParam(span=self.whole(p), name=p[1], value=p[3])

    def p_param_value(self, p: Any) -> None:
        """param_value : signed
        | string"""
        p[0] = p[1]

    def p_param_value_word(self, p: Any) -> None:
        """param_value : host_name
        | ip
        | PROTO
        | RESERVED"""
        p[0] = n.Word(span=self.at(p), text=p[1])

    def p_coreparam(self, p: Any) -> None:
        """param : COREPARAM LBRACK param_key RBRACK EQUAL signed
        | COREPARAM LBRACK param_key RBRACK EQUAL string"""
        p[0] = n.CoreParam(span=self.whole(p), name=f"coreparam[{p[3]}]", value=p[6])

    def p_param_key(self, p: Any) -> None:
        """param_key : ID
        | PARAM"""
        p[0] = p[1]

    def p_param_key_string(self, p: Any) -> None:
        """param_key : STRING"""
        p[0] = p[1][0]

    def p_kemi(self, p: Any) -> None:
        """param : KEMI DOT KEMI_PARAM EQUAL string"""
        p[0] = n.CoreParam(span=self.whole(p), name=f"kemi.{p[3]}", value=p[5])

    # -- custom variables ------------------------------------------------------------------------------------------------

    def p_custom(self, p: Any) -> None:
        """custom : ID custom_instance DOT custom_name EQUAL custom_value
        | ID custom_instance DOT custom_name EQUAL custom_value DESC STRING"""
        description = p[8][0] if len(p) == 9 else None
        p[0] = n.CustomVar(span=self.whole(p), group=p[1], name=p[4], value=p[6], instance=p[2], description=description)

    def p_custom_default(self, p: Any) -> None:
        """custom : DEFAULT custom_instance DOT custom_name EQUAL custom_value
        | DEFAULT custom_instance DOT custom_name EQUAL custom_value DESC STRING"""
        self.p_custom(p)

    def p_custom_instance(self, p: Any) -> None:
        """custom_instance : LBRACK NUMBER RBRACK
        | empty"""
        p[0] = p[2][0] if len(p) == 4 else None

    def p_custom_name(self, p: Any) -> None:
        """custom_name : ID
        | DEFAULT"""
        p[0] = p[1]

    def p_custom_value(self, p: Any) -> None:
        """custom_value : signed
        | string"""
        p[0] = p[1]

    # -- sockets ---------------------------------------------------------------------------------------------------------

    def p_listen(self, p: Any) -> None:
        """listen : LISTEN EQUAL sockets listen_adv listen_name listen_virtual"""
        p[0] = n.Listen(span=self.whole(p), sockets=tuple(p[3]), advertise=p[4], name=p[5], virtual=p[6])

    def p_listen_adv(self, p: Any) -> None:
        """listen_adv : ADVERTISE socket_id
        | empty"""
        p[0] = p[2] if len(p) == 3 else None

    def p_listen_name(self, p: Any) -> None:
        """listen_name : NAME STRING
        | empty"""
        p[0] = p[2][0] if len(p) == 3 else None

    def p_listen_virtual(self, p: Any) -> None:
        """listen_virtual : VIRTUAL
        | empty"""
        p[0] = p[1] is not None

    def p_alias(self, p: Any) -> None:
        """alias : ALIAS EQUAL sockets"""
        p[0] = n.Alias(span=self.whole(p), sockets=tuple(p[3]), keyword=p[1])

    def p_sockets(self, p: Any) -> None:
        """sockets : socket_id
        | sockets socket_id"""
        if len(p) == 2:
            p[0] = [p[1]]
        else:
            p[1].append(p[2])
            p[0] = p[1]

    def p_socket_id(self, p: Any) -> None:
        """socket_id : socket_addr
        | socket_addr COLON socket_port
        | socket_proto COLON socket_addr
        | socket_proto COLON socket_addr COLON socket_port"""
        proto = p[1] if len(p) > 2 and isinstance(p[1], str) and isinstance(p[3], tuple) else ""
        addresses = p[3] if proto else p[1]
        port = p[5] if len(p) == 6 else (p[3] if len(p) == 4 and not proto else 0)
        p[0] = n.SocketId(span=self.whole(p), proto=proto, addresses=addresses, port=port)

    def p_socket_proto(self, p: Any) -> None:
        """socket_proto : PROTO
        | STAR"""
        p[0] = p[1].lower()

    def p_socket_port(self, p: Any) -> None:
        """socket_port : NUMBER
        | STAR"""
        p[0] = -1 if p[1] == "*" else p[1][0]

    def p_socket_addr(self, p: Any) -> None:
        """socket_addr : address
        | LPAREN address_list RPAREN"""
        p[0] = (p[1],) if len(p) == 2 else tuple(p[2])

    def p_address_list(self, p: Any) -> None:
        """address_list : address
        | address_list COMMA address"""
        p[0] = [p[1]] if len(p) == 2 else [*p[1], p[3]]

    def p_address(self, p: Any) -> None:
        """address : ip
        | host_name"""
        p[0] = p[1]

    def p_address_string(self, p: Any) -> None:
        """address : STRING"""
        p[0] = p[1][0]

    def p_socket_block(self, p: Any) -> None:
        """listen : SOCKET EQUAL LBRACE socket_attrs RBRACE"""
        p[0] = n.SocketBlock(span=self.whole(p), attrs=tuple(a for a in p[4] if a is not None))

    def p_socket_attrs(self, p: Any) -> None:
        """socket_attrs : socket_attr
        | socket_attrs socket_attr"""
        p[0] = [p[1]] if len(p) == 2 else [*p[1], p[2]]

    def p_socket_attr(self, p: Any) -> None:
        """socket_attr : BIND EQUAL socket_id
        | BIND EQUAL socket_range
        | NAME EQUAL string
        | AGNAME EQUAL string
        | VRF EQUAL string
        | ADVERTISE EQUAL socket_id
        | VIRTUAL EQUAL number"""
        p[0] = (p[1].lower(), p[3])

    def p_socket_range(self, p: Any) -> None:
        """socket_range : socket_addr COLON NUMBER MINUS NUMBER
        | socket_proto COLON socket_addr COLON NUMBER MINUS NUMBER"""
        proto, addresses, low, high = ("", p[1], p[3], p[5]) if len(p) == 6 else (p[1], p[3], p[5], p[7])
        p[0] = n.SocketRange(span=self.whole(p), proto=proto, addresses=addresses, port=low[0], last_port=high[0])

    def p_socket_attr_null(self, p: Any) -> None:
        """socket_attr : SEMICOLON"""
        p[0] = None

    # -- flags -----------------------------------------------------------------------------------------------------------

    def p_flags(self, p: Any) -> None:
        """flags : FLAGS flag_list
        | AVPFLAGS flag_list"""
        p[0] = n.Flags(span=self.whole(p), keyword=p[1], flags=tuple(p[2]))

    def p_flag_list(self, p: Any) -> None:
        """flag_list : flag
        | flag_list COMMA flag"""
        p[0] = [p[1]] if len(p) == 2 else [*p[1], p[3]]

    def p_flag(self, p: Any) -> None:
        """flag : flag_id
        | flag_id COLON NUMBER"""
        number = p[3][0] if len(p) == 4 else None
        if number is not None and not 0 <= number <= 31:
            self.fail("K0111", self.at(p, 3), f"flag position {number} is not within 0 and 31")
        self.declared_flags.add(p[1])
        p[0] = (p[1], number)

    def p_flag_id(self, p: Any) -> None:
        """flag_id : ID"""
        p[0] = p[1]

    def p_flag_id_string(self, p: Any) -> None:
        """flag_id : STRING"""
        p[0] = p[1][0]

    # -- modules ---------------------------------------------------------------------------------------------------------

    def p_loadmodule(self, p: Any) -> None:
        """module : LOADMODULE STRING
        | LOADMODULE LPAREN STRING RPAREN
        | LOADMODULE LPAREN STRING COMMA STRING RPAREN"""
        name = p[2] if len(p) == 3 else p[3]
        node = n.LoadModule(span=self.whole(p), keyword=p[1], name=name[0], opts=p[5][0] if len(p) == 7 else None)
        p[0] = node
        self.module_loaded(node)

    def module_loaded(self, node: n.LoadModule) -> None: ...

    def p_loadpath(self, p: Any) -> None:
        """module : LOADPATH STRING
        | LOADPATH EQUAL STRING"""
        p[0] = n.LoadPath(span=self.whole(p), keyword=p[1], path=p[len(p) - 1][0])

    def p_cfgengine(self, p: Any) -> None:
        """module : CFGENGINE STRING
        | CFGENGINE EQUAL STRING"""
        p[0] = n.CfgEngine(span=self.whole(p), engine=p[len(p) - 1][0])

    def p_modparam(self, p: Any) -> None:
        """module : MODPARAM LPAREN string COMMA string COMMA mod_value RPAREN"""
        p[0] = n.ModParam(span=self.whole(p), keyword=p[1], module=p[3], param=p[5], value=p[7])
        if isinstance(p[7], n.PvRef) and p[1] != "modparamx":
            self.fail("K0101", p[7].span, "modparam takes a literal value", "modparamx evaluates variables")

    def p_mod_value(self, p: Any) -> None:
        """mod_value : signed
        | string
        | pvar"""
        p[0] = p[1]

    # -- route blocks ----------------------------------------------------------------------------------------------------

    def p_block_unnamed(self, p: Any) -> None:
        """block : ROUTE block_body
        | REQUEST_ROUTE block_body
        | REPLY_ROUTE block_body
        | ONREPLY_ROUTE block_body
        | OTHER_ROUTE block_body"""
        self._block(p, None, p[2], False)

    def p_block_named(self, p: Any) -> None:
        """block : ROUTE LBRACK route_name RBRACK block_body
        | ONREPLY_ROUTE LBRACK route_name RBRACK block_body
        | OTHER_ROUTE LBRACK route_name RBRACK block_body"""
        name, quoted = p[3]
        self._block(p, None if name == "0" else name, p[5], quoted, zero=name == "0")

    def p_block_event(self, p: Any) -> None:
        """block : EVENT_ROUTE LBRACK RBRACK block_body"""
        name = p[2][1] if isinstance(p[2], tuple) else ""
        if not name:
            self.fail("K0405", self.at(p, 2), "an event route needs a name of the form module:event")
        self._block(p, name, p[4], False)

    def _block(self, p: Any, name: str | None, body: n.Block, quoted: bool, *, zero: bool = False) -> None:
        word = p[1]
        kind = {"route": "request", "request_route": "request", "onreply_route": "reply"}.get(word, word.removesuffix("_route"))
        head = self.at(p, 1).to(self.at(p, len(p) - 2)) if len(p) > 3 else self.at(p, 1)
        p[0] = n.RouteBlock(span=head, kind=kind, name=name, body=body, keyword=word, quoted=quoted, zero=zero)

    def p_block_body(self, p: Any) -> None:
        """block_body : LBRACE actions RBRACE"""
        p[0] = n.Block(span=self.whole(p), body=tuple(p[2]))

    def p_route_name_number(self, p: Any) -> None:
        """route_name : NUMBER"""
        p[0] = (str(p[1][0]), False)

    def p_route_name(self, p: Any) -> None:
        """route_name : ID"""
        p[0] = (p[1], False)

    def p_route_name_string(self, p: Any) -> None:
        """route_name : STRING"""
        p[0] = (p[1][0], True)
