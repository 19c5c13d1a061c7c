"""Boards that run: in virtual time, and in real time behind ptys and TCP sockets."""
