"""A model of a directory or a bucket is served instead of the store's; a file that is not one is refused and named."""

# ruff: noqa: ARG005 - a change is one line, whether or not it needs both
from __future__ import annotations

import hashlib
import io
import lzma
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from moto.server import ThreadedMotoServer

from serving.core.errors import ModelError
from serving.settings import get_settings
from serving.store.archive import unpack
from serving.store.imported import VARIABLE, imported_model
from serving.store.models import open_model
from serving.store.source import import_models, prepare_models
from tests.server import free_port, serving

ROOT = Path(__file__).resolve().parents[2]
VERSION = "replaced"
LIMIT = 1 << 20


def pack(members: dict[str, bytes | tarfile.TarInfo]) -> bytes:
    """An archive as BentoML writes it, of files by name."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w:xz") as archive:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
            else:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return output.getvalue()


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


def put(directory: Path, content: bytes, *, name: str = "iris.bentomodel", digest: str | None = None) -> None:
    (directory / name).write_bytes(content)
    (directory / f"{name}.sha256").write_text(f"{digest or hashlib.sha256(content).hexdigest()}  {name}\n")


@pytest.fixture(scope="module")
def exported(model_store: Path) -> bytes:  # noqa: ARG001 - it has to be filled
    """The iris model of the store under another version."""
    model = open_model("iris:latest")
    files = {file.name: file.read_bytes() for file in model.path.iterdir()}
    version = model.tag.partition(":")[2].encode()
    assert version in files["model.yaml"]
    return pack({f"./{name}": content.replace(version, VERSION.encode()) for name, content in files.items()})


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.mkdir()
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    return path


def test_a_model_is_imported(source: Path, target: Path, exported: bytes) -> None:
    put(source, exported)
    import_models(str(source), target, names={"iris"}, max_bytes=LIMIT)
    assert (target / "iris/model.onnx").read_bytes() == open_model("iris:latest").onnx_path.read_bytes()
    assert [path.name for path in target.iterdir()] == ["iris"]


@pytest.fixture
def bucket(exported: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 with the model in it, as `s3://` URL."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "testing")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        import s3fs

        filesystem = s3fs.S3FileSystem(skip_instance_cache=True)
        filesystem.mkdir("models")
        filesystem.pipe_file("models/live/iris.bentomodel", exported)
        filesystem.pipe_file("models/live/iris.bentomodel.sha256", hashlib.sha256(exported).hexdigest().encode())
        filesystem.pipe_file("models/bare/iris.bentomodel", exported)
        yield "s3://models"
    finally:
        server.stop()


def test_a_model_is_imported_from_a_bucket(bucket: str, target: Path) -> None:
    import_models(f"{bucket}/live", target, names={"iris"}, max_bytes=LIMIT)
    assert (target / "iris/model.onnx").is_file()
    for place, message in (("bare", "no .sha256 file"), ("empty", "model_source.source s3://models/empty: ")):
        with pytest.raises(ModelError, match=message):
            import_models(f"{bucket}/{place}", target, names={"iris"}, max_bytes=LIMIT)


def test_a_model_that_is_not_served_is_left_out(source: Path, target: Path, exported: bytes) -> None:
    put(source, exported)
    import_models(str(source), target, names={"inception_v3"}, max_bytes=LIMIT)
    assert list(target.iterdir()) == []


def flipped(content: bytes) -> bytes:
    return content[:-20] + bytes([content[-20] ^ 1]) + content[-19:]


Change = Callable[[Path, bytes], None]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda source, exported: None, r"no \*.bentomodel there"),
        (
            lambda source, exported: put(source, exported, digest="0" * 64),
            "its SHA-256 is [0-9a-f]{64}, and .* says 0{64}",
        ),
        (lambda source, exported: put(source, exported, digest="none"), "has no SHA-256"),
        (lambda source, exported: put(source, exported + bytes(LIMIT)), "larger than 1048576 bytes"),
        (lambda source, exported: (source / "iris.bentomodel").write_bytes(exported), "no .sha256 file beside it"),
        (lambda source, exported: put(source, flipped(exported)), "not an exported model"),
        (lambda source, exported: put(source, exported[:-100]), "not an exported model: it ends in the middle"),
        (lambda source, exported: put(source, b"something else"), "not an exported model"),
        (lambda source, exported: put(source, pack({"readme": b""})), "not a model of this service"),
        (lambda source, exported: put(source, pack({"model.yaml": b"name: iris\nversion: a\n"})), "not a model of"),
        (
            lambda source, exported: [put(source, exported, name=f"{name}.bentomodel") for name in "ab"],
            "b.bentomodel: a second model iris",
        ),
    ],
    ids=["none", "other", "no-hash", "large", "unhashed", "broken", "short", "no-tar", "empty", "foreign", "two"],
)
def test_what_cannot_be_served_is_named(
    source: Path, target: Path, exported: bytes, change: Change, message: str
) -> None:
    change(source, exported)
    with pytest.raises(ModelError, match=message) as raised:
        import_models(str(source), target, names={"iris"}, max_bytes=LIMIT)
    assert str(raised.value).startswith(f"model_source.source {source}: ")


@pytest.mark.parametrize("place", ["http://127.0.0.1/models", "memory://models", "/nowhere"])
def test_a_source_that_is_none_is_named(target: Path, place: str) -> None:
    with pytest.raises(ModelError, match=f"model_source.source {place}: "):
        import_models(place, target, names={"iris"}, max_bytes=LIMIT)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"../outside": b"x"}, "outside of the model"),
        ({"/outside": b"x"}, "outside of the model"),
        ({"a/../../outside": b"x"}, "outside of the model"),
        ({"link": special("link", tarfile.SYMTYPE, "../../outside"), "link/x": b"x"}, "is a link"),
        ({"link": special("link", tarfile.LNKTYPE, "/etc/passwd")}, "is a link"),
        ({"device": special("device", tarfile.CHRTYPE)}, "a device"),
        ({"pipe": special("pipe", tarfile.FIFOTYPE)}, "a device"),
        ({"custom_objects.pkl": b"x"}, "is a pickle"),
        ({"deep/Objects.PICKLE": b"x"}, "is a pickle"),
        ({"zeros": bytes(LIMIT + 1)}, "larger than 1048576 bytes when unpacked"),
        ({f"{number}": b"" for number in range(10_001)}, "more than 10000 files|larger than"),
    ],
    ids=["parent", "absolute", "through", "symlink", "hardlink", "device", "pipe", "pickle", "deep", "bomb", "many"],
)
def test_an_archive_cannot_do_harm(tmp_path: Path, members: dict[str, bytes], message: str) -> None:
    packed = tmp_path / "in/model.bentomodel"
    packed.parent.mkdir()
    packed.write_bytes(pack(members))
    with pytest.raises(ModelError, match=message):
        unpack(packed, tmp_path / "in/model", max_bytes=LIMIT)
    outside = {path.name for path in tmp_path.rglob("*")} & {"outside", "passwd", "x"}
    assert outside == set()


def test_more_than_one_archive_in_a_file_and_a_greedy_one_are_refused(tmp_path: Path) -> None:
    packed = tmp_path / "model.bentomodel"
    packed.write_bytes(pack({"a": b""}) * 2)
    with pytest.raises(ModelError, match="more in it after its end"):
        unpack(packed, tmp_path / "model", max_bytes=LIMIT)
    greedy = [{"id": lzma.FILTER_LZMA2, "dict_size": 256 << 20, "mf": lzma.MF_HC3, "mode": lzma.MODE_FAST}]
    packed.write_bytes(lzma.compress(b"x", format=lzma.FORMAT_XZ, filters=greedy))
    with pytest.raises(ModelError, match=r"[Mm]emory"):
        unpack(packed, tmp_path / "model", max_bytes=LIMIT)


def test_a_process_that_was_started_by_a_server_imports_nothing(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVING__MODEL_SOURCE__SOURCE", str(source))
    monkeypatch.setenv(VARIABLE, str(target))
    get_settings.cache_clear()
    try:
        prepare_models(get_settings())
    finally:
        get_settings.cache_clear()
    assert imported_model("iris") is None


def test_a_server_serves_what_it_imported_once(source: Path, exported: bytes) -> None:
    put(source, exported)
    settings = {
        "SERVING__MODEL_SOURCE__SOURCE": str(source),
        "SERVING__SERVER__WORKERS": "2",
        "SERVING__JOBS__EMBEDDED_WORKER": "true",
        "SERVING__MODELS__INCEPTION_V3__ENABLED": "false",
        "SERVING__LOGGING__FORMAT": "json",
    }
    with serving(**settings) as server:
        tags = {httpx.get(f"{server.url}/iris/metadata").json()["tag"] for _ in range(10)}
        answer = httpx.post(f"{server.url}/iris/predict/batched", json={"data": [[5.1, 3.5, 1.4, 0.2]]}).json()
        job = httpx.post(f"{server.url}/iris/jobs", json={"data": [[5.1, 3.5, 1.4, 0.2]]}).json()["job_id"]
        done = httpx.get(f"{server.url}/jobs/{job}", params={"wait": 30}, timeout=60).json()
        inventory = httpx.get(f"{server.url}/inventory", timeout=60).json()
        log = server.log()
    assert tags == {f"iris:{VERSION}"}
    assert answer == done["result"]
    assert inventory["models"]["iris"]["tag"] == f"iris:{VERSION}"
    assert log.count(f"iris:{VERSION} is served from") == 1


def test_a_server_does_not_start_with_a_file_that_is_wrong(source: Path, exported: bytes) -> None:
    put(source, exported, digest="0" * 64)
    done = subprocess.run(
        [Path(sys.executable).parent / "bentoml", "serve", "service:svc", "--port", str(free_port())],
        cwd=ROOT,
        env=os.environ | {"SERVING__MODEL_SOURCE__SOURCE": str(source)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode != 0
    assert "iris.bentomodel: its SHA-256 is" in done.stdout + done.stderr
