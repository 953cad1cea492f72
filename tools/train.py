"""The same as `mbdet train`."""

import sys

from mbdet.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
