"""What the fuzzer has found worth keeping (`tests/fuzz/harness.py`), read again."""

from pathlib import Path

from tests.fuzz.checks import check

CORPUS = Path(__file__).parent / "corpus"


def test_the_corpus_breaks_no_promise() -> None:
    found = [path for path in sorted(CORPUS.iterdir()) if path.is_file()]
    assert len(found) > 100
    for path in found:
        try:
            check(path.read_bytes())
        except Exception as error:
            raise AssertionError(path.name) from error
