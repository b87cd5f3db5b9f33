"""Constants that both ends of the tests agree on. Imports nothing: each server in a process of its own imports it."""

from __future__ import annotations

SECRET = b"the secret of the tests' only key"
KEY_ID = "k1"
QUICK = {"handshake_timeout": 5.0, "idle_timeout": 10.0, "frame_timeout": 5.0, "drain_timeout": 5.0}
