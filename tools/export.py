"""The same as `mbdet export`."""

import sys

from mbdet.cli import main

if __name__ == "__main__":
    sys.exit(main(["export", *sys.argv[1:]]))
