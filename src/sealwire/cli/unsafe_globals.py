"""Names that hostile pickles use to run code, for warnings only: the allowlist alone decides."""

from __future__ import annotations

from typing import Final

_MODULES: Final = {
    "runs programs, or acts on files and processes": """
        os posix nt ntpath posixpath subprocess _posixsubprocess commands popen2 pty multiprocessing concurrent asyncio
        webbrowser platform shutil signal""",
    "runs Python code, or reaches names that do": """
        code codeop runpy importlib _frozen_importlib imp pkgutil zipimport timeit profile cProfile trace pdb bdb
        doctest ctypes _ctypes cffi pip setuptools distutils site pydoc venv ensurepip unittest idlelib lib2to3 types
        sys gc inspect ast threading _thread atexit rlcompleter linecache logging cgitb""",
    "calls anything that it is given": "operator _operator functools _functools itertools weakref",
    "loads or rebuilds anything, unrestricted": """
        pickle _pickle cPickle marshal shelve dill cloudpickle joblib copyreg copy_reg""",
    "opens files or connections": """
        io _io socket _socket ssl http urllib urllib2 httplib ftplib smtplib poplib imaplib telnetlib tempfile fileinput
        glob sqlite3 dbm codecs _codecs requests aiohttp socketserver mmap""",
}
_WHY: Final = {module: why for why, modules in _MODULES.items() for module in modules.split()}
_BUILTINS: Final = frozenset((
    "eval", "exec", "execfile", "compile", "__import__", "open", "file", "input", "raw_input", "breakpoint", "apply",
    "getattr", "setattr", "delattr", "globals", "locals", "vars", "map", "filter", "reduce", "type", "object", "super",
    "help", "print", "exit", "quit", "reload",
))  # fmt: skip


def danger(module: str, name: str) -> str | None:
    """Return the use of a name in an attack, or None if it is not known for any.

    ``name`` may have dots, as from protocol 4 on: each part is an attribute of the one before.
    """
    top = module.partition(".")[0]
    if top in ("builtins", "__builtin__"):
        return "runs Python code, or reaches names that do" if name.partition(".")[0] in _BUILTINS else None
    if top in _WHY:
        return _WHY[top]
    parts = name.split(".")
    reaching = len(parts) > 1 and any(part in _WHY or part in _BUILTINS for part in parts)
    if reaching or any(part.startswith("__") for part in parts):
        return "reaches through a module for something else"
    return None
