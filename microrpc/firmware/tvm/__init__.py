"""Kernels and models that TVM compiles, made into firmware."""
