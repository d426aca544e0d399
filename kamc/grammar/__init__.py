"""The grammar by area. Each mix-in holds PLY rules; :mod:`kamc.parser` assembles them."""
