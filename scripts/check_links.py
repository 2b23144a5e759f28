#!/usr/bin/env python3
"""Find relative links in the Markdown files that lead nowhere; print them and end with 1.

Links to other hosts are not followed: a check must not depend on the network.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^()\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def broken_links(path: Path) -> list[str]:
    """Targets of this file that are relative and do not exist."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    found = []
    for target in LINK.findall(text):
        place = unquote(target.split("#", 1)[0])
        if place and "://" not in place and not place.startswith("mailto:") and not (path.parent / place).exists():
            found.append(target)
    return found


def main() -> int:
    """Check every Markdown file that git knows; return 0 when all links lead somewhere."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    names = sorted({name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()})
    bad = [f"{name}: {target} does not exist" for name in names for target in broken_links(ROOT / name)]
    for line in bad:
        print(line)
    print(f"check_links: {len(names)} files, {len(bad)} broken links")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
