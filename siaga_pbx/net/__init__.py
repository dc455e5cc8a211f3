"""The sockets around the SIP core: `endpoint` drives it over UDP, TCP and TLS; `addresses` is what peers are told."""
