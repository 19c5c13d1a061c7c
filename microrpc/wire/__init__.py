"""Bytes <-> values: what the host and the simulated board share. No I/O, no clock (docs/protocol.md)."""
