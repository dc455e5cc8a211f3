"""baresip as a seat: a softphone of another make, without sound card or screen."""

import json
import signal
import socket
import subprocess
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MODULES = Path("/usr/lib/baresip/modules")

_CONFIG = """\
poll_method epoll
sip_listen {host}:{port}
sip_cafile {ca}
net_interface {host}
audio_source aufile,{voice}
audio_player aubridge,nobody
audio_alert aubridge,nobody
audio_path {folder}
rtp_ports {rtp}-{rtp_last}
module_path {modules}
module g711.so
module sndfile.so
module aufile.so
module aubridge.so
module srtp.so
module_tmp account.so
module_app menu.so
snd_path {folder}
"""
_CONTROL = """\
module_app ctrl_tcp.so
ctrl_tcp_listen 127.0.0.1:{port}
"""


@contextmanager
def seat(
    folder: Path,
    name: str,
    password: str,
    server: tuple[str, int],
    transport: str,
    said: NDArray[np.int16],
    rtp: int,
    ca: Path,
    host: str = "127.0.0.1",
    through: tuple[str, ...] = (),
    expires: int = 60,
    control: int = 0,
    mediaenc: str = "",
    account: str = "",
    config: str = "",
) -> Iterator["Baresip"]:
    """A running baresip that registers, answers by itself, says `said` and keeps what it hears.

    Over TLS it wants a certificate that `ca` vouches for. It is at `host`, started by the command `through`, and asks
    for a registration of `expires` seconds. With a `control` port it can be told what to do; `mediaenc` is
    how it protects its audio (its module srtp has `srtp`, `srtp-mand`). `account` is more of its account's parameters,
    `config` more lines of its configuration.
    """
    folder.mkdir()
    write_wave(folder / "voice.wav", said)
    (folder / "config").write_text(
        _CONFIG.format(
            host=host,
            port=0,
            ca=ca,
            voice=folder / "voice.wav",
            folder=folder,
            rtp=rtp,
            rtp_last=rtp + 98,
            modules=MODULES,
        )
        + (_CONTROL.format(port=control) if control else "")
        + config
    )
    (folder / "accounts").write_text(
        f"<sip:{name}@{server[0]}:{server[1]};transport={transport}>"
        f";auth_user={name};auth_pass={password};answermode=auto;regint={expires};audio_codecs=PCMA/8000/1"
        + (f";mediaenc={mediaenc}" if mediaenc else "")
        + f"{account}\n"
    )
    log = folder / "baresip.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [*through, "baresip", "-4", "-v", "-s", "-f", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
        )
    try:
        yield Baresip(folder, process, control)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Baresip:
    def __init__(self, folder: Path, process: subprocess.Popen[bytes], control: int = 0) -> None:
        self._folder, self._process, self._control = folder, process, control

    @property
    def log(self) -> str:
        return (self._folder / "baresip.log").read_text(errors="replace")

    def tell(self, command: str) -> None:
        """A command of its menu, such as `hold`; returns when it is being carried out."""
        text = json.dumps({"command": command}).encode()
        with socket.create_connection(("127.0.0.1", self._control), 5) as line:
            line.sendall(b"%d:%b," % (len(text), text))  # a netstring
            answer = b""
            while b'"response"' not in answer:
                news = line.recv(4096)
                assert news, answer
                answer += news
        assert b'"ok":true' in answer, answer

    def heard(self) -> NDArray[np.int16]:
        """What it heard in its last call, once that is over."""
        return read_wave(max(self._folder.glob("dump-*-dec.wav")))


def write_wave(path: Path, samples: NDArray[np.int16]) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(samples.astype("<i2").tobytes())


def read_wave(path: Path) -> NDArray[np.int16]:
    with wave.open(str(path), "rb") as file:
        return np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").astype(np.int16)
