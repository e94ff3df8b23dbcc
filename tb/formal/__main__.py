"""`python -m formal`."""

from formal.cli import main

main()
