"""Packs the art bank into one file, which is all that a machine without the npm packages needs to render scenes.

    python -m easel_sketch.pack --work WORK

Reads what art/*.mjs wrote into WORK/art and writes WORK/art.zip, the common words that captions are mixed with included.
"""

import argparse
import json
import zipfile
from pathlib import Path

from .captions import common_words


def pack(work: Path) -> Path:
    """Writes aside and renames. The same art gives the same bytes."""
    art = work / "art"
    index = {
        "drawings": json.loads((art / "drawings.json").read_text()),
        "backgrounds": json.loads((art / "backgrounds.json").read_text()),
    }
    temporary = work / "art.zip.tmp"
    with zipfile.ZipFile(temporary, "w") as file:  # stored: pictures are compressed already

        def add(name: str, content: bytes) -> None:
            file.writestr(zipfile.ZipInfo(name), content)

        add("index.json", json.dumps(index).encode())
        for drawing in index["drawings"]:
            name = f"drawings/{drawing['file']}"
            add(f"{name}.webp", (art / f"{name}.webp").read_bytes())
            if drawing["shade"] is not None:
                add(f"{name}-mask.png", (art / f"{name}-mask.png").read_bytes())
        for name, variants in index["backgrounds"].items():
            for variant in range(variants):
                add(f"backgrounds/{name}/{variant}.webp", (art / f"backgrounds/{name}/{variant}.webp").read_bytes())
        add("strangers.json", json.dumps(common_words()).encode())
    return temporary.replace(work / "art.zip")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of art/; receives art.zip")
    packed = pack(parser.parse_args().work)
    print(f"{packed}: {packed.stat().st_size / 1e6:.0f} MB")
