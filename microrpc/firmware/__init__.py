"""The device library in C: which boards it has a port for, and building it. docs/firmware.md is its guide.

`project` reads what is to be built, `build` builds it, `elf` measures it, `new` lays out a project of the user's own.
"""
