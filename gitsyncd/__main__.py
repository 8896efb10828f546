"""`python -m gitsyncd`."""

import sys

from gitsyncd.cli import main

sys.exit(main())
