"""``python -m compressor``: the same as the ``compress`` command."""

import sys

from compressor.cli import main

sys.exit(main())
