"""The pytest plugin of microrpc; docs/testing.md is its guide.

It is a package of its own because pytest imports every installed plugin: `plugin` must not import microrpc, and numpy
with it, in projects that have nothing to do with boards.
"""
