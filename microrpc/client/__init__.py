"""What users hold in hand: boards, and the functions, modules and arrays on them."""

from microrpc._names import moved

# The module microrpc.client of 0.4.
__getattr__ = moved(__name__, {"microrpc": "Board"})
