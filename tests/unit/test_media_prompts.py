"""Prompts: the shipped ones are all there and sound, a centre's own come first, wrong files are told of."""

import wave
from pathlib import Path

import numpy as np
import pytest

from siaga_pbx.media.g711 import decode, encode
from siaga_pbx.media.prompts import NotAPrompt, Plan, Playing, PromptStore, read_prompt
from siaga_pbx.media.protocol import Codec

PROMPTS = Path(__file__).parent.parent.parent / "siaga_pbx" / "prompts"
SHIPPED = PROMPTS / "id"
NAMES = {
    "greeting", "waiting", "hold", "test", "confirmed", "dispatch-sent", "dispatch-failed", "not-known", "paused",
    "ready", "callback-none", "callback-dialling", "disposition-saved", "failed", "voice-intro", "voice-exercise",
    "voice-test", "voice-fire", "voice-accident", "voice-disaster", "voice-health", "voice-security", "voice-riot",
    "voice-other", "voice-details", "voice-accept", "voice-accepted",
}  # fmt: skip
PLACES = {"position-first", "position", "position-end", *(f"number-{n}" for n in (*range(1, 21), *range(30, 91, 10)))}
PLACES |= {"number-100", "number-200"}
SPOKEN = {"id": NAMES | PLACES, "en": {"greeting", "waiting", "hold", "test"} | PLACES}


def write_wav(path: Path, samples: list[int], rate: int = 8000, channels: int = 1) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        file.writeframes(np.array(samples, dtype="<i2").tobytes())
    return path


def test_the_shipped_prompts_are_all_there() -> None:
    assert {folder.name: {path.stem for path in folder.glob("*.wav")} for folder in PROMPTS.iterdir()} == SPOKEN
    store = PromptStore()
    assert store.faults == {}
    assert all(name in store for name in SPOKEN["id"])
    assert all(f"en/{name}" in store for name in SPOKEN["en"])


