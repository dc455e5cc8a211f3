"""SDP and offer/answer: RFC 8866, RFC 3264, RFC 3551, RFC 4733."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siaga_pbx.sip.errors import RemoteError
from siaga_pbx.sip.sdp import (
    MAX_MEDIA,
    Audio,
    Codec,
    Direction,
    LocalAudio,
    NoCommonCodec,
    Sdp,
    make_answer,
    make_offer,
    read_answer,
)
from tests.unit.sip_samples import SDP

LOCAL = LocalAudio("203.0.113.9", 30000, 77, 1)


def offer(*media: str, session: str = "c=IN IP4 192.0.2.1") -> Sdp:
    return Sdp.parse("\r\n".join(["v=0", "o=- 1 1 IN IP4 192.0.2.9", "s=-", session, "t=0 0", *media, ""]))


def agreed(*media: str, session: str = "c=IN IP4 192.0.2.1") -> Audio:
    return make_answer(offer(*media, session=session), LOCAL)[1]


class TestText:
    def test_parse_and_str_are_inverse(self) -> None:
        assert str(Sdp.parse(SDP)) == SDP
        assert Sdp.parse(SDP.encode()) == Sdp.parse(SDP)

    @pytest.mark.parametrize("ends", ["\n", "\r", "\r\r\n", "\n\n"])
    def test_odd_line_ends_blanks_and_lines_that_are_none(self, ends: str) -> None:
        odd = SDP.replace("m=audio", "m =audio").replace("a=ptime:20", "a=ptime:20 \r\nnonsense\r\n=x\r\nlong=x")
        assert Sdp.parse(odd.replace("\r\n", ends)) == Sdp.parse(SDP)

    def test_bytes_that_are_not_utf_8(self) -> None:
        assert Sdp.parse(SDP.encode().replace(b"s=-", b"s=caf\xe9")).lines[2] == ("s", "café")

    @pytest.mark.parametrize(
        "text", ["", "hello", "<xml/>", "a=b", "v=0\n" + "m=audio 1 RTP/AVP 0\n" * (MAX_MEDIA + 1)]
    )
    def test_what_is_no_description(self, text: str) -> None:
        with pytest.raises(RemoteError) as caught:
            Sdp.parse(text)
        assert caught.value.reason == "sdp"

    @pytest.mark.parametrize(
        "line", ["m=", "m=audio", "m=audio x RTP/AVP 0", "m=audio 99999 RTP/AVP 0", "m=audio -1 RTP/AVP 0"]
    )
    def test_a_media_line_that_cannot_be_read_keeps_its_place(self, line: str) -> None:
        answer, audio = make_answer(offer(line, "m=audio 4000 RTP/AVP 8"), LOCAL)
        assert [media.port for media in answer.media] == [0, 30000]
        assert audio.port == 4000
        assert Sdp.parse(str(answer)) == answer


class TestAnswer:
    def test_to_a_carriers_offer(self) -> None:
        answer, audio = make_answer(Sdp.parse(SDP), LOCAL)
        assert str(answer).splitlines() == [
            "v=0",
            "o=- 77 1 IN IP4 203.0.113.9",
            "s=-",
            "c=IN IP4 203.0.113.9",
            "t=0 0",
            "m=audio 30000 RTP/AVP 8 101",
            "a=rtpmap:8 PCMA/8000",
            "a=rtpmap:101 telephone-event/8000",
            "a=fmtp:101 0-15",
            "a=ptime:20",
            "a=sendrecv",
        ]
        assert audio == Audio("192.0.2.1", 54400, Codec.PCMA, 101, 20, Direction.SENDRECV, 8, 20)

    def test_every_stream_has_its_answer_in_its_place(self) -> None:
        answer, _ = make_answer(
            offer(
                "m=video 5000 RTP/AVP 31",
                "a=rtpmap:31 H261/90000",
                "m=audio 0 RTP/AVP 8",
                "m=audio 4000/2 RTP/AVP 96 0",
                "a=rtpmap:96 AMR/8000",
                "m=audio 4010 RTP/AVP 8",
                "m=application 9 UDP/BFCP *",
                "m=message 7 TCP/MSRP",
            ),
            LOCAL,
        )
        assert [(media.kind, media.port, media.profile, media.formats) for media in answer.media] == [
            ("video", 0, "RTP/AVP", ("31",)),
            ("audio", 0, "RTP/AVP", ("8",)),
            ("audio", 30000, "RTP/AVP", ("0",)),
            ("audio", 0, "RTP/AVP", ("8",)),
            ("application", 0, "UDP/BFCP", ("*",)),
            ("message", 0, "TCP/MSRP", ("0",)),
        ]

    def test_the_offers_order_decides(self) -> None:
        assert agreed("m=audio 4000 RTP/AVP 18 0 8").codec is Codec.PCMU
        assert agreed("m=audio 4000 RTP/AVP 8 0").codec is Codec.PCMA

    def test_the_offers_own_numbers_are_used(self) -> None:
        answer, audio = make_answer(
            offer("m=audio 4000 RTP/AVP 97 110 111", "a=rtpmap:97 pcma/8000/1", "a=rtpmap:110 Telephone-Event/8000"),
            LOCAL,
        )
        assert (audio.codec, audio.payload, audio.telephone_event) == (Codec.PCMA, 97, 110)
        assert answer.media[0].formats == ("97", "110")
        assert answer.media[0].rtpmap() == {"97": "pcma/8000", "110": "telephone-event/8000"}

    def test_a_static_number_that_is_mapped_elsewhere_is_not_what_it_was(self) -> None:
        with pytest.raises(NoCommonCodec):
            agreed("m=audio 4000 RTP/AVP 8", "a=rtpmap:8 opus/48000/2")

    def test_events_at_another_rate_are_not_ours(self) -> None:
        media = [
            "m=audio 4000 RTP/AVP 8 100 101",
            "a=rtpmap:100 telephone-event/16000",
            "a=rtpmap:101 telephone-event/8000",
        ]
        assert agreed(*media).telephone_event == 101
        assert agreed(*media[:2]).telephone_event is None

    def test_the_times_are_the_offers(self) -> None:
        text = SDP.replace("t=0 0", "t=3149328700 0")
        assert "t=3149328700 0" in str(make_answer(Sdp.parse(text), LOCAL)[0])

    def test_ipv6(self) -> None:
        answer, audio = make_answer(
            offer("m=audio 4000 RTP/AVP 8", "c=IN IP6 2001:db8::1"), replace(LOCAL, address="::1")
        )
        assert audio.host == "2001:db8::1"
        assert "c=IN IP6 ::1" in str(answer)

    @pytest.mark.parametrize(
        "media",
        [
            [],
            ["m=audio 4000 RTP/AVP 9 18"],
            ["m=audio 4000 RTP/AVP 96", "a=rtpmap:96 PCMA/16000"],
            ["m=audio 0 RTP/AVP 8"],
            ["m=video 4000 RTP/AVP 8"],
            ["m=audio 4000 RTP/AVP 200", "a=rtpmap:200 PCMA/8000"],
        ],
    )
    def test_nothing_in_common(self, media: list[str]) -> None:
        with pytest.raises(NoCommonCodec) as caught:
            agreed(*media)
        assert (caught.value.reason, caught.value.status) == ("no-common-codec", 488)

    def test_feedback_is_the_same_audio(self) -> None:
        answer, _ = make_answer(offer("m=audio 4000 RTP/AVPF 8"), LOCAL)
        assert answer.media[0].profile == "RTP/AVPF"


class TestAddress:
    def test_the_streams_own_comes_first_then_the_sessions_then_the_origins(self) -> None:
        assert agreed("m=audio 1 RTP/AVP 8", "c=IN IP4 192.0.2.2").host == "192.0.2.2"
        assert agreed("m=audio 1 RTP/AVP 8").host == "192.0.2.1"
        assert agreed("m=audio 1 RTP/AVP 8", session="i=none").host == "192.0.2.9"
        assert agreed("m=audio 1 RTP/AVP 8", "c=IN IP4 224.2.1.1/127").host == "224.2.1.1"

    def test_none_at_all_is_nowhere(self) -> None:
        assert make_answer(Sdp.parse("v=0\nm=audio 1 RTP/AVP 8\n"), LOCAL)[1].host == "0.0.0.0"
        assert agreed("m=audio 1 RTP/AVP 8", "c=IN IP4").host == "0.0.0.0"


class TestHold:
    @pytest.mark.parametrize(
        ("written", "ours"),
        [
            (None, Direction.SENDRECV),
            ("sendrecv", Direction.SENDRECV),
            ("sendonly", Direction.RECVONLY),
            ("recvonly", Direction.SENDONLY),
            ("inactive", Direction.INACTIVE),
        ],
    )
    def test_the_answer_mirrors_the_offer(self, written: str | None, ours: Direction) -> None:
        lines = ["m=audio 1 RTP/AVP 8", *([f"a={written}"] if written else [])]
        answer, audio = make_answer(offer(*lines), LOCAL)
        assert audio.direction is ours
        assert answer.direction_of(answer.media[0]) is ours
        assert ("a", ours.value) in answer.media[0].lines

    def test_the_sessions_direction_is_inherited_and_the_streams_own_comes_first(self) -> None:
        assert agreed("m=audio 1 RTP/AVP 8", session="a=sendonly").direction is Direction.RECVONLY
        assert agreed("m=audio 1 RTP/AVP 8", "a=sendrecv", session="a=inactive").direction is Direction.SENDRECV

    @pytest.mark.parametrize("address", ["IN IP4 0.0.0.0", "IN IP6 ::", "IN IP4 hold.invalid"])
    def test_the_old_way(self, address: str) -> None:
        assert agreed("m=audio 1 RTP/AVP 8", f"c={address}").direction is Direction.RECVONLY
        assert agreed("m=audio 1 RTP/AVP 8", f"c={address}", "a=recvonly").direction is Direction.INACTIVE

    @pytest.mark.parametrize("direction", list(Direction))
    def test_directions(self, direction: Direction) -> None:
        assert direction.mirrored.mirrored is direction
        assert direction.mirrored.sends is direction.receives
        assert direction.within(Direction.SENDRECV) is direction
        assert direction.within(Direction.INACTIVE) is Direction.INACTIVE


class TestPtime:
    @pytest.mark.parametrize(
        ("lines", "ptime"),
        [
            ([], 20),
            (["a=ptime:30"], 30),
            (["a=ptime:x"], 20),
            (["a=ptime:0"], 20),
            (["a=ptime:5"], 10),
            (["a=ptime:9999"], 200),
            (["a=maxptime:10"], 10),
            (["a=ptime:40", "a=maxptime:20"], 20),
            (["a=maxptime:60"], 20),
        ],
    )
    def test_what_the_peer_likes_within_reason(self, lines: list[str], ptime: int) -> None:
        assert agreed("m=audio 1 RTP/AVP 8", *lines).ptime_ms == ptime

    @pytest.mark.parametrize(
        ("lines", "longest"),
        [
            ([], 200),
            (["a=ptime:20"], 20),
            (["a=maxptime:60"], 60),
            (["a=ptime:20", "a=maxptime:40"], 40),
            (["a=maxptime:5"], 10),
            (["a=maxptime:9999"], 200),
            (["a=maxptime:x", "a=ptime:30"], 30),
        ],
    )
    def test_what_the_peer_takes_at_most(self, lines: list[str], longest: int) -> None:
        assert agreed("m=audio 1 RTP/AVP 8", *lines).max_ptime_ms == longest


class TestRtcp:
    def test_one_port_for_both_is_answered_if_it_is_offered(self) -> None:
        for lines in ([], ["a=rtcp-mux"]):
            answer, audio = make_answer(offer("m=audio 4000 RTP/AVP 8", *lines), LOCAL)
            assert audio.rtcp_mux is bool(lines)
            assert ("a=rtcp-mux" in str(answer)) is bool(lines)
        assert not read_answer(make_offer(LOCAL), offer("m=audio 4000 RTP/AVP 8")).rtcp_mux

    @pytest.mark.parametrize(
        ("line", "place"),
        [
            ("a=rtcp:53020", ("192.0.2.1", 53020)),
            ("a=rtcp:53020 IN IP4 192.0.2.77", ("192.0.2.77", 53020)),
            ("a=rtcp:53020 IN IP6 2001:db8::7", ("2001:db8::7", 53020)),
            ("a=rtcp:", None),
            ("a=rtcp:x", None),
            ("a=rtcp:0", None),
            ("a=rtcp:65536", None),
            ("a=rtcp-fb:* nack", None),
        ],
    )
    def test_a_port_of_its_own(self, line: str, place: tuple[str, int] | None) -> None:
        assert agreed("m=audio 1 RTP/AVP 8", line).rtcp == place

    @pytest.mark.parametrize(
        ("session", "line"),
        [
            ("c=IN IP4 192.0.2.1", "a=rtcp:53020 IN IP4 media.example"),
            ("c=IN IP4 media.example", "a=rtcp:53020"),  # on the address of c=
        ],
    )
    def test_a_name_is_none(self, session: str, line: str) -> None:
        """The media worker would wait for its look-up."""
        assert agreed("m=audio 1 RTP/AVP 8", line, session=session).rtcp is None


class TestComfortNoise:
    def test_it_is_answered_if_it_is_offered(self) -> None:
        answer, audio = make_answer(offer("m=audio 4000 RTP/AVP 8 13 101", "a=rtpmap:101 telephone-event/8000"), LOCAL)
        assert audio.comfort_noise
        assert answer.media[0].formats == ("8", "101", "13")
        assert answer.media[0].rtpmap()["13"] == "cn/8000"

    def test_it_is_not_asked_for(self) -> None:
        assert "13" not in make_offer(LOCAL).media[0].formats
        assert not agreed("m=audio 4000 RTP/AVP 8").comfort_noise


class TestOurOffer:
    def test_a_law_first_then_mu_law_and_events(self) -> None:
        assert str(make_offer(LOCAL)).splitlines() == [
            "v=0",
            "o=- 77 1 IN IP4 203.0.113.9",
            "s=-",
            "c=IN IP4 203.0.113.9",
            "t=0 0",
            "m=audio 30000 RTP/AVP 8 0 101",
            "a=rtpmap:8 PCMA/8000",
            "a=rtpmap:0 PCMU/8000",
            "a=rtpmap:101 telephone-event/8000",
            "a=fmtp:101 0-15",
            "a=ptime:20",
            "a=sendrecv",
            "a=rtcp-mux",
        ]

    def test_two_of_us_agree(self) -> None:
        other = LocalAudio("192.0.2.5", 40000, 5, 1)
        ours = make_offer(LOCAL)
        answer, theirs = make_answer(Sdp.parse(str(ours)), other)
        audio = read_answer(ours, Sdp.parse(str(answer)))
        assert audio == Audio("192.0.2.5", 40000, Codec.PCMA, 101, 20, Direction.SENDRECV, 8, 20, False, True)
        assert theirs == Audio("203.0.113.9", 30000, Codec.PCMA, 101, 20, Direction.SENDRECV, 8, 20, False, True)

    def test_an_answer_without_maps_means_the_offers_numbers(self) -> None:
        audio = read_answer(make_offer(LOCAL), offer("m=audio 4000 RTP/AVP 0 101"))
        assert (audio.codec, audio.payload, audio.telephone_event) == (Codec.PCMU, 0, 101)
        assert read_answer(make_offer(LOCAL), offer("m=audio 4000 RTP/AVP 0")).telephone_event is None

    def test_an_answers_own_number_for_events(self) -> None:
        answer = offer("m=audio 4000 RTP/AVP 8 96", "a=rtpmap:96 telephone-event/8000")
        assert read_answer(make_offer(LOCAL), answer).telephone_event == 96

    @pytest.mark.parametrize(
        "media", [[], ["m=audio 0 RTP/AVP 8"], ["m=audio 4000 RTP/AVP 18"], ["m=video 4000 RTP/AVP 8"]]
    )
    def test_refused(self, media: list[str]) -> None:
        with pytest.raises(NoCommonCodec):
            read_answer(make_offer(LOCAL), offer(*media))

    @pytest.mark.parametrize("ours", list(Direction))
    @pytest.mark.parametrize("theirs", list(Direction))
    def test_no_way_that_we_did_not_offer(self, ours: Direction, theirs: Direction) -> None:
        audio = read_answer(make_offer(LOCAL, ours), offer("m=audio 4000 RTP/AVP 8", f"a={theirs.value}"))
        assert audio.direction is theirs.mirrored.within(ours)


LINES = st.sampled_from(
    [
        "v=0",
        "o=- 1 1 IN IP4 192.0.2.1",
        "o=",
        "s=-",
        "t=0 0",
        "c=IN IP4 192.0.2.1",
        "c=IN",
        "c=IN IP4 0.0.0.0",
        "a=sendonly",
        "m=audio 4000 RTP/AVP 8 0 101",
        "m=audio 0 RTP/AVP 8",
        "m=video 5 RTP/AVP 31",
        "m=",
        "a=rtpmap:101 telephone-event/8000",
        "a=rtpmap:8",
        "a=rtpmap:",
        "a=rtpmap:8 PCMA/8000",
        "a=ptime:",
        "a=ptime:²",
        "a=inactive",
        "x",
        "m=audio ² RTP/AVP ²",
    ]
)


@settings(max_examples=300)
@given(st.one_of(st.lists(LINES, max_size=20).map("\n".join), st.text(alphabet="mvoc=adi 0189/\r\n:.", max_size=80)))
def test_any_offer_is_answered_stream_by_stream_or_refused(text: str) -> None:
    try:
        description = Sdp.parse(text)
        assert Sdp.parse(str(description)) == description
        answer, audio = make_answer(description, LOCAL)
    except RemoteError:
        return
    assert len(answer.media) == len(description.media)
    assert sum(media.port != 0 for media in answer.media) == 1
    assert Sdp.parse(str(answer)) == answer
    assert (audio.port > 0, audio.host != "") == (True, True)
