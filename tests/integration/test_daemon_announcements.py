"""Callers who wait hear their place in the queue, in their language; through the daemon, to the sample."""

import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from siaga_pbx.demo.centre import DAEMON, TRUNK, Centre
from siaga_pbx.media.g711 import decode
from siaga_pbx.media.prompts import PromptStore
from siaga_pbx.media.protocol import Codec
from tests.interop.audio import Rtp
from tests.interop.calls import carrier
from tests.interop.centres import row, running, until

QUEUE = """ring_s = 30
wrap_up_s = 0
announce_every_s = 1
"""


def write(path: Path, level: int, frames: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(np.full(160 * frames, level, dtype="<i2").tobytes())


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Centre]:
    """With a short greeting and waiting loop of its own, in two languages, and a number of Javanese."""
    folder = tmp_path_factory.mktemp("announcements")
    for language, level in (("", 1000), ("en/", 2000)):
        write(folder / "words" / f"{language}greeting.wav", level, 5)
        write(folder / "words" / f"{language}waiting.wav", level + 500, 10)
    write(folder / "words" / "jv" / "number-2.wav", 4000, 20)
    dialplan = '\n[[route]]\nmatch = ["113"]\naction = "queue"\nlanguage = "jv"\n'
    made = Centre(folder, agencies={}, queue=QUEUE, media='prompts = "words"', dialplan=dialplan)
    with running(made):
        yield made


def words(centre: Centre, *names: str) -> NDArray[np.int16]:
    """As they are heard in A-law."""
    store = PromptStore(centre.folder / "words")
    return decode(b"".join(store.frames(names, (), Codec.PCMA, lambda: None)), Codec.PCMA)


def heard(mouth: Rtp, samples: NDArray[np.int16]) -> int:
    """At which sample these began to be heard, none of them left out or changed; waits for them."""
    wanted = samples.tobytes()
    return until(lambda: mouth.heard().tobytes().find(wanted) + 1, "the words", 30.0) // 2


def test_each_hears_its_place_in_its_language(centre: Centre) -> None:
    with carrier(centre) as caller, Rtp(TRUNK, 70) as first, Rtp(TRUNK, 71) as second, Rtp(TRUNK, 72) as third:
        one = caller.invite(first.sdp)
        one.final()
        two = caller.invite(second.sdp, headers=[("Accept-Language", "en-GB, id;q=0.5")])
        two.final()
        three = caller.invite(third.sdp, uri=f"sip:113@{DAEMON}:{centre.sip_port}")
        three.final()
        assert [row(centre, call.call_id)["language"] for call in (one, two, three)] == [None, "en", "jv"]

        greeting = words(centre, "en/greeting")
        place = words(centre, "en/position", "en/number-2", "en/position-end")
        told = heard(second, place)
        assert told >= heard(second, greeting) + len(greeting), "the greeting was said to its end"
        heard(first, words(centre, "position-first"))
        heard(third, words(centre, "position", "jv/number-3", "position-end"))

        one.bye()
        promoted = heard(second, words(centre, "en/position-first"))
        assert promoted >= told + len(place), "and so was the first that it was told"
        heard(third, words(centre, "position", "jv/number-2", "position-end"))
        two.bye()
        three.bye()
