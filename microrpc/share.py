"""The old name of `microrpc.gateway.unix`, which still works."""

from microrpc._names import moved

__getattr__ = moved(__name__, {"microrpc.gateway.unix": "Share check_system default_path turn_bytes"})
