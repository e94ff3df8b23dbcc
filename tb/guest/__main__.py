"""`python -m guest`."""

from guest.cli import main

main()
