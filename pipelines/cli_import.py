"""`alm-mta import DATASET SRC --out DIR`: a public data set in its published format, turned into logs for `run`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from jsonargparse import ArgumentParser

from features.errors import ConfigError
from features.importers.folder import Summary
from pipelines.cli_parser import listing, parser_for

DATASETS = {"criteo": "display advertising: impressions, conversions", "kuairand": "short videos, some shown at random"}


def import_(arguments: list[str]) -> int:
    """One data set; without a name, the list of them."""
    name, *rest = arguments or ["--help"]
    if name in ("-h", "--help"):
        sys.stdout.write(_overview())
        raise SystemExit(0)
    if name not in DATASETS:
        raise ConfigError(f"import: no data set '{name}': there are {', '.join(DATASETS)}")
    began = time.monotonic()
    summary, out = _criteo(rest) if name == "criteo" else _kuairand(rest)
    sys.stdout.write(_shown(summary) + f"\n{name} under {out}, {time.monotonic() - began:.0f} s\n")
    return 0


def _criteo(arguments: list[str]) -> tuple[Summary, Path]:
    from features.importers.criteo import ORIGIN, TOUCHES, import_criteo

    parser = _parser(
        "criteo",
        "Turn the Criteo attribution data set (criteo_attribution_dataset.tsv, gzip or plain) into logs. A touchpoint "
        "is an impression; item, author and cluster are its campaign; an upload is a conversion, once for each user "
        f"and conversion_id; second 0 is {ORIGIN:%Y-%m-%d} UTC. There are no responses: conversions are recorded "
        "behind clicks only, so a click may not stand for one, and a run on these logs approves nothing.",
        "the file, or a folder with nothing but it",
    )
    parser.add_argument("--touches", type=str, default=TOUCHES[0], help=f"what a touchpoint is: {' or '.join(TOUCHES)}")
    options = parser.parse_args(arguments)
    return import_criteo(options.source, options.out, touches=options.touches), options.out


def _kuairand(arguments: list[str]) -> tuple[Summary, Path]:
    from features.importers.kuairand import OUTCOMES, import_kuairand

    parser = _parser(
        "kuairand",
        "Turn KuaiRand (Pure, 1K or 27K) into logs. A touchpoint is a row of the logs, all of which are read; is_rand "
        "makes it randomised; the cluster is the video's first tag. An upload is a row with the outcome, at its time, "
        "which then is no response any more.",
        "the folder with log_*.csv, user_features_*.csv and video_features_basic_*.csv, or the one above its data/",
    )
    shown = f"what an upload is made of: {', '.join(OUTCOMES)}"
    parser.add_argument("--outcome", type=str, default="comments", help=shown)
    options = parser.parse_args(arguments)
    return import_kuairand(options.source, options.out, outcome=options.outcome), options.out


def _parser(name: str, description: str, source: str) -> ArgumentParser:
    parser = parser_for(f"import {name}", description)
    parser.add_argument("source", type=Path, metavar="SRC", help=source)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the logs; an import that is there is replaced as a whole"
    )
    return parser


def _overview() -> str:
    note = "A killed import goes on where it was when it is called again. Every data set has --help."
    return listing("usage: alm-mta import DATASET [--help] SRC --out DIR ...", DATASETS, note)


def _shown(summary: Summary) -> str:
    """Rows in, rows out, and what became of the others."""
    lines = [f"{rows:>15,}  read from {name}" for name, rows in summary.read.items()]
    lines += [f"{rows:>15,}  written to {table}/" for table, rows in summary.written.items()]
    lines += [f"{rows:>15,}  {text}" for text, rows in summary.remarks.items()]
    return "\n".join(lines)
