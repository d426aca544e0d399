"""Rules for statements and core function calls."""

from __future__ import annotations

from typing import Any

from kamc import nodes as n
from kamc.grammar.base import GrammarBase


class StatementRules(GrammarBase):
    #: names of flags declared so far
    declared_flags: set[str]

    def p_actions(self, p: Any) -> None:
        """actions : action
        | actions action"""
        if len(p) == 2:
            p[0] = [p[1]]
        else:
            p[1].append(p[2])
            p[0] = p[1]

    def p_action_simple(self, p: Any) -> None:
        """action : command SEMICOLON"""
        p[0] = p[1]

    def p_action_compound(self, p: Any) -> None:
        """action : if_stmt
        | while_stmt
        | switch_stmt"""
        p[0] = p[1]

    def p_action_null(self, p: Any) -> None:
        """action : SEMICOLON"""
        p[0] = n.Null(span=self.at(p))

    def p_action_error(self, p: Any) -> None:
        """action : error SEMICOLON"""
        self.recovered()
        p[0] = n.Null(span=self.at(p, 2))

    def p_command_call(self, p: Any) -> None:
        """command : call"""
        p[0] = n.ExprStmt(span=self.at(p), call=p[1])

    def p_command_assign(self, p: Any) -> None:
        """command : lvalue EQUAL expr"""
        p[0] = n.Assign(span=self.whole(p), target=p[1], value=p[3])

    def p_command_control(self, p: Any) -> None:
        """command : CONTROL
        | CONTROL LPAREN RPAREN
        | CONTROL expr"""
        p[0] = n.Control(span=self.whole(p), kind=p[1], value=p[2] if len(p) == 3 else None)

    def p_command_break(self, p: Any) -> None:
        """command : BREAK"""
        p[0] = n.Control(span=self.at(p), kind="break", value=None)

    # -- compound --------------------------------------------------------------------------------------------------------

    def p_body(self, p: Any) -> None:
        """body : action"""
        p[0] = n.Block(span=self.at(p), body=(p[1],), braces=False)

    def p_body_block(self, p: Any) -> None:
        """body : LBRACE actions RBRACE"""
        p[0] = n.Block(span=self.whole(p), body=tuple(p[2]))

    def p_if(self, p: Any) -> None:
        """if_stmt : IF expr body %prec LOWER_THAN_ELSE
        | IF expr body ELSE body"""
        seen = self.spans[-1]
        p[0] = n.If(span=self.whole(p), test=p[2], then=p[3], orelse=p[5] if len(p) == 6 else None, seen=seen)

    def p_while(self, p: Any) -> None:
        """while_stmt : WHILE expr body"""
        p[0] = n.While(span=self.whole(p), test=p[2], body=p[3], seen=self.spans[-1])

    def p_switch(self, p: Any) -> None:
        """switch_stmt : SWITCH expr LBRACE cases RBRACE
        | SWITCH expr LBRACE RBRACE"""
        p[0] = n.Switch(span=self.whole(p), value=p[2], cases=tuple(p[4]) if len(p) == 6 else (), seen=self.spans[-1])

    def p_cases(self, p: Any) -> None:
        """cases : case
        | cases case"""
        if len(p) == 2:
            p[0] = [p[1]]
        else:
            p[1].append(p[2])
            p[0] = p[1]

    def p_case(self, p: Any) -> None:
        """case : CASE expr COLON case_body"""
        p[0] = n.Case(span=self.at(p, 1).to(self.at(p, 2)), value=p[2], regex=False, body=tuple(p[4]))

    def p_case_regex(self, p: Any) -> None:
        """case : CASE SLASH expr COLON case_body"""
        p[0] = n.Case(span=self.at(p, 1).to(self.at(p, 3)), value=p[3], regex=True, body=tuple(p[5]))

    def p_case_default(self, p: Any) -> None:
        """case : DEFAULT COLON case_body"""
        p[0] = n.Case(span=self.at(p, 1), value=None, regex=False, body=tuple(p[3]))

    def p_case_body(self, p: Any) -> None:
        """case_body : actions
        | empty"""
        p[0] = p[1] or []

    def p_empty(self, p: Any) -> None:
        """empty :"""
        p[0] = None

    # -- core functions --------------------------------------------------------------------------------------------------

    def _core(self, p: Any, *args: n.Node, bare: bool = False) -> None:
        p[0] = n.CoreCall(span=self.whole(p), name=p[1], args=args, bare=bare)

    def p_core_str(self, p: Any) -> None:
        """core_call : STR_FN LPAREN string RPAREN
        | LOG LPAREN string RPAREN
        | CFG_RESET LPAREN string RPAREN"""
        self._core(p, p[3])

    def p_core_int(self, p: Any) -> None:
        """core_call : INT_FN LPAREN number RPAREN
        | SET_ADV_PORT LPAREN number RPAREN
        | TCP_ALIAS LPAREN number RPAREN
        | REMOVE_BRANCH LPAREN signed RPAREN"""
        self._core(p, p[3])

    def p_core_two(self, p: Any) -> None:
        """core_call : LOG LPAREN number COMMA string RPAREN
        | ERROR LPAREN string COMMA string RPAREN
        | CFG_SELECT LPAREN string COMMA expr RPAREN"""
        self._core(p, p[3], p[5])

    def p_core_empty(self, p: Any) -> None:
        """core_call : EMPTY_FN LPAREN RPAREN
        | BARE_FN LPAREN RPAREN
        | RPORT LPAREN RPAREN
        | TCP_ALIAS LPAREN RPAREN
        | REMOVE_BRANCH LPAREN RPAREN
        | FORWARD LPAREN RPAREN"""
        self._core(p)

    def p_core_bare(self, p: Any) -> None:
        """core_call : BARE_FN
        | RPORT
        | TCP_ALIAS"""
        self._core(p, bare=True)

    def p_core_flag(self, p: Any) -> None:
        """core_call : FLAG_FN LPAREN number RPAREN
        | FLAG_FN LPAREN flag_name RPAREN"""
        self._core(p, p[3])

    def p_core_avpflag(self, p: Any) -> None:
        """core_call : AVPFLAG_FN LPAREN avp_arg COMMA flag_name RPAREN"""
        self._core(p, p[3], p[5])

    def p_avp_arg(self, p: Any) -> None:
        """avp_arg : string
        | attr
        | pvar"""
        p[0] = p[1]

    def p_flag_name(self, p: Any) -> None:
        """flag_name : ID"""
        p[0] = n.Word(span=self.at(p), text=p[1])

    def p_flag_name_string(self, p: Any) -> None:
        """flag_name : STRING"""
        if p[1][0] not in self.declared_flags:
            self.fail("K0111", self.at(p), f"flag {p[1][0]!r} is not declared", f"flags {p[1][0]};")
        p[0] = n.Word(span=self.at(p), text=p[1][0], kind="quoted")

    def p_core_forward(self, p: Any) -> None:
        """core_call : FORWARD LPAREN fwd_host RPAREN
        | FORWARD LPAREN fwd_host COMMA fwd_port RPAREN"""
        if len(p) == 7 and isinstance(p[5], n.Word) and not (isinstance(p[3], n.Word) and p[3].kind == "uri:host"):
            self.fail("K0101", self.at(p, 5), "syntax error: uri:port goes with uri:host only")
        self._core(p, *((p[3],) if len(p) == 5 else (p[3], p[5])))

    def p_fwd_host(self, p: Any) -> None:
        """fwd_host : host_name
        | ip
        | URIHOST"""
        p[0] = n.Word(span=self.at(p), text=p[1], kind="uri:host" if p[1] == "uri:host" else "host")

    def p_fwd_host_string(self, p: Any) -> None:
        """fwd_host : string"""
        p[0] = p[1]

    def p_fwd_port(self, p: Any) -> None:
        """fwd_port : number"""
        p[0] = p[1]

    def p_fwd_port_uri(self, p: Any) -> None:
        """fwd_port : URIPORT"""
        p[0] = n.Word(span=self.at(p), text=p[1], kind="uri:port")

    def p_core_proto(self, p: Any) -> None:
        """core_call : UDP_MTU_TRY_PROTO LPAREN PROTO RPAREN"""
        self._core(p, n.Word(span=self.at(p, 3), text=p[3].lower(), kind="proto"))

    def p_core_address(self, p: Any) -> None:
        """core_call : SET_ADV_ADDRESS LPAREN address RPAREN"""
        self._core(p, n.Word(span=self.at(p, 3), text=p[3], kind="host"))

    def p_core_socket(self, p: Any) -> None:
        """core_call : FORCE_SEND_SOCKET LPAREN socket_id RPAREN"""
        self._core(p, p[3])
