"""Pictures of the main states, light and dark, wide and narrow: `python -m tests.browser.screenshots FOLDER`."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from sourcebook.testing.llm_server import FakeLLMServer

from .scenes import SCENES, example_on
from .serving import serving

SIZES = {"wide": (1360, 850), "narrow": (390, 844)}
SCHEMES = ("light", "dark")


def main() -> None:
    """Draw them all, or those whose names are given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scene", action="append", choices=list(SCENES))
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        FakeLLMServer() as llm,
        serving(Path(folder), llm.url) as server,
        sync_playwright() as playwright,
    ):
        example = example_on(server, llm)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        for scene in given.scene or SCENES:
            for size, (width, height) in SIZES.items():
                for scheme in SCHEMES:
                    context = browser.new_context(
                        base_url=server.url,
                        viewport={"width": width, "height": height},
                        color_scheme="dark" if scheme == "dark" else "light",
                        locale="en-GB",
                        reduced_motion="reduce",
                    )
                    page = context.new_page()
                    SCENES[scene](page, example)
                    page.wait_for_timeout(300)
                    page.screenshot(path=given.folder / f"{scene}-{size}-{scheme}.png")
                    context.close()
                    print(f"{scene}-{size}-{scheme}.png")
        browser.close()


if __name__ == "__main__":
    main()
