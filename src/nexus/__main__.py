"""`python -m nexus`: hands the command line to `nexus.cli.main`."""

from nexus.cli.main import entry

if __name__ == "__main__":
    entry()
