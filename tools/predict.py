"""The same as `mbdet predict`."""

import sys

from mbdet.cli import main

if __name__ == "__main__":
    sys.exit(main(["predict", *sys.argv[1:]]))
