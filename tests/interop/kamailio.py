"""A Kamailio that stays in the path of every call it relays (Record-Route), as a carrier's proxy or SBC does."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from siaga_pbx.demo.centre import free_port
from tests.interop.centres import until

_CONFIG = """
children=1
disable_tcp=yes
log_stderror=yes
listen=udp:{host}:{port}
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "maxfwd.so"
loadmodule "pv.so"
loadmodule "siputils.so"
loadmodule "textops.so"
request_route {{
    if (is_method("OPTIONS") && !has_totag()) {{ sl_send_reply("200", "OK"); exit; }}
    if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
    if (has_totag()) {{
        if (loose_route() || is_method("ACK")) {{ t_relay(); exit; }}
        sl_send_reply("404", "Not Here");
        exit;
    }}
    if (is_method("CANCEL")) {{
        if (t_check_trans()) t_relay();
        exit;
    }}
    t_check_trans();
    record_route();
    $du = "sip:{next_host}:{next_port}";
    t_relay();
}}
"""


@contextmanager
def proxy(host: str, towards: tuple[str, int], folder: Path) -> Iterator[tuple[str, int]]:
    """One that relays calls to `towards`; its address."""
    kamailio = shutil.which("kamailio", path="/usr/sbin:/usr/bin")
    assert kamailio is not None, "the test needs Debian's kamailio"
    folder.mkdir()
    port = free_port(host)
    config, said = folder / "kamailio.cfg", folder / "kamailio.log"
    config.write_text(_CONFIG.format(host=host, port=port, next_host=towards[0], next_port=towards[1]))
    with said.open("w") as log:
        process = subprocess.Popen(
            # -DD: in the foreground; -Y: its sockets and files stay in the test's folder
            [
                kamailio,
                "-DD",
                "-E",
                "-f",
                str(config),
                "-Y",
                str(folder),
                "-P",
                str(folder / "pid"),
                "-m",
                "32",
                "-M",
                "4",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        until(lambda: process.poll() is not None or _listens(host, port), "the proxy")
        assert process.poll() is None, said.read_text()
        yield host, port
    finally:
        process.terminate()
        process.wait(20)


def _listens(host: str, port: int) -> bool:
    octets = "".join(f"{int(octet):02X}" for octet in reversed(host.split(".")))
    return f"{octets}:{port:04X}" in Path("/proc/net/udp").read_text()
