"""``python -m playmate_core``: see ``cli``."""

import sys

from .cli.main import main

sys.exit(main())
