"""What holds for every test."""

import os

from hypothesis import settings

# A test has no time limit of its own: how long an example takes says more about the machine than about us. Where CI is
# set the examples are the same each time, so that what lands does not depend on luck; elsewhere each run searches anew.
settings.register_profile("siaga", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("siaga")
