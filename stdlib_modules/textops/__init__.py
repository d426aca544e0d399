"""Module textops: operations on the text of messages. https://www.kamailio.org/docs/modules/stable/modules/textops.html"""

from __future__ import annotations

from kamc.declare import Module
from stdlib_modules.textops.body import BodyFunctions
from stdlib_modules.textops.headers import HeaderFunctions
from stdlib_modules.textops.search import SearchFunctions
from stdlib_modules.textops.tests import TestFunctions


class Textops(SearchFunctions, HeaderFunctions, BodyFunctions, TestFunctions, Module):
    name = "textops"


module = Textops