@pytest.mark.parametrize(("language", "name"), [(of, name) for of in sorted(SPOKEN) for name in sorted(SPOKEN[of])])
def test_the_shipped_prompts_are_of_one_loudness_and_never_clip(language: str, name: str) -> None:
    codes = b"".join(read_prompt(PROMPTS / language / f"{name}.wav")[Codec.PCMA])
    samples = decode(codes, Codec.PCMA).astype(float) / 32768
    frames = (samples[: len(samples) // 160 * 160].reshape(-1, 160) ** 2).mean(axis=1)
    speech_db = 10 * np.log10(frames[frames > frames.max() / 100].mean())
    assert -24 < speech_db < -14
    assert np.abs(samples).max() < 0.75
    assert np.abs(samples[:80]).max() < 0.01


@pytest.mark.parametrize("name", ["waiting", "hold"])
def test_what_is_played_again_and_again_takes_eight_seconds(name: str) -> None:
    assert len(read_prompt(SHIPPED / f"{name}.wav")[Codec.PCMA]) == 400


def test_frames_are_the_samples_in_both_laws(tmp_path: Path) -> None:
    samples = list(range(-3000, 3000, 20))
    prompt = read_prompt(write_wav(tmp_path / "a.wav", samples))
    padded = np.array(samples + [0] * 20, dtype=np.int16)
    for law in Codec:
        assert len(prompt[law]) == 2
        assert b"".join(prompt[law]) == encode(padded, law)


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_file_that_was_cut_off_is_played_as_far_as_it_goes(tmp_path: Path, cut: int) -> None:
    """As a disk that was full leaves it: an odd byte of it must not stop the worker from starting."""
    path = write_wav(tmp_path / "greeting.wav", [1000] * 240)
    path.write_bytes(path.read_bytes()[:-cut])
    store = PromptStore(tmp_path)
    assert store.faults == {}
    frames = read_prompt(path)[Codec.PCMA]
    assert len(frames) == 2
    left = 240 - (cut + 1) // 2
    assert b"".join(frames) == encode(np.pad(np.full(left, 1000, np.int16), (0, 320 - left)), Codec.PCMA)


def test_once_then_the_loop_for_ever(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", [8] * 320)
    write_wav(tmp_path / "b.wav", [2000] * 160)
    store = PromptStore(tmp_path)
    a, b = (store._prompts[name][Codec.PCMA][0] for name in "ab")
    played: list[int] = []
    frames = store.frames(["a", "missing"], ["b", "a"], Codec.PCMA, lambda: played.append(1))
    assert [next(frames) for _ in range(2)] == [a, a]
    assert not played
    assert [next(frames) for _ in range(7)] == [b, a, a, b, a, a, b]
    assert played == [1]


def test_a_loop_of_nothing_ends() -> None:
    played: list[int] = []
    assert list(PromptStore().frames([], ["missing"], Codec.PCMA, lambda: played.append(1))) == []
    assert played == [1]


def test_a_centres_own_come_before_the_shipped(tmp_path: Path) -> None:
    write_wav(tmp_path / "greeting.wav", [1000] * 160)
    store = PromptStore(tmp_path)
    assert len(store._prompts["greeting"][Codec.PCMA]) == 1
    assert "waiting" in store


@pytest.mark.parametrize(
    ("rate", "channels", "samples", "reason"),
    [(16000, 1, [1], "16000 Hz"), (8000, 2, [1, 1], "2 channels"), (8000, 1, [], "not 0 to")],
)
def test_wrong_files_are_told_of(tmp_path: Path, rate: int, channels: int, samples: list[int], reason: str) -> None:
    path = write_wav(tmp_path / "greeting.wav", samples, rate, channels)
    with pytest.raises(NotAPrompt, match=reason):
        read_prompt(path)
    store = PromptStore(tmp_path)
    assert reason in store.faults["greeting.wav"]
    assert "greeting" in store  # the shipped one


def test_a_file_that_is_no_wav(tmp_path: Path) -> None:
    (tmp_path / "new.wav").write_bytes(b"RIFFnonsense")
    assert list(PromptStore(tmp_path).faults) == ["new.wav"]


def test_a_file_made_for_the_moment_is_played_by_its_path_and_not_kept(tmp_path: Path) -> None:
    samples = [(7 * n) % 4001 - 2000 for n in range(20_000)]
    path = write_wav(tmp_path / "spoken.wav", samples)
    store = PromptStore()
    assert str(path) in store
    shipped = read_prompt(SHIPPED / "failed.wav")[Codec.PCMU]
    told: list[str] = []
    frames = store.frames(("failed", str(path), "failed"), (), Codec.PCMU, lambda: told.append("played"))
    expected = (*shipped, *read_prompt(path)[Codec.PCMU], *shipped)
    assert tuple(frames) == expected
    assert told == ["played"]
    path.unlink()
    assert str(path) not in store
    assert list(store.frames((str(path),), (), Codec.PCMA, lambda: told.append("nothing"))) == []
    assert told == ["played", "nothing"], "the line goes on"


def test_a_path_that_is_no_prompt_is_told_of(tmp_path: Path) -> None:
    store = PromptStore()
    path = write_wav(tmp_path / "wrong.wav", [1, 2], rate=16_000)
    assert str(path) not in store
    assert "16000 Hz" in store.faults[f"{path}.wav"]


def test_another_language_is_in_a_folder_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "jv").mkdir()
    (tmp_path / "id").mkdir()
    write_wav(tmp_path / "jv" / "greeting.wav", [1000] * 160)
    write_wav(tmp_path / "id" / "waiting.wav", [3000] * 160)
    write_wav(tmp_path / "jv" / "wrong.wav", [1], rate=16_000)
    store = PromptStore(tmp_path)

    def played(*names: str) -> list[bytes]:
        return list(store.frames(names, (), Codec.PCMA, lambda: None))

    assert played("jv/greeting") == list(read_prompt(tmp_path / "jv" / "greeting.wav")[Codec.PCMA])
    assert played("greeting") == list(read_prompt(SHIPPED / "greeting.wav")[Codec.PCMA])
    assert played("waiting") == played("id/waiting") == [encode(np.full(160, 3000, np.int16), Codec.PCMA)]
    assert played("jv/waiting") == played("waiting"), "what a language does not have is said in the centre's own"
    assert played("xx/greeting") == played("greeting")
    assert "jv/no-such" not in store
    assert list(store.faults) == ["jv/wrong.wav"]


@pytest.mark.parametrize(
    ("number", "parts"),
    [
        (3, (3,)), (10, (10,)), (15, (15,)), (20, (20,)), (21, (20, 1)), (40, (40,)), (99, (90, 9)), (100, (100,)),
        (101, (100, 1)), (112, (100, 12)), (230, (200, 30)), (287, (200, 80, 7)), (300, ()), (345, ()), (0, ()),
    ],
)  # fmt: skip
@pytest.mark.parametrize("language", ["", "en/"])
def test_numbers_are_joined_from_parts(language: str, number: int, parts: tuple[int, ...]) -> None:
    store = PromptStore()
    assert (f"{language}number-{number}" in store) is bool(parts)
    folder = PROMPTS / (language or "id/")
    expected = [frame for part in parts for frame in read_prompt(folder / f"number-{part}.wav")[Codec.PCMU]]
    assert list(store.frames((f"{language}number-{number}",), (), Codec.PCMU, lambda: None)) == expected


def test_a_number_that_is_there_as_a_whole_is_not_joined(tmp_path: Path) -> None:
    """Such as Javanese `selikur`, which is not twenty and one."""
    (tmp_path / "jv").mkdir()
    write_wav(tmp_path / "jv" / "number-21.wav", [500] * 160)
    store = PromptStore(tmp_path)
    assert len(list(store.frames(("jv/number-21",), (), Codec.PCMA, lambda: None))) == 1
    joined = list(store.frames(("number-22",), (), Codec.PCMA, lambda: None))
    assert list(store.frames(("jv/number-22",), (), Codec.PCMA, lambda: None)) == joined


def test_what_follows_begins_when_what_is_said_is_said() -> None:
    a, b, c = (bytes([fill]) * 160 for fill in (1, 2, 3))
    told: list[str] = []
    playing = Playing(Plan([[a, a]], [(b, b)], lambda: told.append("a")), Codec.PCMA)
    assert next(playing) == a
    assert playing.then(Plan([[c]], [(a,)], lambda: told.append("c")))
    assert [next(playing) for _ in range(4)] == [a, c, a, a], "all of what is said once, then none of its loop"
    assert told == ["a", "c"]
    assert playing.then(Plan([[b]], [(b, c)], lambda: told.append("b")))
    assert [next(playing) for _ in range(4)] == [b, b, c, b]
    assert playing.then(Plan([[a]], [], lambda: None))
    assert list(playing) == [c, a], "one of the loop is said to its end"
    assert not playing.then(Plan([[b]], [], lambda: None)), "nothing is played any more"
