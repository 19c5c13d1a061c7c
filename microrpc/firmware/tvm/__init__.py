"""Kernels and models that TVM compiled, put into firmware. What needs TVM imports it inside of functions."""
