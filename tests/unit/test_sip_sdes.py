"""SRTP's keys in SDP: what is offered, answered and agreed, and what is not taken for a key."""

import base64
import os

import pytest

from siaga_pbx.sip.sdes import Crypto, Keys, Security, Suite, read, text_of
from siaga_pbx.sip.sdp import LocalAudio, NoCommonCodec, NoSecurity, Sdp, make_answer, make_offer, read_answer

OURS, THEIRS, OTHER = (text_of(bytes([n]) * 30) for n in (1, 2, 3))
OFFERED = LocalAudio("192.0.2.1", 30000, 1, 1, Security(OURS, required=False))
REQUIRED = LocalAudio("192.0.2.1", 30000, 1, 1, Security(OURS, required=True))
OFF = LocalAudio("192.0.2.1", 30000, 1, 1)


def theirs(profile: str, *crypto: str, formats: str = "8 101") -> Sdp:
    lines = [
        "v=0",
        "o=- 1 1 IN IP4 192.0.2.9",
        "s=-",
        "c=IN IP4 192.0.2.9",
        "t=0 0",
        f"m=audio 4000 {profile} {formats}",
    ]
    return Sdp.parse("\r\n".join([*lines, *(f"a=crypto:{one}" for one in crypto), "a=ptime:20", ""]))


def crypto_of(sdp: Sdp) -> list[Crypto]:
    return read(sdp.media[0].lines)


KEY = f"1 AES_CM_128_HMAC_SHA1_80 inline:{THEIRS}"


def test_what_is_offered() -> None:
    assert crypto_of(make_offer(OFF)) == []
    for local, profile in ((OFFERED, "RTP/AVP"), (REQUIRED, "RTP/SAVP")):
        offer = make_offer(local)
        assert offer.media[0].profile == profile
        assert crypto_of(offer) == [Crypto(1, Suite.SHA1_80, OURS)]
        assert crypto_of(Sdp.parse(str(offer))) == [Crypto(1, Suite.SHA1_80, OURS)]


@pytest.mark.parametrize("local", [OFFERED, REQUIRED])
@pytest.mark.parametrize("profile", ["RTP/SAVP", "RTP/AVP", "RTP/SAVPF"])
def test_an_answer_with_a_key(local: LocalAudio, profile: str) -> None:
    assert read_answer(make_offer(local), theirs(profile, KEY)).keys == Keys(Suite.SHA1_80, OURS, THEIRS)


def test_an_answer_without() -> None:
    assert read_answer(make_offer(OFFERED), theirs("RTP/AVP")).keys is None
    assert read_answer(make_offer(OFF), theirs("RTP/AVP", KEY)).keys is None, "it answers what nobody offered"
    for offer, answer in (
        (REQUIRED, theirs("RTP/SAVP")),
        (REQUIRED, theirs("RTP/AVP")),
        (OFFERED, theirs("RTP/SAVP")),
        (REQUIRED, theirs("RTP/SAVP", f"1 AES_CM_128_HMAC_SHA1_32 inline:{THEIRS}")),  # not what was offered
    ):
        with pytest.raises(NoSecurity):
            read_answer(make_offer(offer), answer)
    with pytest.raises(NoCommonCodec):
        read_answer(make_offer(REQUIRED), theirs("RTP/SAVP", KEY, formats="9"))


@pytest.mark.parametrize("local", [OFFERED, REQUIRED])
@pytest.mark.parametrize("profile", ["RTP/SAVP", "RTP/AVP"])
@pytest.mark.parametrize("suite", list(Suite))
def test_our_answer(local: LocalAudio, profile: str, suite: Suite) -> None:
    """The first that we know, under its tag, in the profile that was offered."""
    unknown = f"1 AEAD_AES_256_GCM inline:{base64.b64encode(bytes(44)).decode()}"
    answer, audio = make_answer(theirs(profile, unknown, f"7 {suite} inline:{THEIRS}|2^31", KEY), local)
    assert answer.media[0].profile == profile
    assert crypto_of(answer) == [Crypto(7, suite, OURS)]
    assert audio.keys == Keys(suite, OURS, THEIRS)


def test_offers_that_cannot_be_answered() -> None:
    for local, offer in ((OFF, theirs("RTP/SAVP", KEY)), (OFFERED, theirs("RTP/SAVP")), (REQUIRED, theirs("RTP/AVP"))):
        with pytest.raises(NoSecurity):
            make_answer(offer, local)
    answer, audio = make_answer(theirs("RTP/AVP"), OFFERED)
    assert (crypto_of(answer), audio.keys) == ([], None)
    answer, audio = make_answer(theirs("RTP/AVP", KEY), OFF)
    assert (crypto_of(answer), audio.keys) == ([], None)


def test_of_two_streams_the_one_that_fits() -> None:
    """Some phones offer both, each in a section of its own."""
    both = Sdp.parse(str(theirs("RTP/AVP")) + str(theirs("RTP/SAVP", KEY).media[0]).replace("4000", "4002"))
    for local, ports, keyed in ((OFF, (30000, 0), False), (REQUIRED, (0, 30000), True)):
        answer, audio = make_answer(both, local)
        assert tuple(media.port for media in answer.media) == ports
        assert (audio.keys is not None) is keyed


@pytest.mark.parametrize(
    "line",
    [
        f"1 AES_CM_128_HMAC_SHA1_80 inline:{THEIRS}|2^20|1:4",  # with an MKI in each packet
        f"1 AES_CM_128_HMAC_SHA1_80 inline:{THEIRS};inline:{OTHER}",
        f"1 AES_CM_128_HMAC_SHA1_80 inline:{THEIRS} UNENCRYPTED_SRTP",
        f"1 AES_CM_128_HMAC_SHA1_80 inline:{THEIRS} KDR=2",
        f"1 AES_256_CM_HMAC_SHA1_80 inline:{THEIRS}",
        f"1 AES_CM_128_HMAC_SHA1_80 inline:{THEIRS[:-1]}",
        f"1 AES_CM_128_HMAC_SHA1_80 inline:{THEIRS[:-2]}==",
        f"1 AES_CM_128_HMAC_SHA1_80 uri:{THEIRS}",
        "1 AES_CM_128_HMAC_SHA1_80",
        "",
        "x AES_CM_128_HMAC_SHA1_80 inline:" + THEIRS,
    ],
)
def test_what_is_no_key_of_ours(line: str) -> None:
    assert crypto_of(theirs("RTP/SAVP", line)) == []


@pytest.mark.parametrize("rest", ["", "|2^20", "|1048576", " WSH=64"])
def test_what_is_one(rest: str) -> None:
    (crypto,) = crypto_of(theirs("RTP/SAVP", f"1 aes_cm_128_hmac_sha1_80 inline:{THEIRS}{rest}"))
    assert crypto == Crypto(1, Suite.SHA1_80, THEIRS)


def test_keys_are_not_shown() -> None:
    key = text_of(os.urandom(30))
    for secret in (Security(key, True), Keys(Suite.SHA1_80, key, key), Crypto(1, Suite.SHA1_80, key)):
        assert key not in repr(secret)
