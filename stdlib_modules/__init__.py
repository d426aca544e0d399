"""Kamailio's modules as kamc implements them: one file or package per module, same names."""
