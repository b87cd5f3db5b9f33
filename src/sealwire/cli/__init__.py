"""The command line, extra ``cli``: one file for each group of commands, ``app`` puts them together."""
