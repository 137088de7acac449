"""`python -m dvgen`."""

from dvgen.cli import main

if __name__ == "__main__":
    main()
