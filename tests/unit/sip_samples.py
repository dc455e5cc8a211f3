"""A typical INVITE of a carrier's IMS core, for the tests of the SIP layer."""

SDP = (
    "v=0\r\n"
    "o=- 20518 1 IN IP4 192.0.2.1\r\n"
    "s=-\r\n"
    "c=IN IP4 192.0.2.1\r\n"
    "t=0 0\r\n"
    "m=audio 54400 RTP/AVP 8 0 96 101\r\n"
    "a=rtpmap:96 AMR/8000\r\n"
    "a=fmtp:96 mode-set=7\r\n"
    "a=rtpmap:101 telephone-event/8000\r\n"
    "a=fmtp:101 0-15\r\n"
    "a=ptime:20\r\n"
    "a=sendrecv\r\n"
)

HEAD = (
    "INVITE sip:112@203.0.113.9:5060;user=phone SIP/2.0\r\n"
    "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKnashds8-1234567890;rport\r\n"
    "Record-Route: <sip:192.0.2.1:5060;lr;ftag=abc>\r\n"
    "Max-Forwards: 69\r\n"
    'From: "Budi" <sip:+6281234567890@ims.mnc010.mcc510.3gppnetwork.org;user=phone>;tag=1928301774\r\n'
    "To: <sip:112@203.0.113.9;user=phone>\r\n"
    "Call-ID: a84b4c76e66710@192.0.2.1\r\n"
    "CSeq: 314159 INVITE\r\n"
    "Contact: <sip:+6281234567890@192.0.2.1:5060;transport=udp>\r\n"
    "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO\r\n"
    "Supported: 100rel, timer, precondition\r\n"
    "Session-Expires: 1800;refresher=uac\r\n"
    "Min-SE: 90\r\n"
    "P-Asserted-Identity: <sip:+6281234567890@ims.mnc010.mcc510.3gppnetwork.org>, <tel:+6281234567890>\r\n"
    "P-Access-Network-Info: 3GPP-E-UTRAN-FDD;utran-cell-id-3gpp=510100123456789ab\r\n"
    "P-Charging-Vector: icid-value=AyretyU0dm+6O2IrT5tAFrbHLso=023551024;orig-ioi=home1.net\r\n"
    "P-Charge-Info: <sip:+6281234567890@192.0.2.1>;nocredit\r\n"
    "Privacy: none\r\n"
    "User-Agent: IMS Core\r\n"
    "Accept: application/sdp, application/isup\r\n"
    "Content-Type: application/sdp\r\n"
)

INVITE = f"{HEAD}Content-Length: {len(SDP)}\r\n\r\n{SDP}".encode()


def minimal(
    first: str = "OPTIONS sip:112@203.0.113.9 SIP/2.0", *more: str, without: str = "", body: bytes = b""
) -> bytes:
    """A message of the five headers of the door and `more`; `without` leaves out the header of that name."""
    method = first.split()[0] if not first.startswith("SIP/") else "OPTIONS"
    lines = [
        "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1",
        "From: <sip:a@192.0.2.1>;tag=1",
        "To: <sip:112@203.0.113.9>",
        "Call-ID: c1",
        f"CSeq: 1 {method}",
    ]
    kept = [line for line in lines if not without or not line.startswith(without + ":")]
    return "\r\n".join([first, *kept, *more, "", ""]).encode() + body
