"""The command line, extra ``cli``: a module for each command or group of commands; ``app`` puts them together."""
