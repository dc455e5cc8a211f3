"""The media worker, a process of its own, with far ends on real sockets: what is sent is what is heard, to the sample."""

import asyncio
from pathlib import Path

from siaga_pbx.media.g711 import TO_LAW
from siaga_pbx.media.protocol import Codec, Side
from tests.media_kit import FarEnd, media, noise


def test_relay_of_the_same_codec_is_byte_exact(tmp_path: Path) -> None:
    async def run() -> None:
        async with media(tmp_path) as m:
            with FarEnd() as caller, FarEnd(ssrc=0x5678) as seat:
                at_caller, at_seat = m.open("c"), m.open("s", Side.SEAT)
                m.client.connect("c", caller.remote())
                m.client.connect("s", seat.remote())
                m.client.bridge("c", "s")
                says_caller, says_seat = noise(50, 1), noise(50, 2)
                await asyncio.gather(caller.talk(at_caller, says_caller), seat.talk(at_seat, says_seat))
                await seat.heard(lambda packets: says_caller[-1] in [p.payload for p in packets])
                await caller.heard(lambda packets: says_seat[-1] in [p.payload for p in packets])
                assert b"".join(says_caller) in seat.audio()
                assert b"".join(says_seat) in caller.audio()

    asyncio.run(run())
