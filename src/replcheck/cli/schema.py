"""`replcheck schema`: the JSON schemas of what replcheck writes and reads."""

from typing import Annotated

import typer

from replcheck.cli.completion import complete_schema


def schema(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", autocompletion=complete_schema, help="Which one; without it, all are listed."),
    ] = None,
) -> None:
    """Print a JSON schema, or list the schemas there are.

    They follow JSON Schema 2020-12.
    """
    from replcheck.report.published import schema_text, schema_titles

    if name is not None:
        typer.echo(schema_text(name), nl=False)
        return
    titles = schema_titles()
    width = max(map(len, titles))
    for known, title in titles.items():
        typer.echo(f"{known:{width}}  {title}")
