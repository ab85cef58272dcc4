"""A report as an accessible page, as XML of the same shape, and as plain text.

The page needs no script, no style sheet of others, no picture: headings for containers, a
table for runs of measurements, lists for the rest.
"""

import html
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Final

from archive.errors import NotAcceptableError
from archive.render.report import ContentItem, Reference, Report

Link = Callable[[Reference], str]

_DEEPEST_HEADING: Final = 6
_LEAST_OF_A_TABLE: Final = 2
_STYLE: Final = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:60rem;margin:1rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}th,td{border:1px solid #767676;padding:.2rem .6rem;"
    "text-align:left}dt{font-weight:bold}dd{margin:0 0 .3rem 1rem}.text{white-space:pre-wrap}"
)


def write_report(report: Report, media_type: str, charset: str, link: Link) -> bytes:
    """Write a report.

    Parameters
    ----------
    media_type
        ``text/html``, ``text/xml`` or ``text/plain``.
    charset
        Python's or IANA's name of the encoding.
    link
        Where an instance it refers to can be seen; "" for nowhere.

    Raises
    ------
    NotAcceptableError
        If plain text has characters that the encoding does not (PS3.18 §8.8.5).
    """
    if media_type == "text/plain":
        try:
            return _plain(report).encode(charset)
        except UnicodeEncodeError as error:
            raise NotAcceptableError(
                f"the report has characters that {charset} has not; available: UTF-8"
            ) from error
    page = "\n".join(_page(report, link)) + "\n"
    start = "<!DOCTYPE html>\n"
    if media_type == "text/xml":
        start = f'<?xml version="1.0" encoding="{charset}"?>\n'
    # What the encoding lacks is written by number, which markup allows.
    return (start + page).replace("@charset@", charset).encode(charset, "xmlcharrefreplace")


# -- markup ------------------------------------------------------------------------------------


def _page(report: Report, link: Link) -> Iterator[str]:
    language = html.escape(report.language or "en")
    title = html.escape(report.title)
    yield f'<html xmlns="http://www.w3.org/1999/xhtml" lang="{language}">'
    yield f'<head><meta charset="@charset@"/><title>{title}</title>'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
    yield f"<style>{_STYLE}</style></head>"
    yield f"<body><header><h1>{title}</h1>"
    if report.summary:
        yield "<dl>"
        for name, value in report.summary:
            yield f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>"
        yield "</dl>"
    yield "</header><main>"
    yield from _content(report.items, 2, link)
    if report.is_cut:
        yield "<p>The report is longer than is shown here.</p>"
    yield "</main></body></html>"


def _content(items: Sequence[ContentItem], level: int, link: Link) -> Iterator[str]:
    for kind, group in groupby(items, _shape):
        run = list(group)
        if kind == "section":
            for item in run:
                yield from _section(item, level, link)
        elif kind == "measurement" and len(run) >= _LEAST_OF_A_TABLE:
            yield from _table(run)
        else:
            yield from _list(run, level, link)


def _shape(item: ContentItem) -> str:
    if item.value_type == "CONTAINER":
        return "section"
    return "measurement" if item.value_type == "NUM" and not item.children else "item"


def _section(item: ContentItem, level: int, link: Link) -> Iterator[str]:
    heading = min(level, _DEEPEST_HEADING)
    yield f"<section><h{heading}>{html.escape(item.name or 'Section')}</h{heading}>"
    yield from _content(item.children, level + 1, link)
    yield "</section>"


def _table(run: Sequence[ContentItem]) -> Iterator[str]:
    yield '<table><thead><tr><th scope="col">Measurement</th><th scope="col">Value</th>'
    yield '<th scope="col">Unit</th></tr></thead><tbody>'
    for item in run:
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in (item.value, item.unit))
        yield f'<tr><th scope="row">{html.escape(item.name)}</th>{cells}</tr>'
    yield "</tbody></table>"


def _list(run: Sequence[ContentItem], level: int, link: Link) -> Iterator[str]:
    yield "<ul>"
    for item in run:
        yield f"<li>{_line(item, link)}"
        if item.children:
            yield from _content(item.children, level, link)
        yield "</li>"
    yield "</ul>"


def _line(item: ContentItem, link: Link) -> str:
    name = f"<strong>{html.escape(item.name)}:</strong> " if item.name else ""
    shown = html.escape(_with_unit(item))
    if item.value_type == "TEXT":
        shown = f'<span class="text">{shown}</span>'
    if item.reference is not None:
        shown += _linked(item.reference, link)
    return name + shown


def _linked(reference: Reference, link: Link) -> str:
    label = html.escape(_reference_text(reference))
    target = link(reference)
    return f'<a href="{html.escape(target)}">{label}</a>' if target else label


# -- plain text --------------------------------------------------------------------------------


def _plain(report: Report) -> str:
    lines = [report.title, "=" * len(report.title), ""]
    lines += [f"{name}: {value}" for name, value in report.summary]
    lines.append("")
    lines += _plain_items(report.items, 0)
    if report.is_cut:
        lines.append("(The report is longer than is shown here.)")
    return "\r\n".join(lines) + "\r\n"


def _plain_items(items: Sequence[ContentItem], depth: int) -> Iterator[str]:
    indent = "  " * depth
    for item in items:
        shown = _with_unit(item)
        if item.reference is not None:
            shown += _reference_text(item.reference)
        first, *more = f"{item.name}: {shown}".removeprefix(": ").rstrip(": ").split("\n")
        yield indent + first
        yield from (f"{indent}  {line}" for line in more)
        yield from _plain_items(item.children, depth + 1)


def _with_unit(item: ContentItem) -> str:
    return f"{item.value} {item.unit}" if item.unit else item.value


def _reference_text(reference: Reference) -> str:
    frames = ""
    if reference.frames:
        plural = "s" if len(reference.frames) > 1 else ""
        frames = f", frame{plural} {', '.join(str(number) for number in reference.frames)}"
    return f"instance {reference.sop_instance_uid}{frames}"
