"""`python -m dcmstore` is the command `dcmstore`."""

import sys

from dcmstore.cli import main

sys.exit(main())
