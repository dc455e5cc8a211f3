"""What holds for every test."""

from hypothesis import settings

# A test has no time limit of its own: how long an example takes says more about the machine than about us.
settings.register_profile("siaga", deadline=None)
settings.load_profile("siaga")
