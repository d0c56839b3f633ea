"""`python -m hpcml` is the command `hpcml`."""

import sys

from hpcml.cli import main

if __name__ == "__main__":
    sys.exit(main())
