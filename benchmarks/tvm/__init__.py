"""Today's TVM through microrpc: its clients at the gateway, what it compiles, and its tuner (docs/tvm.md).

TVM has an environment of its own (`make bench ARGS=tvm` makes it). Its programs run there, each in a process of its
own, and this process never imports it.
"""
