"""The datasets library against a small hub on this machine: what it raises is what the explanations expect."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("hub served")]

COMMIT = "a" * 40
ROWS = [{"instruction": f"{number}", "output": "x"} for number in range(5)]
LINES = "\n".join(map(json.dumps, ROWS)).encode()
SUBSETS = "---\nconfigs:\n- config_name: de\n  data_files: de.jsonl\n- config_name: en\n  data_files: en.jsonl\n---\n"
FILES = {
    "me/good": {"README.md": b"-", "train.jsonl": LINES, "test.jsonl": LINES.partition(b"\n")[0]},
    "me/script": {"README.md": b"-", "script.py": b"raise SystemExit('this code was run')", "train.jsonl": LINES},
    "me/nothing": {"README.md": b"-", "a.xyz": b"-"},
    "me/subsets": {"README.md": SUBSETS.encode(), "de.jsonl": LINES, "en.jsonl": LINES},
    "me/broken": {"README.md": b"-", "train.jsonl": b'{"a": 1}\n{"a": '},
    "me/gated": {"README.md": b"-", "train.jsonl": LINES},
}
# What the child opens: source and options.
CASES: list[tuple[str, dict[str, Any]]] = [
    ("me/good", {}),
    ("me/good", {"split": "test"}),
    ("me/good", {"split": "tset"}),
    ("me/good", {"subset": "de"}),
    ("me/good", {"revision": "v9"}),
    ("me/good", {"revision": COMMIT}),
    ("me/script", {}),
    ("me/nothing", {}),
    ("me/subsets", {}),
    ("me/subsets", {"subset": "en"}),
    ("me/subsets", {"subset": "nl"}),
    ("me/broken", {}),
    ("me/gated", {}),
    ("me/private", {}),
    ("me/refused", {}),
]
CHILD = """
import json, sys
from lightning_neft.data.sources.hub import fetch
from lightning_neft.data.sources.source import open_source
from lightning_neft.errors import DataError

def report(act):
    try:
        print("RESULT", json.dumps(act()))
    except DataError as error:
        print("RESULT", json.dumps(str(error)))

def opened(source, options):
    records = open_source(source, **options)
    return [len(list(records)), [where for _, where in records][-1], records.size]

for source, options in json.loads(sys.argv[1]):
    report(lambda: opened(source, options))
    report(lambda: opened(source, {**options, "streaming": True}))
for source, file in json.loads(sys.argv[2]):
    report(lambda: open(fetch(source, file)).read())
