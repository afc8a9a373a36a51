"""Who may look: this machine alone, or whoever has the token.

A page of another site that is open in the same browser can reach 127.0.0.1 too. It cannot name this host or hide
where it comes from, so both are checked.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

_TOKEN_BYTES = 24


@dataclass(frozen=True)
class Access:
    """The address that is listened on, and what a visitor must bring; `token` is empty on this machine alone."""

    host: str
    token: str

    def refusal(self, headers: Mapping[str, str], given_token: str) -> str | None:
        """Why a request is refused; None where it is not."""
        named = headers.get("host", "")
        if not self.token and not is_loopback(_host_of(f"//{named}")):
            return "this preview answers on this machine only; open the address that sr-edge printed"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != named:
            return "another site's page may not look at this preview"
        if self.token and not hmac.compare_digest(given_token.encode(), self.token.encode()):
            return "the token is missing or wrong; open the address that sr-edge printed"
        return None

    def address(self, shown_host: str, port: int) -> str:
        """What a person opens."""
        host = f"[{shown_host}]" if ":" in shown_host else shown_host
        return f"http://{host}:{port}/" + (f"?token={self.token}" if self.token else "")


def access_for(host: str) -> Access:
    """No token where only this machine can reach `host`, a fresh one everywhere else."""
    return Access(host, "" if is_loopback(host) else secrets.token_urlsafe(_TOKEN_BYTES))


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _host_of(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""
