"""The program: ``fileroom``, the same as ``python -m archive``."""

import typer

from archive.cli.commitments import commitments
from archive.cli.demo import demo
from archive.cli.doctor import doctor
from archive.cli.exporting import export
from archive.cli.forwarding import forward
from archive.cli.importing import import_
from archive.cli.maintenance import delete, purge, rebuild_index, restore
from archive.cli.moving import migrate_objects
from archive.cli.peers import peer
from archive.cli.reports import status, verify
from archive.cli.sending import send
from archive.cli.serving import serve
from archive.cli.users import user
from archive.cli.viewer import viewer

app = typer.Typer(
    name="fileroom",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    help=(
        "An imaging archive that speaks DICOM.\n\n"
        "Begin with `fileroom serve`, then `fileroom demo` in another terminal. Settings come "
        "from config.toml or --config, and from the environment as FILEROOM_<SECTION>__<KEY>. "
        "Every command has --help with examples."
    ),
)

app.command()(serve)
app.command(name="import")(import_)
app.command()(export)
app.command()(send)
app.command()(status)
app.command()(verify)
app.command(name="rebuild-index")(rebuild_index)
app.command(name="migrate-objects")(migrate_objects)
app.command()(delete)
app.command()(restore)
app.command()(purge)
app.command()(doctor)
app.command()(demo)
app.add_typer(commitments)
app.add_typer(peer)
app.add_typer(forward)
app.add_typer(user)
app.add_typer(viewer)


def main() -> None:
    """Run the program."""
    app()
