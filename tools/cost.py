"""The same as `mbdet cost`."""

import sys

from mbdet.cli import main

if __name__ == "__main__":
    sys.exit(main(["cost", *sys.argv[1:]]))
