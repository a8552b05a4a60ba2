"""The TLS of the HTTP ingress: its certificate, and whose certificates its clients must have.

Asked for by the server when it starts. What cannot be used is named by its option, because the operator who reads the
message is rarely on the machine of the proxy.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from meshserve.proxy.options import HttpOptions


def server_context(options: HttpOptions) -> ssl.SSLContext | None:
    """What the server speaks TLS with; None for plain HTTP.

    Raises:
        ValueError: a file cannot be read or used, or the password is not the key's; says which and why.
    """
    if options.ssl_certfile is None or options.ssl_keyfile is None:
        return None
    certificate, key = _read("ssl_certfile", options.ssl_certfile), _read("ssl_keyfile", options.ssl_keyfile)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])  # so that clients that could do better need not guess
    password = options.ssl_keyfile_password or ""  # with None, OpenSSL asks for it at a terminal
    try:
        context.load_cert_chain(options.ssl_certfile, options.ssl_keyfile, lambda: password)
    except (ssl.SSLError, ValueError) as error:
        raise ValueError(
            f"Cannot serve HTTPS with ssl_certfile {options.ssl_certfile!r} and ssl_keyfile {options.ssl_keyfile!r}: "
            f"{_reason(certificate, key, password)} ({error})"
        ) from error
    if options.ssl_ca_certs is not None:
        _read("ssl_ca_certs", options.ssl_ca_certs)
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(options.ssl_ca_certs)
        except ssl.SSLError as error:
            raise ValueError(
                f"Cannot serve HTTPS with ssl_ca_certs {options.ssl_ca_certs!r}: it has no certificates in PEM format "
                f"({error})"
            ) from error
    return context


def _read(option: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(
            f"Cannot serve HTTPS with {option} {path!r}: {error.strerror}. Every machine with a proxy needs the file."
        ) from error


def _reason(certificate: bytes, key: bytes, password: str) -> str:
    if b"-----BEGIN CERTIFICATE-----" not in certificate:
        return "the first has no certificate in PEM format."
    if b"PRIVATE KEY-----" not in key:
        return "the second has no private key in PEM format."
    if b"ENCRYPTED" in key:
        wrong = "ssl_keyfile_password is not its password" if password else "give ssl_keyfile_password"
        return f"the key is encrypted: {wrong}."
    return "the key must be that of the first certificate in the file."
