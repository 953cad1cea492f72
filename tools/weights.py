"""The same as `mbdet weights`."""

import sys

from mbdet.cli import main

if __name__ == "__main__":
    sys.exit(main(["weights", *sys.argv[1:]]))
