"""`python -m xpnn.nn` is the command `xpnn`."""

from .cli import main

if __name__ == "__main__":
    main()
