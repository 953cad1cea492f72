"""The same as `mbdet contract`."""

import sys

from mbdet.cli import main

if __name__ == "__main__":
    sys.exit(main(["contract", *sys.argv[1:]]))
