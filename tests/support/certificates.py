"""Certificates for tests, made by openssl and keytool."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["make_certificates"]


def make_certificates(directory: Path) -> Path:
    """Make an authority `ca.pem`, a server's and a client's certificate of it, and a foreign one of another authority.

    The server's names `localhost` only. `server.p12` and `trust.p12` are stores for Java, with the password `changeit`.
    """
    if missing := [name for name in ("openssl", "keytool") if shutil.which(name) is None]:
        pytest.skip(f"no {' and no '.join(missing)}")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "names").write_text("subjectAltName=DNS:localhost")
    for authority in ("ca", "other"):
        _run(directory, f"openssl req -x509 {_KEY} {authority}.key -out {authority}.pem -days 2 -subj /CN={authority}")
    for name, authority in (("server", "ca"), ("client", "ca"), ("foreign", "other")):
        _run(directory, f"openssl req {_KEY} {name}.key -out {name}.csr -subj /CN={name}")
        signed = f"-CA {authority}.pem -CAkey {authority}.key -CAcreateserial -extfile names"
        _run(directory, f"openssl x509 -req -in {name}.csr {signed} -out {name}.pem -days 2")
    _run(directory, "openssl pkcs12 -export -in server.pem -inkey server.key -out server.p12 -passout pass:changeit")
    trust = "-keystore trust.p12 -storetype PKCS12 -storepass changeit"
    _run(directory, f"keytool -importcert -noprompt -alias ca -file ca.pem {trust}")
    return directory


_KEY = "-newkey rsa:2048 -nodes -keyout"


def _run(directory: Path, command: str) -> None:
    subprocess.run(command.split(), cwd=directory, check=True, capture_output=True)
