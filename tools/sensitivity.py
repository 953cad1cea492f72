"""The same as `mbdet sensitivity`."""

import sys

from mbdet.cli import main

if __name__ == "__main__":
    sys.exit(main(["sensitivity", *sys.argv[1:]]))
