"""`epp explain`: prints the last routing decisions of a running picker as tables."""

from __future__ import annotations

import argparse
import json
import sys
import urllib.error
import urllib.request
from datetime import UTC, datetime
from typing import Any, TextIO
from urllib.parse import urlencode

MAX_ROWS = 50
RETENTION_NOTE = "it keeps the last few hundred, all rejections among them, and samples above 200 a second"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument(
        "request_id", nargs="?", default="", metavar="REQUEST_ID", help="decisions of this request only"
    )
    parser.add_argument(
        "--url", default="http://127.0.0.1:9090", help="the picker's admin listener (default %(default)s)"
    )
    parser.add_argument(
        "--limit", type=int, default=5, metavar="N", help="number of decisions, newest first (default %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print the JSON of the picker")


def run(args: argparse.Namespace, out: TextIO | None = None) -> int:
    """Fetches and prints decisions. Exit code 1 if the picker does not answer or has no decision of the request."""
    stream = sys.stdout if out is None else out
    query = {"limit": args.limit, **({"request_id": args.request_id} if args.request_id else {})}
    address = f"{args.url.rstrip('/')}/debug/decisions?{urlencode(query)}"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(address, timeout=10) as reply:
            decisions = json.load(reply)["decisions"]
    except (OSError, urllib.error.URLError, ValueError, KeyError) as error:
        reason = getattr(error, "reason", "") or error
        print(f"epp explain: no picker answers at {address}: {reason}; give its address with --url", file=sys.stderr)
        return 1
    if args.json:
        json.dump(decisions, stream, indent=2)
        stream.write("\n")
    else:
        for decision in decisions:
            print_decision(decision, stream)
    if not decisions:
        what = f"request {args.request_id}" if args.request_id else "requests"
        print(f"epp explain: the picker has no decision on {what}; {RETENTION_NOTE}", file=sys.stderr)
    return 0 if decisions else 1


def print_decision(decision: dict[str, Any], out: TextIO) -> None:
    """Prints a title and, for each profile, a table of its candidates."""
    moment = datetime.fromtimestamp(decision["time"], UTC).strftime("%H:%M:%S.%f")[:-3]
    outcome = decision["refusal"] or f"-> {decision['destination']}"
    micros = decision["seconds"] * 1e6
    head = f"{moment}Z  {decision['request_id']}  {decision['model'] or decision['path']}  {outcome}  {micros:.0f} us"
    out.write("".join(char if char.isprintable() else "?" for char in head) + "\n")  # ids and models come from clients
    for profile in decision["profiles"]:
        title = f"profile {profile['profile']}, picker {profile['picker']}"
        if profile["emptied_by"]:
            title += f": {profile['emptied_by']} left nothing, {profile['otherwise']}"
        header, rows = build_candidate_table(profile)
        if not _print_rich_table(title, header, rows, out):
            _print_plain_table(title, header, rows, out)
    out.write("\n")


def build_candidate_table(profile: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header, and a row for each endpoint, highest total first; `*` marks those picked."""
    dropped = {name: item["name"] for item in profile["filters"] for name in item["dropped"]}
    totals, picked = profile["totals"], profile["picked"]
    header = [
        "",
        "endpoint",
        *(f"{row['name']} x{row['weight']:g}" for row in profile["scorers"]),
        "total",
        "dropped by",
    ]
    names = sorted((item["name"] for item in profile["candidates"]), key=lambda name: -totals.get(name, -1.0))
    rows = [
        [
            "*" if name in picked else "",
            name,
            *(_format_score(row["scores"].get(name)) for row in profile["scorers"]),
            _format_score(totals.get(name)),
            dropped.get(name, ""),
        ]
        for name in names[:MAX_ROWS]
    ]
    if len(names) > MAX_ROWS:
        rows.append(["", f"and {len(names) - MAX_ROWS} more", *[""] * (len(header) - 2)])
    return header, rows


def _print_rich_table(title: str, header: list[str], rows: list[list[str]], out: TextIO) -> bool:
    """Prints with rich, if it is installed and `out` is a terminal; otherwise returns False."""
    if not out.isatty():
        return False
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        return False
    table = Table(title=title, title_justify="left")
    for place, name in enumerate(header):
        table.add_column(name, justify="left" if place < 2 or place == len(header) - 1 else "right")
    for row in rows:
        table.add_row(*row, style="bold green" if row[0] else "dim" if row[-1] else "")
    Console(file=out, markup=False, highlight=False).print(table)  # `[::1]:8000` would be taken for markup
    return True


def _print_plain_table(title: str, header: list[str], rows: list[list[str]], out: TextIO) -> None:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    out.write(f"  {title}\n")
    for row in [header, *rows]:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        out.write(f"  {line}".rstrip() + "\n")


def _format_score(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
