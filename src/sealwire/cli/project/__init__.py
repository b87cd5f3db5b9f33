"""The command ``sealwire new``."""

from __future__ import annotations

from sealwire.cli.project.command import new

__all__ = ["new"]
