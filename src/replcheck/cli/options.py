"""Options that several commands have: declared once, so that they mean and are called the same everywhere."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from replcheck.cli.completion import complete_node


class Format(Enum):
    """How the report is written."""

    HUMAN = "human"
    JSON = "json"


class DumpForm(Enum):
    """How pg_dump writes."""

    CUSTOM = "custom"
    DIRECTORY = "directory"
    TAR = "tar"
    PLAIN = "plain"


class CheckFormat(Enum):
    """How a check is written."""

    HUMAN = "human"
    JSON = "json"
    NAGIOS = "nagios"
    JUNIT = "junit"


class ReportForm(Enum):
    """How a report is written."""

    HUMAN = "human"
    JSON = "json"
    HTML = "html"
    MARKDOWN = "markdown"
    JUNIT = "junit"
    CLAIMS = "claims"


class Ending(Enum):
    """How a run ended, or that it did not."""

    PROVEN = "proven"
    PARTIAL = "partial"
    REFUTED = "refuted"
    UNCHECKED = "unchecked"
    UNENDED = "unended"


class LoadKind(Enum):
    """What writes."""

    MIXED = "mixed"
    PGBENCH = "pgbench"


# Which nodes.
Primary = Annotated[
    str | None,
    typer.Option(
        metavar="DSN",
        autocompletion=complete_node,
        help="The primary: a libpq connection string, or a configured node's name.",
    ),
]
Replicas = Annotated[
    list[str] | None,
    typer.Option(metavar="DSN", autocompletion=complete_node, help="A replica, written alike; once for each."),
]
Config = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The cluster's configuration; also REPLCHECK_CONFIG, ./replcheck.toml, ..."),
]
Jobs = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, max=64, envvar="REPLCHECK_JOBS", help="Connections per node at a time (2)."),
]

# Which relations of them.
Databases = Annotated[list[str] | None, typer.Option(metavar="PATTERN", help="Only these databases; * and ? match.")]
Tables = Annotated[
    list[str] | None,
    typer.Option(metavar="PATTERN", help="Only these: [[database.]schema.]relation; * and ? match."),
]
Excludes = Annotated[
    list[str] | None, typer.Option(metavar="PATTERN", help="Not these, written alike; named in the report.")
]
Catalogs = Annotated[
    bool | None, typer.Option("--catalogs/--no-catalogs", help="Whether system catalogs are compared (yes).")
]

# Where the report goes, and in which form.
ReportFormat = Annotated[Format, typer.Option(envvar="REPLCHECK_FORMAT", help="How the report is written.")]
Output = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report there instead of standard output.")]
