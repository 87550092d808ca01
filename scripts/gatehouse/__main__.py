"""`python -I -m gatehouse`: how the actions start us, isolated from the user's checkout and PYTHONPATH."""

from gatehouse.cli import main

main()
