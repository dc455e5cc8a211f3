"""The configuration: the shipped files load, and each broken one says file, key, found and accepted."""

import re
import shutil
from pathlib import Path

import pytest

from siaga_pbx import config
from siaga_pbx.commands.daemon import check_config
from siaga_pbx.config import Config, ConfigErrors, load, load_agency

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The shipped configuration and dialplan, with secrets."""
    (tmp_path / "config" / "secrets").mkdir(parents=True)
    shutil.copytree(ROOT / "dialplans", tmp_path / "dialplans")
    shutil.copy(ROOT / "config" / "siaga.toml", tmp_path / "config" / "siaga.toml")
    for name in ("seat-101", "seat-102", "seat-103", "mqtt-centre"):
        (tmp_path / "config" / "secrets" / name).write_text("a secret\n")
    return tmp_path


def change(path: Path, pattern: str, replacement: str) -> None:
    before = path.read_text()
    after, count = re.subn(pattern, replacement, before, count=1, flags=re.M)
    assert count == 1, f"{pattern} is not in {path}"
    path.write_text(after)


def errors_of(folder: Path) -> list[tuple[str, str, str, str]]:
    with pytest.raises(ConfigErrors) as caught:
        load(folder / "config" / "siaga.toml")
    return [(error.file.name, error.key, error.found, error.accepted) for error in caught.value.errors]


def test_the_shipped_configuration_loads(folder: Path) -> None:
    loaded = load(folder / "config" / "siaga.toml")
    assert loaded.centre.id == "cirebon"
    assert loaded.seats[0].password == "a secret"
    assert loaded.records.database == f"sqlite:///{folder}/config/siaga.db"
    assert loaded.agencies_for("accident") == ("psc119", "polres110")
    assert loaded.token_file == folder / "config" / "siaga.token"


def test_a_database_on_a_server_from_a_file_of_its_own(folder: Path) -> None:
    file = folder / "config" / "siaga.toml"
    url = "postgresql://siaga:rahasia@/siaga?host=/run/postgresql"
    (folder / "config" / "secrets" / "database").write_text(f"{url}\n")
    change(file, r"^database = .*", 'database = { file = "secrets/database" }')
    loaded = load(file)
    assert loaded.records.database == url
    assert "rahasia" not in repr(loaded)
    assert loaded.token_file == folder / "config" / "siaga.token", "beside the recordings"
    assert loaded.journal_file == folder / "config" / "siaga.pending"


@pytest.mark.parametrize(
    "url",
    ["postgresql://siaga:rahasia@/", "mysql://siaga:rahasia@h/d", "postgresql://siaga:rahasia@h:port/d", "sqlite://x"],
)
def test_a_database_that_is_none_is_named_without_its_password(folder: Path, url: str) -> None:
    change(folder / "config" / "siaga.toml", r"^database = .*", f'database = "{url}"')
    ((file, key, found, accepted),) = errors_of(folder)
    assert (file, key) == ("siaga.toml", "records.database")
    assert "rahasia" not in found
    assert accepted.startswith("sqlite:///FILE or postgresql://")


def test_the_default_configuration_loads_and_is_the_copy_in_config(folder: Path) -> None:
    default = ROOT / "siaga_pbx" / "siaga.default.toml"
    assert default.read_bytes() == (ROOT / "config" / "siaga.default.toml").read_bytes()
    copy = folder / "config" / "siaga.toml"
    text = default.read_text()
    agencies = '[[agency]]\nid = "psc119"\n[[agency]]\nid = "bpbd"\n[[agency]]\nid = "polres110"\n'
    copy.write_text(text + agencies)
    loaded = load(copy)
    assert loaded.queue == config.QueueSettings()
    assert loaded.media.model_copy(update={"socket": None}) == config.Media()


def test_the_default_configuration_names_every_key() -> None:
    text = (ROOT / "siaga_pbx" / "siaga.default.toml").read_text()
    for section in (
        config.Centre,
        config.Sip,
        config.Trunk,
        config.Media,
        config.QueueSettings,
        config.Seat,
        config.Records,
        config.Mqtt,
        config.Agency,
        config.Http,
    ):
        for name, field in section.model_fields.items():
            if name != "listen" or section in (config.Sip, config.Http):
                assert re.search(rf"^{field.alias or name} = ", text, re.M), f"{section.__name__}.{name}"


BROKEN = [
    ("siaga.toml", '^id = "cirebon"$', 'id = "Cirebon 112"', "centre.id", "'Cirebon 112'", "1 to 32 of a-z 0-9 _ -"),
    ("siaga.toml", "^ring_s = 12$", "ring_s = -1", "queue.ring_s", "-1", "seconds, more than 0 and at most 86400"),
    (
        "siaga.toml",
        "^ring_s = 12$",
        "rings_s = 12",
        "queue.rings_s",
        "a key that does not exist",
        "did you mean ring_s?",
    ),
    ("siaga.toml", "^keep_calls_days = 1825$", "", "records.keep_calls_days", "nothing", "required, a legal choice"),
    ("siaga.toml", r"192\.0\.2\.0/28", "192.0.2.1/28", "trunk[0].addresses[0]", "'192.0.2.1/28'", "no host bits set"),
    (
        "siaga.toml",
        r"tcp://127.0.0.1:5060",
        "sctp://127.0.0.1",
        "sip.listen[1]",
        "'sctp://127.0.0.1'",
        "udp://ADDRESS:PORT",
    ),
    (
        "siaga.toml",
        r"^domain = ",
        'resolver = "dns.example"\ndomain = ',
        "sip.resolver",
        "'dns.example'",
        "ADDRESS or ADDRESS:PORT",
    ),
    (
        "siaga.toml",
        r"^domain = ",
        'origins = ["meja.example"]\ndomain = ',
        "sip.origins[0]",
        "'meja.example'",
        "https://meja.example",
    ),
    ("siaga.toml", r'^addresses = \["192\.0\.2\.0/28"\]', "", "trunk[0].addresses", "nothing", "or certificate_names"),
    (
        "siaga.toml",
        r'^addresses = \["192\.0\.2\.0/28"\]',
        'certificate_names = ["sbc.example"]',
        "sip.ca",
        "nothing",
        "as a [[trunk]] has certificate_names",
    ),
    (
        "siaga.toml",
        r"tcp://127.0.0.1:5060",
        "wss://127.0.0.1:5443",
        "sip.certificate",
        "nothing",
        "tls:// or wss:// address",
    ),
    ("siaga.toml", r"^domain = ", 'srtp = "on"\ndomain = ', "sip.srtp", "'on'", '"offered" or "required"'),
    ("siaga.toml", r"^domain = ", 'srtp = "required"\ndomain = ', "sip.srtp", "'required'", "tls:// or wss:// address"),
    ("siaga.toml", r"mqtt://127.0.0.1:1883", "mqtt://192.0.2.7", "mqtt", "", "mqtts:// for a broker beyond loopback"),
    ("siaga.toml", r'"sip:198\.51\.100\.17:5060"', '"tel:+6281"', "trunk[1].outbound", "'tel:+6281'", "a sip: URI"),
    ("siaga.toml", r'"sip:192\.0\.2\.1"', '"sip:"', "trunk[0].health_uri", "'sip:'", "a sip: URI"),
    ("siaga.toml", "agency:bpbd", "agency:bpdb", "agency[0].escalate", "'agency:bpdb'", "another [[agency]]: bpbd"),
    ("siaga.toml", "secrets/seat-102", "secrets/none", "seat[1].password", "No such file", "a readable file"),
    ("siaga.toml", '^id = "102"$', 'id = "101"', "seat[1].id", "'101'", "no other [[seat]]"),
    ("siaga.toml", r'^answer = "at-once"$', 'answer = "soon"', "queue.answer", "'soon'", '"at-once" or "by-seat"'),
    ("siaga.toml", r"^\[sip\]$", "[sip", "(syntax)", "", "TOML 1.0"),
    ("cirebon.toml", r'^agencies = \["damkar"\]$', 'agencies = ["x"]', "category[0].agencies", "'x'", "an [[agency]]"),
    (
        "cirebon.toml",
        '^action = "test-call"$',
        'action = "echo"',
        "route[1].action",
        "'echo'",
        '"queue" or "test-call"',
    ),
    ("cirebon.toml", '^id = "fire"$', 'id = "flood"', "category[0].id", "'flood'", "PM Kominfo 10/2016"),
]


@pytest.mark.parametrize(("file", "pattern", "replacement", "key", "found", "accepted"), BROKEN)
def test_a_broken_file_says_what_to_mend(
    folder: Path, file: str, pattern: str, replacement: str, key: str, found: str, accepted: str
) -> None:
    place = folder / ("dialplans" if file == "cirebon.toml" else "config") / file
    change(place, pattern, replacement)
    matching = [error for error in errors_of(folder) if error[:2] == (file, key)]
    assert len(matching) == 1, errors_of(folder)
    assert found in matching[0][2]
    assert accepted in matching[0][3]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("192.0.2.53", ("192.0.2.53", 53)),
        ("127.0.0.1:5353", ("127.0.0.1", 5353)),
        ("2001:db8::53", ("2001:db8::53", 53)),
        ("[::1]:5353", ("::1", 5353)),
        ("", None),
    ],
)
def test_a_name_server_is_an_address_with_or_without_a_port(
    folder: Path, written: str, read: tuple[str, int] | None
) -> None:
    change(folder / "config" / "siaga.toml", "^domain = ", f'resolver = "{written}"\ndomain = ')
    assert load(folder / "config" / "siaga.toml").sip.resolver == read


def test_a_centre_may_listen_to_everything_at_once(folder: Path) -> None:
    change(folder / "config" / "siaga.toml", r'"tcp://127.0.0.1:5060"', '"udp://[::1]:5060", "ws://[::]:5080"')
    assert load(folder / "config" / "siaga.toml").sip.listen == (
        ("udp", "127.0.0.1", 5060),
        ("udp", "::1", 5060),
        ("ws", "::", 5080),
    )


def test_one_name_is_one_trunk_s(folder: Path) -> None:
    for name in ("SBC.example", "sbc.example"):
        change(folder / "config" / "siaga.toml", r"^addresses = .*$", f'certificate_names = ["{name}"]')
    found = errors_of(folder)
    assert ("siaga.toml", "trunk[1].certificate_names") in [error[:2] for error in found]


def test_no_error_shows_a_secret(folder: Path) -> None:
    """Errors go to the log at a reload. One of a whole section has the section for its value."""
    change(folder / "config" / "siaga.toml", "mqtt://127.0.0.1:1883", "http://127.0.0.1")
    change(folder / "config" / "siaga.toml", r"\{ file = \"secrets/mqtt-centre\" \}", '"s3cret"')
    found = errors_of(folder)
    assert [error[:2] for error in found] == [("siaga.toml", "mqtt")]
    assert "s3cret" not in str(found)


def test_all_errors_of_both_files_are_listed_at_once(folder: Path) -> None:
    change(folder / "config" / "siaga.toml", "^ring_s = 12$", "ring_s = 0")
    change(folder / "config" / "siaga.toml", '^country = "ID"$', 'country = "XX"')
    change(folder / "dialplans" / "cirebon.toml", '^action = "test-call"$', 'action = "echo"')
    assert {error[:2] for error in errors_of(folder)} == {
        ("siaga.toml", "queue.ring_s"),
        ("siaga.toml", "centre.country"),
        ("cirebon.toml", "route[1].action"),
    }


def test_an_environment_variable_that_is_not_set_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = folder / "config" / "siaga.toml"
    change(place, r'\{ file = "secrets/seat-101" \}', '{ env = "SEAT_101" }')
    assert errors_of(folder) == [
        (
            "siaga.toml",
            "seat[0].password",
            "environment variable SEAT_101, which is not set",
            "SEAT_101 set to the value",
        )
    ]
    monkeypatch.setenv("SEAT_101", "from the environment")
    assert load(place).seats[0].password == "from the environment"


def test_a_password_is_never_shown(folder: Path) -> None:
    change(folder / "config" / "siaga.toml", r'\{ file = "secrets/seat-101" \}', '["hush"]')
    errors = errors_of(folder)
    assert [error[1] for error in errors] == ["seat[0].password"]
    assert "hush" not in str(errors)


def test_a_missing_file_and_a_missing_dialplan_are_errors_of_that_file(folder: Path) -> None:
    (folder / "dialplans" / "cirebon.toml").unlink()
    assert [error[:3] for error in errors_of(folder)] == [("cirebon.toml", "(file)", "no such file")]
    (folder / "config" / "siaga.toml").unlink()
    assert [error[:3] for error in errors_of(folder)] == [("siaga.toml", "(file)", "no such file")]


def test_an_agencys_own_file_needs_three_tables_only(tmp_path: Path) -> None:
    place = tmp_path / "agency.toml"
    place.write_text('[centre]\nid = "cirebon"\n[mqtt]\nbroker = "mqtt://127.0.0.1"\n[[agency]]\nid = "damkar"\n')
    own = load_agency(place)
    assert (own.centre_id, own.agencies[0].id) == ("cirebon", "damkar")
    assert config.is_agency_file(place)
    assert not config.is_agency_file(ROOT / "config" / "siaga.toml")
    place.write_text("")
    with pytest.raises(ConfigErrors) as caught:
        load_agency(place)
    assert [error.key for error in caught.value.errors] == ["mqtt", "centre.id"]


def test_a_configuration_is_frozen(folder: Path) -> None:
    loaded: Config = load(folder / "config" / "siaga.toml")
    with pytest.raises(ValueError, match="frozen"):
        loaded.__setattr__("seats", ())


def test_check_config_takes_an_agencys_file_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "agency.toml"
    place.write_text('[centre]\nid = "cirebon"\n[mqtt]\nbroker = "mqtt://127.0.0.1"\n[[agency]]\nid = "damkar"\n')
    assert check_config(place) == 0
    assert capsys.readouterr().out == f"{place}: good: the end of damkar for the centre cirebon\n"
    place.write_text(place.read_text().replace('"damkar"', '"Damkar"'))
    assert check_config(place) == 1
    assert "agency[0].id: found 'Damkar'" in capsys.readouterr().err
