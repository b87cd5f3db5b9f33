"""``sealwire completion``: scripts for shells, which complete commands, options and names of contexts."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(*, shell: str) -> None:
    """Print a script that makes a shell complete `sealwire`.

    It completes commands, options, their choices, files, and the names of contexts. Put it where the shell looks for
    such scripts, or load it in the shell's start file:

    \b
    sealwire completion bash > ~/.local/share/bash-completion/completions/sealwire
    sealwire completion zsh > ~/.zfunc/_sealwire     # with fpath+=~/.zfunc before compinit
    sealwire completion fish > ~/.config/fish/completions/sealwire.fish
    """
    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"this version of click does not know {shell}")
    root = click.get_current_context().find_root()
    click.echo(found(root.command, {}, "sealwire", "_SEALWIRE_COMPLETE").source())
