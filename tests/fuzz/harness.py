"""The parsers under atheris, which looks for bytes that reach new code. Outside the test run, for it has no end.

    .venv/bin/python -m pip install atheris
    .venv/bin/python -m tests.fuzz.harness FOLDER tests/fuzz/corpus tests/vectors/rfc4475/valid -max_total_time=1800

FOLDER gets what is new. `-merge=1 tests/fuzz/corpus FOLDER` boils it down into the corpus that the tests replay.
libFuzzer starts itself again for that: this file must then be executable and begin with `#!` and the interpreter.
"""

import sys

import atheris

with atheris.instrument_imports(include=["siaga_pbx"]):
    from tests.fuzz.checks import check

MAX_BYTES = 4096
"""Longer ones reach no other code, and cost time; the limits have tests of their own."""


def main() -> None:
    dictionary = "tests/fuzz/sip.dict"
    atheris.Setup([*sys.argv, f"-max_len={MAX_BYTES}", f"-dict={dictionary}"], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
