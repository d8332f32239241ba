"""`python -m replcheck` is `replcheck`."""

import sys

from replcheck.cli import main

if __name__ == "__main__":
    sys.exit(main())
