"""rtp.io (RTPproxy as a Python module) as a process of its own: run by `relays.py`, in a folder of its own.

Reads an order from stdin (JSON: calls, the far ends' port, whether to record) and says the ports of all legs on stdout.
Recordings and its accounts go into the current folder.
"""

import json
import resource
import sys

from rtp.io import rtpproxy


def main() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    proxy = rtpproxy()
    commands = proxy.rtpp_sock
    commands.settimeout(10)

    def ask(command: str) -> int:
        commands.sendall(f"{command}\n".encode())
        answer = commands.recv(4096).split()
        if answer[0].startswith(b"E"):
            raise RuntimeError(f"{command}: {answer}")
        return int(answer[0])

    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        ports = []
        for number in range(order["calls"]):
            far = f"call-{number} 127.0.0.1 {order['far_port']}"
            ports += [ask(f"U {far} from;1"), ask(f"L {far} from;1 to;1")]
            if order["record"]:
                ask(f"R call-{number} from;1 to;1")
                ask(f"R call-{number} to;1 from;1")
        print(json.dumps(ports), flush=True)


if __name__ == "__main__":
    main()
