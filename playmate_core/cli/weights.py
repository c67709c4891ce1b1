"""``python -m playmate_core weights list|download|verify``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Callable

from ..runtime.errors import PlaymateError


def add_weights_command(commands, progress_bar: Callable) -> None:
    """Adds ``weights`` to the parser's commands.

    Args:
        commands: what ``ArgumentParser.add_subparsers`` returned.
        progress_bar: makes a progress callback of a label.
    """
    weights = commands.add_parser("weights", help="what can be downloaded, fetching it, and checking what is there")
    actions = weights.add_subparsers(dest="action", required=True, metavar="list|download|verify")
    listed = actions.add_parser("list", help="every set of weights, its licence, and whether it is here")
    fetched = actions.add_parser("download", help="fetch sets of weights from the Hugging Face hub or HF_ENDPOINT")
    fetched.add_argument("names", nargs="+", metavar="NAME", help="as in 'weights list'")
    fetched.add_argument("--form", default=None, help="published form, such as pth; the first that exists if left out")
    checked = actions.add_parser("verify", help="read the files that are here and say what is wrong with them")
    checked.add_argument("names", nargs="*", metavar="NAME", help="as in 'weights list'; all that are here if left out")
    checked.add_argument("--quick", action="store_true", help="tables of contents only, no checksums")
    for action, run in ((listed, run_list), (fetched, run_download), (checked, run_verify)):
        action.add_argument("--models", type=Path, default=None, metavar="DIR",
                            help="ComfyUI's folder models; found by itself where this pack lies in custom_nodes")
        action.add_argument("--into", type=Path, default=None, metavar="DIR",
                            help="the folder that stands for models/liveportrait or models/playmate")
        action.set_defaults(run=lambda args, run=run: run(args, progress_bar))


def _folders(args: argparse.Namespace):
    from ..weights.catalogue import default_models

    if args.into is not None:
        return {"liveportrait": [args.into], "playmate": [args.into]}
    return [args.models if args.models is not None else default_models()]


def run_list(args: argparse.Namespace, progress_bar: Callable) -> None:
    """Prints the catalogue as a table."""
    from ..weights.catalogue import ENTRIES, find

    folders = _folders(args)
    rows = [("NAME", "SIZE", "LICENCE", "HERE", "WHAT FOR")]
    for entry in ENTRIES:
        found, needed = find(entry.name, folders), len(entry.sources[0].files)
        size = entry.about or sum(path.stat().st_size for path in found.values())
        state = "yes" if len(found) == needed else f"{len(found)} of {needed}" if found else "no"
        licence = entry.licence if entry.commercial else f"{entry.licence} (non-commercial)"
        rows.append((entry.name, f"{size / 1e6:.1f} MB", licence, state, f"{entry.title}: {entry.role}"))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for row in rows:
        sys.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(row[:4], widths, strict=True))
                         + f"  {row[4]}\n")
    where = ", ".join(map(str, folders)) if isinstance(folders, list) else str(args.into)
    sys.stdout.write(f"\nLooked in {where}. Where each comes from: docs/weights.md in the folder of ComfyUI-Playmate\n")


def run_download(args: argparse.Namespace, progress_bar: Callable) -> None:
    """Fetches entries; files that are there already are only checked.

    Raises:
        PlaymateError: whatever stops it.
    """
    from ..weights.catalogue import entry_of, published
    from ..weights.download import download

    for name in args.names:
        published(entry_of(name), args.form)  # names are checked before the first byte
    for name in args.names:
        try:
            paths = download(name, _folders(args), args.form, lambda file: progress_bar(file[:28]))
        except KeyboardInterrupt:
            raise PlaymateError("Stopped; run the same command again, files that are complete are kept.") from None
        entry = entry_of(name)
        sys.stdout.write("".join(f"{path}\n" for path in paths))
        sys.stdout.write(f"{entry.title}: licence {entry.licence}. {entry.note}\n".rstrip() + "\n")


def run_verify(args: argparse.Namespace, progress_bar: Callable) -> None:
    """Checks files and prints a line each.

    Raises:
        PlaymateError: a file is wrong, or a named entry is not complete; the sentence names all of them.
    """
    from ..weights.catalogue import ENTRIES, entry_of, file_at, find
    from ..weights.check import check_file, check_published

    folders, wrong = _folders(args), []
    entries = [entry_of(name) for name in args.names] or list(ENTRIES)
    for entry in entries:
        found = find(entry.name, folders)
        lacking = [file.name for file in entry.sources[0].files if file.role not in found]
        if lacking and (args.names or entry.bundled or found):
            wrong.append(entry.name)
            sys.stdout.write(f"missing    {entry.name}: {', '.join(lacking)}\n")
        for role, path in found.items():
            file = file_at(entry, role, path, folders)
            try:
                if args.quick:
                    check_file(entry, file, path)
                    state = "fits"
                else:
                    state = check_published(entry, file, path)
            except PlaymateError as error:
                wrong.append(str(path))
                state = f"wrong      {error}"
                sys.stdout.write(f"{state}\n")
            else:
                sys.stdout.write(f"{state:<10} {path}\n")
    if wrong:
        raise PlaymateError(f"Something is wrong with: {', '.join(wrong)}.")
