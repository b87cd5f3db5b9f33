"""The script ``sealwire``. Apart from the package, whose import is most of the time in which ^C could interrupt one."""

# What signal is made of, without the enumerations, whose import takes a while.
import _signal  # type: ignore[import-not-found]  # not part of the documented library


def main() -> None:
    """Run the command line. SIGINT ends the process without a traceback of imports."""
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    from sealwire.__main__ import main as run

    run()
