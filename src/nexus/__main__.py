"""`python -m nexus`: hands the command line to `nexus.cli.main`."""

import sys

from nexus.cli.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
