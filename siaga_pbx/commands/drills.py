"""`demo` and `probe`: does it work, all the way?"""

from pathlib import Path

from siaga_pbx.commands.common import load_config


def demo(calls: int, keep: bool) -> int:
    """Everything on loopback; 0 only if every call went well."""
    from siaga_pbx.demo import run

    return run(calls, keep)


def probe(file: Path | None) -> int:
    """One test call through the running daemon; 0 when its own audio came back."""
    config = load_config(file)
    from siaga_pbx.probe import run

    return run(config)
