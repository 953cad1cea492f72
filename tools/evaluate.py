"""The same as `mbdet evaluate`."""

import sys

from mbdet.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
