"""`python -m dvx`."""

from dvx.main import main

main()
