"""`xpnn completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from .help_page import command

PROGRAM = "xpnn"
VARIABLE = "_XPNN_COMPLETE"  # by which the script asks the program
SHELLS = [shell for shell in ("bash", "zsh", "fish", "powershell") if get_completion_class(shell) is not None]


@command(examples=["xpnn completion bash > ~/.xpnn-completion"])
@click.argument("shell", type=click.Choice(SHELLS), metavar="|".join(SHELLS))
def completion(shell: str) -> None:
    r"""Print a script that completes commands in your shell.

    Commands, options, recipes, backends, data and run folders are then completed by the Tab key. Install it once,
    and open a new shell:

    \b
    bash:
      xpnn completion bash > ~/.xpnn-completion
      echo '. ~/.xpnn-completion' >> ~/.bashrc
    zsh (after compinit):
      xpnn completion zsh > ~/.xpnn-completion
      echo '. ~/.xpnn-completion' >> ~/.zshrc
    fish:
      xpnn completion fish > ~/.config/fish/completions/xpnn.fish
    PowerShell:
      xpnn completion powershell >> $PROFILE
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"this version of click has no completion for {shell}: pip install --upgrade click")
    program = click.get_current_context().find_root().command
    click.echo(kind(program, {}, PROGRAM, VARIABLE).source().encode(), nl=False)  # with the line ends of the shell
