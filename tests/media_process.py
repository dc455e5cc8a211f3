"""A media worker for tests and benchmarks: `python -m tests.media_process SETTINGS [--wait] [--index N]`, SETTINGS as
JSON."""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from siaga_pbx.media import worker


@dataclass(frozen=True)
class Settings:
    """[media] of a test, and how long its workers stay without a daemon."""

    socket: Path
    ports: tuple[int, int]
    address: tuple[str, ...] = ("127.0.0.1",)
    workers: int = 1
    prompts: Path | None = None
    linger_s: float = 5.0

    @property
    def spawn(self) -> list[str]:
        """The command for `MediaClient`."""
        return [sys.executable, "-m", "tests.media_process", self.as_json()]

    def as_json(self) -> str:
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> "Settings":
        values = json.loads(text)
        return cls(
            socket=Path(values["socket"]),
            ports=tuple(values["ports"]),
            address=tuple(values["address"]),
            workers=values["workers"],
            prompts=Path(values["prompts"]) if values["prompts"] else None,
            linger_s=values["linger_s"],
        )


if __name__ == "__main__":
    given = Settings.from_json(sys.argv[1])
    sys.exit(worker.run(given, int(sys.argv[-1]), given.linger_s, wait="--wait" in sys.argv))
