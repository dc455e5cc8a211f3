"""`mqtt-acl`: the broker's access rules, from the configuration."""

import sys
from pathlib import Path

from siaga_pbx.commands.common import load_config
from siaga_pbx.commands.failures import Failed
from siaga_pbx.dispatch.broker import CENTRE_USER, access_rules

_HEAD = """\
# Who may do what on the broker: acl_file of mosquitto, made by siaga-pbx mqtt-acl from the centre's configuration.
# One user an agency, named as its [[agency]] id (or, with use_identity_as_username, the CN of its client certificate).
"""


def mqtt_acl(file: Path | None) -> int:
    """Print mosquitto's acl_file: the centre, and each agency to what is its own."""
    config = load_config(file)
    centre = config.mqtt.username or CENTRE_USER
    agencies = [agency.id for agency in config.agencies]
    if centre in agencies:
        raise Failed(f"[mqtt] username {centre!r} is the id of an agency: each agency needs a user of its own")
    sys.stdout.write(f"{_HEAD}\n{access_rules(config.mqtt.prefix, agencies, centre)}")
    return 0
