"""`tinyboost doctor`: what is missing, and the line that installs it."""

from __future__ import annotations

from dataclasses import asdict

from rich.table import Table

from common.errors import ExitCode
from tools import console
from tools.cli.verb import Outcome, verb


@verb
def command() -> Outcome:
    """Say what this machine lacks, and print the line that installs it.

    \b
    Examples:
      tinyboost doctor
      tinyboost doctor --json
    """
    from tools.doctor import examine

    findings = examine()
    missing = [finding for finding in findings if finding.required and not finding.ok]

    def show() -> None:
        table = Table(box=None, pad_edge=False)
        for heading in ("", "what", "found", "fix"):
            table.add_column(heading, overflow="fold")
        good = [finding for finding in findings if finding.kind == "package" and finding.ok]
        table.add_row("[green]ok[/]", "Python packages", f"{len(good)} as pinned in constraints.txt", "")
        for finding in findings:
            if finding in good:
                continue
            mark = "[green]ok[/]" if finding.ok else ("[red]missing[/]" if finding.required else "[dim]–[/]")
            table.add_row(mark, finding.name, finding.found, finding.fix)
        console.out.print(table)
        console.out.print(
            f"{len(missing)} required things are missing" if missing else "all that is required is here"
        )

    data = {"ok": not missing, "findings": [asdict(finding) for finding in findings]}
    return Outcome(data, show, ExitCode.TOOL_MISSING if missing else ExitCode.OK)
