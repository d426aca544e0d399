"""Rules for expressions. Operator precedence stands in :data:`PRECEDENCE`, weakest first, as Kamailio's grammar has it."""

from __future__ import annotations

from typing import Any

from kamc import nodes as n
from kamc.grammar.base import GrammarBase

PRECEDENCE = (
    ("left", "LOG_OR"),
    ("left", "LOG_AND"),
    ("left", "BIN_OR"),
    ("left", "BIN_AND"),
    ("left", "BIN_XOR"),
    ("left", "LSHIFT"),
    ("left", "RSHIFT"),
    ("left", "EQUAL_T", "DIFF", "MATCH", "WORD_EQUAL"),
    ("left", "GT", "LT", "GTE", "LTE"),
    ("left", "PLUS", "MINUS"),
    ("left", "STAR", "SLASH", "MODULO"),
    ("right", "NOT", "UNARY", "BIN_NOT"),
    ("right", "DEFINED"),
    ("right", "INTCAST", "STRCAST"),
    ("nonassoc", "LOWER_THAN_ELSE"),
    ("nonassoc", "ELSE"),
)

_WORDS = {"or": "||", "and": "&&", "not": "!"}


class ExpressionRules(GrammarBase):
    def p_expr_binary(self, p: Any) -> None:
        """expr : expr LOG_OR expr
        | expr LOG_AND expr
        | expr BIN_OR expr
        | expr BIN_AND expr
        | expr BIN_XOR expr
        | expr LSHIFT expr
        | expr RSHIFT expr
        | expr EQUAL_T expr
        | expr DIFF expr
        | expr MATCH expr
        | expr WORD_EQUAL expr
        | expr GT expr
        | expr LT expr
        | expr GTE expr
        | expr LTE expr
        | expr PLUS expr
        | expr MINUS expr
        | expr STAR expr
        | expr SLASH expr
        | expr MODULO expr"""
        p[0] = n.Binary(span=self.whole(p), op=_WORDS.get(p[2], p[2]), left=p[1], right=p[3])

    def p_expr_unary(self, p: Any) -> None:
        """expr : NOT expr
        | MINUS expr %prec UNARY
        | BIN_NOT expr
        | DEFINED expr
        | INTCAST expr
        | STRCAST expr"""
        op = _WORDS.get(p[1], p[1])
        p[0] = n.Unary(span=self.whole(p), op=op, operand=p[2])

    def p_expr_function(self, p: Any) -> None:
        """expr : STRLEN LPAREN expr RPAREN
        | STREMPTY LPAREN expr RPAREN"""
        p[0] = n.Unary(span=self.whole(p), op=p[1], operand=p[3])

    def p_expr_selval(self, p: Any) -> None:
        """expr : SELVAL LPAREN expr COMMA expr COMMA expr RPAREN"""
        p[0] = n.Selval(span=self.whole(p), test=p[3], then=p[5], orelse=p[7])

    def p_expr_paren(self, p: Any) -> None:
        """expr : LPAREN expr RPAREN"""
        p[0] = n.Paren(span=self.whole(p), inner=p[2])

    def p_expr_paren_error(self, p: Any) -> None:
        """expr : LPAREN error RPAREN"""
        self.recovered()
        p[0] = n.Int(span=self.whole(p), value=0)

    def p_expr_assign(self, p: Any) -> None:
        """expr : LPAREN lvalue EQUAL expr RPAREN"""
        p[0] = n.AssignExpr(span=self.whole(p), target=p[2], value=p[4])

    def p_expr_block(self, p: Any) -> None:
        """expr : LBRACE actions RBRACE"""
        p[0] = n.BlockExpr(span=self.whole(p), body=n.Block(span=self.whole(p), body=tuple(p[2])))

    def p_expr_operand(self, p: Any) -> None:
        """expr : number
        | string
        | pvar
        | attr
        | select
        | call
        | core_test"""
        p[0] = p[1]

    def p_number(self, p: Any) -> None:
        """number : NUMBER"""
        p[0] = n.Int(span=self.at(p), value=p[1][0], text=p[1][1])

    def p_signed(self, p: Any) -> None:
        """signed : NUMBER
        | MINUS NUMBER"""
        if len(p) == 2:
            p[0] = n.Int(span=self.at(p), value=p[1][0], text=p[1][1])
        else:
            p[0] = n.Int(span=self.whole(p), value=-p[2][0], text="-" + p[2][1])

    def p_string(self, p: Any) -> None:
        """string : STRING"""
        p[0] = n.Str(span=self.at(p), value=p[1][0], quote=p[1][1])

    def p_pvar(self, p: Any) -> None:
        """pvar : PVAR"""
        p[0] = n.PvRef(span=self.at(p), text=p[1], compat=self.compat_mode())

    def compat_mode(self) -> bool:
        return False

    def p_attr(self, p: Any) -> None:
        """attr : AVP"""
        p[0] = n.AttrRef(span=self.at(p), text=p[1])

    def p_select(self, p: Any) -> None:
        """select : SELECT"""
        p[0] = n.SelectRef(span=self.at(p), text=p[1])

    def p_lvalue(self, p: Any) -> None:
        """lvalue : pvar
        | attr"""
        p[0] = p[1]

    # -- core conditions -------------------------------------------------------------------------------------------------

    def p_equality(self, p: Any) -> None:
        """equality : EQUAL_T
        | DIFF"""
        p[0] = p[1]

    def p_text_operator(self, p: Any) -> None:
        """text_op : EQUAL_T
        | DIFF
        | MATCH"""
        p[0] = p[1]

    def p_word_equality(self, p: Any) -> None:
        """text_op : WORD_EQUAL"""
        if p[1] not in ("eq", "ne"):
            self.fail("K0101", self.at(p), f"'{p[1]}' does not go with a core condition")
        p[0] = {"eq": "==", "ne": "!="}.get(p[1], p[1])

    def p_int_operator(self, p: Any) -> None:
        """int_op : EQUAL_T
        | DIFF
        | GT
        | LT
        | GTE
        | LTE"""
        p[0] = p[1]

    def p_int_word_operator(self, p: Any) -> None:
        """int_op : WORD_EQUAL"""
        if p[1] not in ("eq", "ne"):
            self.fail("K0101", self.at(p), f"'{p[1]}' does not go with a core condition")
        p[0] = {"eq": "==", "ne": "!="}.get(p[1], p[1])

    def p_core_test_str(self, p: Any) -> None:
        """core_test : TEST_STR text_op expr %prec EQUAL_T
        | TEST_INT int_op expr %prec EQUAL_T"""
        p[0] = n.CoreTest(span=self.whole(p), keyword=p[1], op=p[2], right=p[3])

    def p_core_test_word(self, p: Any) -> None:
        """core_test : TEST_STR text_op ID"""
        if p[1] != "method":
            self.fail("K0101", self.at(p, 3), f"a bare word does not go with '{p[1]}'", "put it in quotes")
        p[0] = n.CoreTest(span=self.whole(p), keyword=p[1], op=p[2], right=n.CoreValue(span=self.at(p, 3), kind="word", text=p[3]))

    def p_core_test_myself(self, p: Any) -> None:
        """core_test : TEST_STR text_op MYSELF
        | TEST_IP text_op MYSELF
        | TEST_IP_ONSEND text_op MYSELF"""
        if p[2] == "=~" or p[1] in ("method", "status"):
            self.fail("K0101", self.at(p, 3), f"'myself' does not go with '{p[1]} {p[2]}'")
        p[0] = n.CoreTest(span=self.whole(p), keyword=p[1], op=p[2], right=n.CoreValue(span=self.at(p, 3), kind="myself", text="myself"))

    def p_core_test_reversed(self, p: Any) -> None:
        """core_test : MYSELF equality TEST_STR
        | MYSELF equality TEST_IP
        | MYSELF equality TEST_IP_ONSEND
        | MYSELF WORD_EQUAL TEST_STR
        | MYSELF WORD_EQUAL TEST_IP"""
        op = {"eq": "==", "ne": "!="}.get(p[2], p[2])
        p[0] = n.CoreTest(span=self.whole(p), keyword=p[3], op=op, right=n.CoreValue(span=self.at(p, 1), kind="myself", text="myself"))

    def p_core_test_ip(self, p: Any) -> None:
        """core_test : TEST_IP text_op net
        | TEST_IP_ONSEND text_op net
        | TEST_IP text_op host
        | TEST_IP_ONSEND text_op host
        | TEST_IP text_op expr %prec EQUAL_T
        | TEST_IP_ONSEND text_op expr %prec EQUAL_T"""
        p[0] = n.CoreTest(span=self.whole(p), keyword=p[1], op=p[2], right=p[3])

    def p_core_test_proto(self, p: Any) -> None:
        """core_test : TEST_PROTO equality protocol
        | TEST_PROTO WORD_EQUAL protocol
        | TEST_PROTO equality expr %prec EQUAL_T"""
        p[0] = n.CoreTest(span=self.whole(p), keyword=p[1], op={"eq": "==", "ne": "!="}.get(p[2], p[2]), right=p[3])

    def p_protocol(self, p: Any) -> None:
        """protocol : PROTO
        | WSPROTO
        | STAR"""
        p[0] = n.CoreValue(span=self.at(p), kind="proto", text=p[1].lower())

    def p_net(self, p: Any) -> None:
        """net : ip
        | ip SLASH ip
        | ip SLASH NUMBER"""
        if len(p) == 2:
            p[0] = n.CoreValue(span=self.at(p), kind="ip", text=p[1])
        else:
            tail = p[3][1] if isinstance(p[3], tuple) else p[3]
            p[0] = n.CoreValue(span=self.whole(p), kind="net", text=f"{p[1]}/{tail}")

    def p_ip(self, p: Any) -> None:
        """ip : IPV4
        | IPV6
        | LBRACK IPV6 RBRACK"""
        p[0] = p[1] if len(p) == 2 else p[2]

    def p_host_value(self, p: Any) -> None:
        """host : host_name"""
        p[0] = n.CoreValue(span=self.at(p), kind="host", text=p[1])

    def p_host_name(self, p: Any) -> None:
        """host_name : ID
        | host_name DOT host_part
        | host_name MINUS host_part"""
        p[0] = p[1] if len(p) == 2 else p[1] + p[2] + p[3]

    def p_host_part(self, p: Any) -> None:
        """host_part : ID
        | NUMID"""
        p[0] = p[1]

    def p_host_part_number(self, p: Any) -> None:
        """host_part : NUMBER"""
        p[0] = p[1][1]

    # -- calls -----------------------------------------------------------------------------------------------------------

    def p_call(self, p: Any) -> None:
        """call : ID LPAREN args RPAREN
        | ID LPAREN RPAREN"""
        args = tuple(p[3]) if len(p) == 5 else ()
        p[0] = n.Call(span=self.whole(p), name=p[1], args=args)
        if len(args) > 6:
            self.fail("K0303", self.whole(p), f"{p[1]}() has {len(args)} arguments, six are the limit")

    def p_call_comma(self, p: Any) -> None:
        """call : ID LPAREN COMMA args RPAREN"""
        self.sink.warning("K0101", self.at(p, 3), "nothing stands before this comma: Kamailio overlooks it")
        p[0] = n.Call(span=self.whole(p), name=p[1], args=tuple(p[4]))

    def p_call_error(self, p: Any) -> None:
        """call : ID LPAREN error RPAREN"""
        self.recovered()
        p[0] = n.Call(span=self.whole(p), name=p[1], args=())

    def p_args(self, p: Any) -> None:
        """args : expr
        | args COMMA expr"""
        if len(p) == 2:
            p[0] = [p[1]]
        else:
            p[1].append(p[3])
            p[0] = p[1]

    def p_call_core(self, p: Any) -> None:
        """call : core_call
        | route_call"""
        p[0] = p[1]

    def p_route_call_word(self, p: Any) -> None:
        """route_call : ROUTE LPAREN ID RPAREN"""
        p[0] = n.RouteCall(span=self.whole(p), word=p[3], target=None, name_span=self.at(p, 3))

    def p_route_call_expr(self, p: Any) -> None:
        """route_call : ROUTE LPAREN expr RPAREN"""
        p[0] = n.RouteCall(span=self.whole(p), word=None, target=p[3])
