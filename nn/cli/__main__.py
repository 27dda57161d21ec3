"""`python -m xpnn.nn.cli` is the command `xpnn`."""

from . import main

if __name__ == "__main__":
    main()
