"""`python -m siaga_pbx`."""

import sys

from siaga_pbx.cli import main

sys.exit(main())
