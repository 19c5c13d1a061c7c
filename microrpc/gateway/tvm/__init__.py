"""Boards as RPC servers of TVM: for its clients, its tracker and its tuner (docs/tvm.md)."""
