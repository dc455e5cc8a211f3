"""Digest: RFC 7616, RFC 2617, RFC 8760, RFC 3261 22."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siaga_pbx.sip import digest
from siaga_pbx.sip.digest import Challenge, Credentials, Nonce, Nonces, authorise, supported_challenge, verify
from siaga_pbx.sip.errors import RemoteError

# Text that was read from the wire or from a file: it has no line breaks, and no halves of characters.
LINE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=9)
HOSTS = frozenset({"siaga.local", "203.0.113.9"})


def made(
    algorithm: str = "md5", qop: tuple[str, ...] = ("auth",), uri: str = "sip:siaga.local", nc: int = 1
) -> Credentials:
    challenge = Challenge("siaga.local", "n1", algorithm, qop, "o1")
    return authorise(challenge, "REGISTER", uri, "101", "secret", "c1", nc)


def good(
    credentials: Credentials, method: str = "REGISTER", password: str = "secret", realm: str = "siaga.local"
) -> bool:
    return verify(credentials, method, password, realm, HOSTS)


class TestPublishedExamples:
    """What the RFCs computed themselves."""

    def test_rfc_2617_3_5(self) -> None:
        challenge = Challenge("testrealm@host.com", "dcd98b7102dd2f0e8b11d0f600bfb0c093", "md5", ("auth", "auth-int"))
        made = authorise(challenge, "GET", "/dir/index.html", "Mufasa", "Circle Of Life", "0a4f113b")
        assert made.response == "6629fae49393a05397450978507c4ef1"

    def test_rfc_2617_without_qop(self) -> None:
        challenge = Challenge("testrealm@host.com", "dcd98b7102dd2f0e8b11d0f600bfb0c093", "md5", ())
        made = authorise(challenge, "GET", "/dir/index.html", "Mufasa", "Circle Of Life", "unused")
        assert (made.response, made.qop, made.nc, made.cnonce) == ("670fd8c2df070c60b045671b8b24ff02", None, None, None)

    @pytest.mark.parametrize(
        ("algorithm", "response"),
        [
            ("md5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("sha-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ],
    )
    def test_rfc_7616_3_9_1(self, algorithm: str, response: str) -> None:
        nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
        challenge = Challenge("http-auth@example.org", nonce, algorithm)
        cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
        assert authorise(challenge, "GET", "/dir/index.html", "Mufasa", "Circle of Life", cnonce).response == response


class TestText:
    def test_challenge(self) -> None:
        text = 'Digest realm="siaga.local", nonce="n1", opaque="o", algorithm=SHA-256, qop="auth,auth-int", stale=true'
        challenge = Challenge.parse(text)
        assert challenge == Challenge("siaga.local", "n1", "sha-256", ("auth", "auth-int"), "o", True)
        assert str(challenge) == text
        assert Challenge.parse('digest nonce=n1,realm="a, \\"b\\""') == Challenge('a, "b"', "n1", "md5", ())

    def test_credentials(self) -> None:
        text = (
            'Digest username="101", realm="siaga.local", nonce="n1", uri="sip:siaga.local", response="ab",'
            ' algorithm=MD5, opaque="o1", qop=auth, nc=0000000a, cnonce="c1"'
        )
        credentials = Credentials.parse(text)
        assert credentials == Credentials(
            "101", "siaga.local", "n1", "sip:siaga.local", "ab", "md5", "auth", 10, "c1", "o1"
        )
        assert str(credentials) == text

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "Basic dXNlcjpwYXNz",
            "NoOneKnowsThisScheme opaque-data=here",
            "Digest",
            'Digest realm="x"',
            'Digest username="a", realm="r", nonce="n", uri="u"',
            'Digest username="a", realm="r", nonce="n", uri="u", response="x", qop=auth',
            'Digest username="a", realm="r", nonce="n", uri="u", response="x", qop=auth, nc=zz',
        ],
    )
    def test_what_is_none(self, text: str) -> None:
        with pytest.raises(RemoteError):
            Credentials.parse(text)

    @pytest.mark.parametrize("text", ["", "Basic realm=x", "Digest", 'Digest realm="x"', "Digest nonce=x"])
    def test_what_is_no_challenge(self, text: str) -> None:
        with pytest.raises(RemoteError):
            Challenge.parse(text)

    @given(st.text(max_size=60))
    def test_any_text_is_one_or_the_one_error(self, text: str) -> None:
        for kind in (Credentials, Challenge):
            try:
                kind.parse("Digest " + text)
            except RemoteError:
                continue

    @given(LINE, LINE, st.sampled_from([("auth",), ()]))
    def test_str_is_the_inverse_of_parse(self, realm: str, user: str, qop: tuple[str, ...]) -> None:
        challenge = Challenge(realm, "n", "md5", qop)
        assert Challenge.parse(str(challenge)) == challenge
        credentials = authorise(challenge, "BYE", "sip:a", user, "p", "c")
        assert Credentials.parse(str(credentials)) == credentials


class TestVerify:
    @pytest.mark.parametrize("algorithm", ["md5", "sha-256"])
    @pytest.mark.parametrize("qop", [("auth",), ()])
    def test_what_was_made_with_the_password_is_good(self, algorithm: str, qop: tuple[str, ...]) -> None:
        assert good(Credentials.parse(str(made(algorithm, qop))))

    def test_what_was_not_is_not(self) -> None:
        credentials = made()
        assert not good(credentials, password="Secret")
        assert not good(credentials, method="INVITE")
        assert not good(credentials, realm="elsewhere")
        for changed in (
            replace(credentials, username="102"),
            replace(credentials, realm="x"),
            replace(credentials, nonce="n2"),
            replace(credentials, cnonce="c2"),
            replace(credentials, nc=2),
            replace(credentials, response="é"),
            replace(credentials, algorithm="md5-sess"),
            replace(credentials, qop=None),
            replace(credentials, qop="auth-int"),
        ):
            assert not good(changed)

    def test_an_algorithm_that_is_not_allowed(self) -> None:
        assert not verify(made("md5"), "REGISTER", "secret", "siaga.local", HOSTS, ("sha-256",))
        assert verify(made("sha-256"), "REGISTER", "secret", "siaga.local", HOSTS, ("sha-256",))

    @pytest.mark.parametrize(
        "uri", ["sip:203.0.113.9;transport=UDP", "sip:101@SIAGA.local:5060", "tel:112", "urn:service:sos"]
    )
    def test_of_the_uri_the_host_must_be_ours(self, uri: str) -> None:
        assert good(made(uri=uri))

    @pytest.mark.parametrize("uri", ["sip:elsewhere", "sip:siaga.local@elsewhere", "", "siaga.local"])
    def test_elsewhere_is_not_here(self, uri: str) -> None:
        assert not good(made(uri=uri))

    def test_an_upper_case_response_is_the_same(self) -> None:
        credentials = made()
        assert good(replace(credentials, response=credentials.response.upper()))


class TestAuthorise:
    def test_the_first_challenge_that_we_can_answer(self) -> None:
        lines = [
            "Basic realm=x",
            str(Challenge("r", "n", "sha-512-256")),
            str(Challenge("r", "n", "md5", ("auth-int",))),
            str(Challenge("r", "n", "sha-256")),
            str(Challenge("r", "n", "md5")),
        ]
        chosen = supported_challenge(lines)
        assert chosen is not None
        assert chosen.algorithm == "sha-256"
        assert supported_challenge(lines[:3]) is None

    def test_the_count_is_in_the_answer(self) -> None:
        assert "nc=00000010" in str(made(nc=16))
        assert made(nc=16).response != made(nc=17).response


class TestNonces:
    def test_a_nonce_may_be_used_with_rising_counts(self) -> None:
        nonces = Nonces(b"secret", 60.0)
        nonce = nonces.make("h", 100.0)
        assert used(nonces, nonce, 1, 100.0) is Nonce.FRESH
        assert used(nonces, nonce, 1, 101.0) is Nonce.STALE
        assert used(nonces, nonce, 3, 101.0) is Nonce.FRESH
        assert used(nonces, nonce, 2, 101.0) is Nonce.STALE
        assert used(nonces, nonce, 4, 160.0) is Nonce.FRESH
        assert used(nonces, nonce, 5, 160.1) is Nonce.STALE

    def test_looking_at_it_does_not_use_it(self) -> None:
        nonces = Nonces(b"secret", 60.0)
        nonce = nonces.make("h", 0.0)
        assert [nonces.check(nonce, 1, "h", 0.0) for _ in range(3)] == [Nonce.FRESH] * 3

    def test_without_a_count_it_may_be_used_once(self) -> None:
        nonces = Nonces(b"secret", 60.0)
        nonce = nonces.make("h", 0.0)
        assert used(nonces, nonce, None, 1.0) is Nonce.FRESH
        assert used(nonces, nonce, None, 1.0) is Nonce.STALE
        assert used(nonces, nonce, 1, 1.0) is Nonce.STALE

    def test_no_two_are_alike(self) -> None:
        nonces = Nonces(b"secret", 60.0)
        assert len({nonces.make("h", 1.0) for _ in range(100)}) == 100

    def test_what_we_did_not_make_for_that_address_is_forged(self) -> None:
        nonces = Nonces(b"secret", 60.0)
        nonce = nonces.make("h", 0.0)
        forged = [
            "",
            "x",
            nonce[:-1],
            nonce + "0",
            "1" + nonce[1:],
            nonce.upper(),
            "é" * 54,
            Nonces(b"other", 60.0).make("h", 0.0),
            nonces.make("elsewhere", 0.0),
        ]
        for other in forged:
            assert nonces.check(other, 1, "h", 0.0) is Nonce.FORGED
        assert nonces.check(nonce, 1, "h", 0.0) is Nonce.FRESH

    def test_the_table_is_bounded_and_what_it_forgot_is_stale(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(digest, "MAX_NONCES", 3)
        nonces = Nonces(b"secret", 60.0)
        made = [nonces.make("h", 0.0) for _ in range(5)]
        unused = nonces.make("h", 0.0)
        for nonce in made:
            assert used(nonces, nonce, 1, 0.0) is Nonce.FRESH
        assert [used(nonces, nonce, 2, 0.0) for nonce in made] == [Nonce.STALE] * 2 + [Nonce.FRESH] * 3
        assert used(nonces, unused, 1, 0.0) is Nonce.FRESH

    @given(st.text(max_size=60), st.one_of(st.none(), st.integers(-1, 2**40)))
    def test_any_text_has_a_verdict(self, text: str, nc: int | None) -> None:
        assert Nonces(b"secret", 60.0).check(text, nc, "h", 0.0) is Nonce.FORGED


def used(nonces: Nonces, nonce: str, nc: int | None, now: float) -> Nonce:
    """What is said of it; what is fresh is used."""
    said = nonces.check(nonce, nc, "h", now)
    if said is Nonce.FRESH:
        nonces.use(nonce, nc)
    return said
