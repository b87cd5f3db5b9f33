"""Mutants of packages that security depends on, which their own tests must notice: ``make mutants``.

mutmut does the work: it writes every mutant of a function into one file, imports the package once, and forks for each
mutant, so that one takes the time of the tests that call its function, and no interpreter starts. It looks for its
settings in the directory where it runs; so each package has a directory in ``.mutants``, with copies of the source and
the tests and a ``pyproject.toml`` of its own.
"""
