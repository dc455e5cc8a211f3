"""How a command fails: one line for stderr, and an exit code."""


class Failed(Exception):
    """It was not done."""

    exit_code = 1


class Misused(Failed):
    """The command line makes no sense."""

    exit_code = 2
