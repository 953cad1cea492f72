"""The same as `mbdet benchmark`."""

import sys

from mbdet.cli import main

if __name__ == "__main__":
    sys.exit(main(["benchmark", *sys.argv[1:]]))
