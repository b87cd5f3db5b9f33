"""The native core: the hot parts of :mod:`sealwire.pickling`, :mod:`sealwire.wire` and their carriers, in Cython.

It is optional. Without it, or if ``SEALWIRE_NATIVE=off`` is set when this is imported, Sealwire does the same in
Python, more slowly. With ``SEALWIRE_NATIVE=require``, its absence is an ImportError.

The Python of those packages is the reference, written for readers, and refuses what must be refused. The twins here
accept what the reference accepts. What they do not accept they leave to the reference, which has the last word and
words the error. docs/explanation/native-core.md has the reasons.

* :mod:`.survey`: what a value needs, before it is pickled, so that the decoder need not be asked about it.
* :mod:`.plain`: the pickle of plain data, in the same pass.
* :mod:`.vetting`: the vetting pass, with :mod:`.calls`, :mod:`.nodes` and :mod:`.leaves` as in the reference.
* :mod:`.keys`, :mod:`.texts`: the keys of dicts and sets, and those among them that are short str.
* :mod:`.instances`: the instances of configured classes, of what was built in their places
  (:mod:`sealwire.pickling.resolve`, :mod:`sealwire.pickling.adapters.record`).
* :mod:`.collisions`: the probes of CPython's dicts and sets (:mod:`sealwire.pickling.hash_collisions`).
* :mod:`.sizes`: whether a value is too large to be encoded on an event loop (:mod:`sealwire.aio.threads`).
* :mod:`.frames`: sealing and opening small frames.
* :mod:`.records`: passing them through TLS and the socket (:mod:`sealwire.sync.tls_socket`, :mod:`sealwire.aio.pump`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final


def _is_there() -> bool:
    wish = os.environ.get("SEALWIRE_NATIVE", "")
    if wish == "off":
        return False
    if wish not in ("", "require"):
        raise ImportError(f"SEALWIRE_NATIVE={wish}: must be off, require or unset")
    try:
        import sealwire.native.vetting  # noqa: F401 - one of the modules that are compiled together

        if _is_stale():
            raise ImportError("what is compiled is older than its sources")  # one remedy for both
    except ImportError as error:
        if wish == "require":
            from sealwire.extras import installing

            raise ImportError(
                "SEALWIRE_NATIVE=require, but the native core is not installed: with a C compiler and CPython's "
                f"headers, {installing('', '--force-reinstall', '--no-deps')} (or, in a checkout, make native), or "
                f"unset the variable ({error})"
            ) from error
        return False
    return True


def _is_stale() -> bool:
    """Return True in a checkout in which a source has changed since it was compiled."""
    place = Path(__file__).parent
    made = min(file.stat().st_mtime for pattern in ("*.so", "*.pyd") for file in place.glob(pattern))
    return any(source.stat().st_mtime > made for pattern in ("*.pyx", "*.pxd") for source in place.glob(pattern))


NATIVE: Final = _is_there()
"""The native core is in use."""
