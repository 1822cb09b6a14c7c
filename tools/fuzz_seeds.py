"""Lays seeds for the fuzz targets into fuzz/seeds: from ../shared/models, the op fixtures and the example.

    python tools/fuzz_seeds.py
"""

import hashlib
from pathlib import Path

import models

SEEDS = models.ROOT / "fuzz" / "seeds"
LARGEST = 64 * 1024
SHARED = models.OPEN.parent
CLASSIC = models.ROOT / "crates/coreml-classic/tests"
HERE = [models.ROOT / "examples", models.ROOT / "crates/coreml-onnx/tests", CLASSIC]


def main() -> None:
    places = [folder for folder in (SHARED / "open", SHARED / "broken", *HERE) if folder.is_dir()]
    for target, pattern in (
        ("mlmodel", "**/*.mlmodel"),
        ("package", "**/*.mlmodel"),
        ("manifest", "**/Manifest.json"),
        ("weights", "**/weight.bin"),
        ("compiled", "**/coremldata.bin"),
    ):
        folder = SEEDS / target
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(path for place in places for path in place.glob(pattern)):
            lay(folder, path)
        print(f"{target}: {len(list(folder.iterdir()))} seeds")
    folder = SEEDS / "classic"
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(CLASSIC.glob("**/*.mlmodel")):
        lay(folder, path)
    print(f"classic: {len(list(folder.iterdir()))} seeds")


def lay(folder: Path, path: Path) -> None:
    try:
        content = path.read_bytes()
    except OSError:
        return  # Some broken models hold links that lead nowhere.
    if 0 < len(content) <= LARGEST:
        (folder / hashlib.sha1(content).hexdigest()).write_bytes(content)


if __name__ == "__main__":
    main()
