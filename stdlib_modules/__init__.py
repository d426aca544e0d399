"""Kamailio's modules as kamc implements them: one file or package per module, same names."""

#: modules that ship with kamc
MODULES = (
    "acc", "cfg_rpc", "corex", "counters", "ctl", "dlgs", "jsonrpcs", "kex", "maxfwd", "pv", "registrar", "rr", "sanity", "siputils", "sl", "textops",
    "textopsx", "tm", "tmx", "usrloc", "xlog",
)  # fmt: skip
