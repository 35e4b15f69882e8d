"""`python -m edgepose` is `edgepose`."""

import sys

from .cli import main

sys.exit(main())