"""


class _Hub(BaseHTTPRequestHandler):
    """The part of the hub's interface that loading a dataset uses."""

    protocol_version = "HTTP/1.1"
    authorizations: list[tuple[str, str | None]] = []  # noqa: RUF012

    def log_message(self, *args: Any) -> None:
        pass

    def _answer(self, body: bytes = b"", status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status: int, code: str) -> None:
        self._answer(b"{}", status, X_Error_Code=code, X_Error_Message=code)

    def _serve(self) -> None:
        path = unquote(urlparse(self.path).path)
        self.authorizations.append((path, self.headers.get("Authorization")))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = path.strip("/").split("/")
        if parts[0] == "web":
            return self._answer(LINES) if parts[-1] == "x.jsonl" else self._answer(status=404)
        is_api = parts[0] == "api"
        repo, rest = "/".join(parts[1 + is_api : 3 + is_api]), parts[3 + is_api :]
        if repo == "me/refused":
            return self._refuse(401, "")
        if repo not in FILES:
            return self._refuse(401, "RepoNotFound")
        files = FILES[repo]
        if rest and rest[0] in ("revision", "resolve", "tree", "paths-info") and rest[1] not in ("main", COMMIT):
            return self._refuse(404, "RevisionNotFound")
        if is_api and (not rest or rest[0] == "revision"):
            siblings = [{"rfilename": file} for file in files]
            return self._answer(json.dumps({"_id": "1", "id": repo, "sha": COMMIT, "siblings": siblings}).encode())
        if repo == "me/gated":
            return self._refuse(401, "GatedRepo")
        if is_api:
            listed = list(files)
            if rest[0] == "paths-info":
                asked = json.loads(body)["paths"] if body[:1] == b"{" else parse_qs(body.decode())["paths"]
                listed = [file for file in asked if file in files]
            about = [
                {"type": "file", "path": file, "size": len(files[file]), "oid": sha1(files[file]).hexdigest()}
                for file in listed
            ]
            return self._answer(json.dumps(about).encode())
        return self._file(files, "/".join(rest[2:]))

    def _file(self, files: dict[str, bytes], file: str) -> None:
        if file not in files:
            return self._refuse(404, "EntryNotFound")
        content, headers = files[file], {"ETag": f'"{sha1(files[file]).hexdigest()}"', "X_Repo_Commit": COMMIT}
        asked = self.headers.get("Range", "").removeprefix("bytes=")
        if not asked:
            return self._answer(content, **headers)
        first, last = (int(end) if end else len(content) - 1 for end in asked.split("-"))
        last = min(last, len(content) - 1)
        place = f"bytes {first}-{last}/{len(content)}"
        return self._answer(content[first : last + 1], 206, Content_Range=place, **headers)

    do_GET = do_HEAD = do_POST = _serve


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def results(hub: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What opening each case gave, by the case: a list, or the message of the error."""
    files = [("me/good", "test.jsonl"), ("me/good", "no.jsonl"), (f"{hub}/web", "x.jsonl"), (f"{hub}/web", "no.jsonl")]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGINGFACE_"))},
        "HF_HOME": str(tmp_path_factory.mktemp("home")),
        "HF_ENDPOINT": hub,
        "HF_TOKEN": "hf_secretsecretsecret",
    }
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(CASES), json.dumps(files)],
        env=environment,
        cwd=tmp_path_factory.mktemp("work"),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = [json.loads(line.split(" ", 1)[1]) for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    names = [name + way for name in map(_name, CASES) for way in ("", " streamed")]
    names += [f"{source.rpartition('/')[2]} {file}" for source, file in files]
    return dict(zip(names, found, strict=True))


def _name(case: tuple[str, dict[str, Any]]) -> str:
    return " ".join([case[0].removeprefix("me/"), *map(str, case[1].values())])


def _page(repo: str) -> str:
    return f"https://huggingface.co/datasets/me/{repo}"


@pytest.mark.parametrize("way", ["", " streamed"])
@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("good", [5, "me/good, row 5", 5]),
        ("good test", [1, "me/good (test), row 1", 1]),
        (f"good {COMMIT}", [5, "me/good, row 5", 5]),
        ("subsets en", [5, "me/subsets, row 5", 5]),
        ("good tset", "me/good has no split 'tset'; did you mean test? choose one of train, test"),
        ("good de", "me/good has no subset 'de'; choose one of default"),
        ("good v9", f"me/good has no revision 'v9'; give a branch, a tag or a commit of {_page('good')}"),
        (
            "script",
            f"me/script contains a loading script, which is never run; download one of its data files from "
            f"{_page('script')} and give the file's path",
        ),
        (
            "nothing",
            f"me/nothing has no data file that the datasets library detects; download one from "
            f"{_page('nothing')} and give the file's path",
        ),
        ("subsets", "me/subsets has several subsets; choose one of de, en"),
        ("subsets nl", "me/subsets has no subset 'nl'; choose one of de, en"),
        (
            "gated",
            f"me/gated is gated: accept its licence on {_page('gated')}, then set HF_TOKEN to a token of that account",
        ),
        ("private", f"me/private is not on the hub, or is private and HF_TOKEN is not set; see {_page('private')}"),
        (
            "refused",
            f"the hub refuses me/refused (401): set HF_TOKEN to a valid token of an account with access to "
            f"{_page('refused')}",
        ),
    ],
)
def test_each_case_is_opened_or_explained(results: dict[str, Any], case: str, way: str, expected: Any) -> None:
    if way and isinstance(expected, list):
        expected = [*expected[:2], None]
    assert results[case + way] == expected


@pytest.mark.parametrize("case", ["broken", "broken streamed"])
def test_broken_data_are_named(results: dict[str, Any], case: str) -> None:
    assert results[case].startswith("me/broken cannot be loaded (")
    assert results[case].endswith(f"); see {_page('broken')}")


def test_single_files_are_fetched_or_explained(results: dict[str, Any], hub: str) -> None:
    assert results["good test.jsonl"] == LINES.partition(b"\n")[0].decode()
    assert results["good no.jsonl"] == (
        f"me/good has no file 'no.jsonl'; its files are listed on {_page('good')}/tree/main"
    )
    assert results["web x.jsonl"] == LINES.decode()
    assert results["web no.jsonl"] == (
        f"{hub}/web/no.jsonl cannot be downloaded (FileNotFoundError); download it elsewhere and give the file's path"
    )


@pytest.mark.usefixtures("results")
def test_the_token_goes_to_the_hub_alone() -> None:
    sent = [(path.startswith("/web/"), token) for path, token in _Hub.authorizations]
    assert (False, "Bearer hf_secretsecretsecret") in sent
    assert {token for is_elsewhere, token in sent if is_elsewhere} == {None}
