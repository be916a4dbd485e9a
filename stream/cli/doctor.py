"""The command that looks at everything a worker needs."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import typer

from stream.options import AsJson, Bootstrap, Campaigns, settings_of
from stream.terminal import ExitCode, print_json

if TYPE_CHECKING:
    from stream.runtime.diagnosing import Finding
    from stream.settings import Settings

__all__ = ["app"]

app = typer.Typer()


@app.command()
def doctor(bootstrap: Bootstrap = None, campaigns: Campaigns = None, as_json: AsJson = False) -> None:
    """Check settings, campaigns, broker, topics, permissions and reference records, and say what to do.

    It changes nothing. Ends with 0 if nothing is at fault (there may be warnings), else with 1.

    Example: nudge doctor --campaigns campaigns.yaml
    """
    from dataclasses import asdict

    from stream.campaign_files import read_campaigns, read_segments

    if campaigns is not None:  # mistakes in files end the command, with their place
        read_campaigns(campaigns)
        read_segments(campaigns)
    findings = asyncio.run(_findings(settings_of(bootstrap=bootstrap), talk=not as_json))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    if any(finding.verdict == "fault" for finding in findings):
        raise typer.Exit(ExitCode.FAILED_CHECK)


async def _findings(settings: Settings, *, talk: bool) -> list[Finding]:
    from stream.runtime.diagnosing import diagnose

    found = []
    async for finding in diagnose(settings):
        found.append(finding)
        if talk:
            sys.stdout.write(f"{finding.verdict:8} {finding.what}: {finding.detail}\n")
            if finding.remedy:
                sys.stdout.write(f"         -> {finding.remedy}\n")
    return found
