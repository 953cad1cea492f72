"""The same as `mbdet demo`."""

import sys

from mbdet.cli import main

if __name__ == "__main__":
    sys.exit(main(["demo", *sys.argv[1:]]))
