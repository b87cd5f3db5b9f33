"""The arguments that all clients share, and how clients show themselves."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from sealwire.client_base import BaseClient, HostClient, PathClient, check_seconds
from sealwire.errors import ConfigurationError
from support.service import Deployment


class Unconnected(BaseClient):
    """A client that never connects."""

    def _send(self, *args: Any, **names: Any) -> Any:
        raise AssertionError("it is never asked")


class Host(Unconnected, HostClient):
    """One on TCP."""

    _is_open = False


class AtPath(Unconnected, PathClient):
    """The same at a Unix socket."""

    _is_open = True


class TestSeconds:
    @pytest.mark.parametrize("value", [0.001, 1, 5.5, 86_400, 86_400.0])
    def test_good(self, value: float) -> None:
        seconds = check_seconds("wait", value)
        assert type(seconds) is float
        assert seconds == value

    @pytest.mark.parametrize("value", [0, -1, 0.0, 86_400.1, math.inf, -math.inf, math.nan, 10**400, True, False])
    def test_out_of_range(self, value: Any) -> None:
        with pytest.raises(ConfigurationError, match=r"^wait must be a number of seconds above 0 and at most 86400$"):
            check_seconds("wait", value)

    @pytest.mark.parametrize("value", ["5", None, [5], 5j])
    def test_no_number(self, value: Any) -> None:
        with pytest.raises(ConfigurationError, match=r"^timeout must be"):
            check_seconds("timeout", value)


class TestHost:
    def test_arguments(self, deployment: Deployment) -> None:
        security = deployment.security("client")
        made = Host("localhost", 4711, 1, 2, security=security)
        assert (made.host, made.port, made.timeout, made.wait) == ("localhost", 4711, 1.0, 2.0)
        assert made.security is security
        assert (Host("localhost", 4711, security=security).timeout, made.wait) == (10.0, 2.0)

    @pytest.mark.parametrize(
        ("host", "shown"), [("localhost", "localhost:4711"), ("127.0.0.1", "127.0.0.1:4711"), ("::1", "[::1]:4711")]
    )
    def test_is_shown(self, deployment: Deployment, host: str, shown: str) -> None:
        assert repr(Host(host, 4711, security=deployment.security("client"))) == f"<Host {shown}, not connected>"

    @pytest.mark.parametrize("port", [0, -1, 65_536, 4711.0, "4711", None, True])
    def test_no_port(self, deployment: Deployment, port: Any) -> None:
        with pytest.raises(ConfigurationError, match="port must be a whole number from 1 to 65535"):
            Host("localhost", port, security=deployment.security("client"))

    @pytest.mark.parametrize("host", ["", "a b", "localhost:4711", "*.example", 5, None])
    def test_no_host(self, deployment: Deployment, host: Any) -> None:
        with pytest.raises(ConfigurationError, match=r"host|neither a DNS name"):
            Host(host, 4711, security=deployment.security("client"))

    @pytest.mark.parametrize("name", ["timeout", "wait"])
    def test_no_time(self, deployment: Deployment, name: str) -> None:
        with pytest.raises(ConfigurationError, match=f"^{name} must be a number"):
            Host("localhost", 4711, **{name: 0}, security=deployment.security("client"))

    def test_no_security(self) -> None:
        with pytest.raises(ConfigurationError, match="a client needs a Security"):
            Host("localhost", 4711, security=None)


class TestPath:
    def test_arguments(self, deployment: Deployment, tmp_path: Path) -> None:
        security = deployment.security("client", peers=["uid:0"], service="orders")
        for path in (tmp_path / "socket", str(tmp_path / "socket")):
            made = AtPath(path, security=security)
            assert made.path == str(tmp_path / "socket")
            assert repr(made) == f"<AtPath {tmp_path}/socket, open>"

    @pytest.mark.parametrize(
        ("options", "says"), [({"peers": ["uid:0"]}, "give the service a name"), ({"service": "x"}, "List the users")]
    )
    def test_needs_a_service_and_users(self, deployment: Deployment, options: dict[str, Any], says: str) -> None:
        with pytest.raises(ConfigurationError, match=says):
            AtPath("/run/socket", security=deployment.security("client", **options))
