"""A daemon for tests to kill: `python -m tests.media_daemon SETTINGS LEGS`, both JSON. It opens a call's legs, connects
and bridges them, records to `call.wav` beside the socket, prints the legs' ports as JSON, and waits for its end."""

import asyncio
import json
import sys

from siaga_pbx.media.client import MediaClient
from siaga_pbx.media.events import MediaEvent
from siaga_pbx.media.protocol import FirstPacket, Remote, Side
from tests.media_process import Settings


async def run(settings: Settings, legs: dict[str, tuple[str, int]]) -> None:
    def take(event: MediaEvent) -> None:
        if isinstance(event, FirstPacket):
            sys.stdout.write(f"{event.leg}\n")
            sys.stdout.flush()

    client = MediaClient(settings, take, spawn=settings.spawn)
    await client.start()
    places = {}
    for leg, (host, port) in legs.items():
        local = client.open("call", leg, Side.CALLER if leg == "c" else Side.SEAT)
        assert local is not None
        places[leg] = (local.address, local.port)
        client.connect(leg, Remote(host=host, port=port, telephone_event=101))
    client.record("call", settings.socket.with_name("call.wav"))
    client.bridge(*legs)
    client.relay_events("s", False)
    sys.stdout.write(json.dumps(places) + "\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(run(Settings.from_json(sys.argv[1]), json.loads(sys.argv[2])))
