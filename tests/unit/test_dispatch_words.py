"""What is said of a dispatch by telephone, and by which voice."""

import shutil
import wave
from pathlib import Path

import numpy as np
import pytest

from siaga_pbx import speech
from siaga_pbx.dispatch.message import Callback, Dispatch, Location, Purpose
from siaga_pbx.dispatch.words import CATEGORIES, details, opening
from siaga_pbx.media.prompts import PromptStore
from siaga_pbx.speech import NoVoice, read_out
from tests.unit.test_dispatch_message import DISPATCH, encoded

MESSAGE = Dispatch.parse(encoded(DISPATCH))


def said(**changes: object) -> str:
    return details(MESSAGE.model_copy(update=changes))


def test_all_that_matters_is_said() -> None:
    assert details(MESSAGE) == (
        "Alamat: jalan Siliwangi 1. Keterangan: Rumah terbakar. Jumlah orang: 2."
        " Nomor pelapor: 0 8 1 2, 0 0 0 0, 0 7 8 9."
    )


def test_a_protected_number_is_not_said_because_it_is_not_there() -> None:
    hidden = Callback(number=None, callable=True, identity_class="subscriber")
    assert "pelapor" not in said(callback=hidden, protected=True)
    assert said(callback=None, note="", people=None, location=None) == ""


def test_a_place_without_an_address_is_told_in_degrees() -> None:
    assert said(location=Location(lat=-6.7061, lon=108.557), note="", people=None, callback=None) == (
        "Koordinat: lintang minus 6,7061, bujur 108,5570."
    )


def test_what_was_typed_is_made_readable_and_bounded() -> None:
    typed = Location(address="Gg. Melati No. 3,\nKel. Kesenden [[_^_EN]] <mark/>")
    assert said(location=typed, note="", people=None, callback=None) == (
        "Alamat: gang Melati nomor 3, kelurahan Kesenden _^_EN mark/."
    )
    assert len(said(note="x" * 2000)) < 700


@pytest.mark.parametrize("category", [*sorted(CATEGORIES), "flood"])
@pytest.mark.parametrize("status", list(Purpose))
def test_every_opening_is_a_prompt_that_is_there(category: str, status: Purpose) -> None:
    prompts, store = opening(MESSAGE.model_copy(update={"category": category, "status": status})), PromptStore()
    assert all(name in store for name in (*prompts, "voice-details", "voice-accept", "voice-accepted"))
    assert ("voice-test" in prompts, "voice-exercise" in prompts) == (
        status is Purpose.TEST,
        status is Purpose.EXERCISE,
    )


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs Debian's espeak-ng")
def test_the_voice_makes_a_prompt_of_it_in_the_telephone_s_band(tmp_path: Path) -> None:
    file = tmp_path / "spoken.wav"
    read_out(f"--help. {details(MESSAGE)}", file)
    assert str(file) in PromptStore()
    assert file.stat().st_mode & 0o777 == 0o600
    with wave.open(str(file)) as sound:
        samples = np.frombuffer(sound.readframes(sound.getnframes()), dtype="<i2").astype(float)
    assert 5 < len(samples) / 8000 < 30
    assert 0.5 < np.abs(samples).max() / 32768 < 0.75
    spectrum = np.abs(np.fft.rfft(samples)) ** 2
    hertz = np.fft.rfftfreq(len(samples), 1 / 8000)
    assert spectrum[hertz > 3700].sum() < spectrum.sum() / 1000


def test_no_voice_is_told_with_the_package_that_has_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "_COMMAND", ("/nowhere/espeak-ng",))
    with pytest.raises(NoVoice, match="Debian package espeak-ng"):
        read_out("Halo", tmp_path / "a.wav")
    for command in (("false",), ("true",)):
        monkeypatch.setattr(speech, "_COMMAND", command)
        with pytest.raises(NoVoice):
            read_out("Halo", tmp_path / "a.wav")
    assert not list(tmp_path.iterdir())
