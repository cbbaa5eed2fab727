"""``python -m dtmarl`` is the command line."""

import sys

from dtmarl.cli import main

if __name__ == "__main__":
    sys.exit(main())
