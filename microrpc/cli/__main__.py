"""`python -m microrpc.cli` is `microrpc`."""

from microrpc.cli import main

main()
