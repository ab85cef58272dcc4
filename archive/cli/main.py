"""The program: ``fileroom``, the same as ``python -m archive``."""

import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Final

import typer

# Where each command is. Only the one that is asked for is loaded: all of them take a second.
_COMMANDS: Final = {
    "serve": "archive.cli.serving:serve",
    "import": "archive.cli.importing:import_",
    "export": "archive.cli.exporting:export",
    "send": "archive.cli.sending:send",
    "status": "archive.cli.reports:status",
    "verify": "archive.cli.reports:verify",
    "rebuild-index": "archive.cli.maintenance:rebuild_index",
    "migrate-index": "archive.cli.moving_index:migrate_index",
    "migrate-objects": "archive.cli.moving:migrate_objects",
    "delete": "archive.cli.maintenance:delete",
    "restore": "archive.cli.maintenance:restore",
    "purge": "archive.cli.maintenance:purge",
    "doctor": "archive.cli.doctor:doctor",
    "demo": "archive.cli.demo:demo",
    "commitments": "archive.cli.commitments:commitments",
    "peer": "archive.cli.peers:peer",
    "forward": "archive.cli.forwarding:forward",
    "user": "archive.cli.users:user",
    "viewer": "archive.cli.viewer:viewer",
}


def program(arguments: Sequence[str] = ()) -> typer.Typer:
    """Return the program with the command that is asked for, else with all of them.

    Parameters
    ----------
    arguments
        What stands behind ``fileroom``.
    """
    app = typer.Typer(
        name="fileroom",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
        help=(
            "An imaging archive that speaks DICOM.\n\n"
            "Begin with `fileroom serve`, then `fileroom demo` in another terminal. Settings "
            "come from config.toml or --config, and from the environment as "
            "FILEROOM_<SECTION>__<KEY>. Every command has --help with examples."
        ),
    )
    app.callback()(_nothing)  # else a single command would have no name
    named = [name for name in arguments[:1] if name in _COMMANDS]
    for name in named or _COMMANDS:
        module, _, attribute = _COMMANDS[name].partition(":")
        found = getattr(importlib.import_module(module), attribute)
        if isinstance(found, typer.Typer):
            for one in found.registered_commands:
                one.help = _help(one.callback)
            app.add_typer(found)
        else:
            app.command(name=name, help=_help(found))(found)
    return app


def _help(command: Callable[..., object] | None) -> str:
    # Docstrings are raw; to click a paragraph is left as it is behind a backspace.
    return inspect.cleandoc((command and command.__doc__) or "").replace("\\b", "\b")


def _nothing() -> None:
    pass


def main() -> None:
    """Run the program."""
    program(sys.argv[1:])()
