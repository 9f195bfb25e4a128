import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import __main__ as command
from benchmarks import against, batch, batching, inception_v3, iris, jobs, machine, overload
from benchmarks.batching_contenders import image_contenders, iris_contenders
from benchmarks.contenders import iris_variants, peers
from benchmarks.generators import find_generator
from benchmarks.load import LoadError
from benchmarks.photo import photo
from benchmarks.results import Section
from benchmarks.server import ServerError


@pytest.fixture
def runs(monkeypatch, tmp_path):
    """Benchmarks that only say what they were asked; the failures they report can be set."""
    seen = {"failures": (), "options": {}}

    def fake(name):
        def run(options):
            seen["options"][name] = options
            return Section(name, name, [], failures=seen["failures"])

        return run

    monkeypatch.setattr(command.signal, "signal", lambda *_: None)
    monkeypatch.setattr(command, "RESULTS", tmp_path / "RESULTS.md")
    for module in (iris, inception_v3, batching, overload, jobs, batch):
        monkeypatch.setattr(module, "run", fake(module.NAME))
    return seen


def test_all_benchmarks_are_saved_in_one_file(runs, tmp_path: Path):
    assert command.main(["--generator", "asyncio", "--rounds", "2", "--seconds", "1.5"]) == 0
    text = (tmp_path / "RESULTS.md").read_text()
    assert "<!-- begin iris -->" in text
    assert "<!-- begin inception_v3 -->" in text
    assert "<!-- begin batching -->" in text
    assert "`python -m benchmarks --generator asyncio --rounds 2 --seconds 1.5`" in text
    assert (runs["options"]["iris"].rounds, runs["options"]["iris"].seconds) == (2, 1.5)


def test_overload_and_jobs_run_when_they_are_named_only(runs):
    assert command.main(["--generator", "asyncio"]) == 0
    assert list(runs["options"]) == ["iris", "inception_v3", "batching"]
    runs["options"].clear()
    assert command.main(["overload", "--generator", "asyncio", "--seconds", "5"]) == 0
    assert list(runs["options"]) == ["overload"]
    runs["options"].clear()
    assert command.main(["--only", "service_overload", "--generator", "asyncio"]) == 0
    assert list(runs["options"]) == ["overload"]
    runs["options"].clear()
    assert command.main(["--only", "jobs_redis", "--generator", "asyncio"]) == 0
    assert list(runs["options"]) == ["jobs"]
    runs["options"].clear()
    assert command.main(["--only", "batch_files", "--generator", "asyncio"]) == 0
    assert list(runs["options"]) == ["batch"]


def test_fewer_rows_do_not_replace_the_results(runs, tmp_path: Path):
    assert command.main(["batch", "--rows", "1000", "--generator", "asyncio"]) == 0
    assert runs["options"]["batch"].rows == 1000
    assert not (tmp_path / "RESULTS.md").exists()
    assert command.main(["batch", "--generator", "asyncio"]) == 0
    assert "<!-- begin batch -->" in (tmp_path / "RESULTS.md").read_text()


def test_failures_make_the_exit_code(runs):
    runs["failures"] = ("x c8: 1 non-2xx, 0 errors",)
    assert command.main(["iris", "--generator", "asyncio"]) == 1


def test_some_servers_run_their_benchmark_only_and_do_not_replace_the_results(runs, tmp_path: Path):
    assert command.main(["--only", "service,raw_asgi", "--generator", "asyncio"]) == 0
    assert list(runs["options"]) == ["iris"]
    assert not (tmp_path / "RESULTS.md").exists()
    output = tmp_path / "part.md"
    assert command.main(["--only", "service", "--output", str(output), "--generator", "asyncio"]) == 0
    assert "<!-- begin iris -->" in output.read_text()


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["--only", "nobody"], ["--rounds", "0"], ["--seconds", "nan"], ["--rows", "1"]]
)
def test_bad_arguments_are_refused(runs, arguments):
    with pytest.raises(SystemExit) as refused:
        command.main(arguments)
    assert refused.value.code == 2
    assert runs["options"] == {}


def test_the_names_of_the_servers_are_those_that_can_be_chosen():
    assert [server.name for server in [*peers(Path("model.onnx")), *iris_variants()]] == list(iris.SERVERS)


def test_every_batching_server_can_be_chosen_and_every_choice_is_one(monkeypatch):
    monkeypatch.setattr(iris, "checker", lambda *_: None)
    names = [
        contender.server.name
        for contender in [*iris_contenders(Path("model.onnx")), *image_contenders(Path("model.onnx"), b"", 2)]
    ]
    assert len(set(names)) == len(names)
    assert {*names, batching.ENGINE} == set(batching.SERVERS)


def test_the_first_installed_generator_is_taken(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert find_generator().name == "bundled asyncio"
    with pytest.raises(LoadError, match="wrk is not installed"):
        find_generator("wrk")


def test_the_photo_is_the_same_every_time_and_as_large_as_a_photo():
    jpeg = photo()
    assert photo() == jpeg != photo(seed=1)
    assert 60_000 < len(jpeg) < 120_000
    with Image.open(io.BytesIO(jpeg)) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (640, 480))
        assert np.asarray(image).std() > 30


def test_the_circumstances_name_what_was_measured_on(monkeypatch, tmp_path: Path):
    site = tmp_path / "lib" / "python3.11" / "site-packages" / "orjson-9.8.7.dist-info"
    site.mkdir(parents=True)
    (site / "METADATA").write_text("Metadata-Version: 2.1\nName: orjson\nVersion: 9.8.7\n")
    monkeypatch.setenv("SERVING__MODELS__IRIS__THREADS", "2")
    text = "\n".join(machine.describe("python -m benchmarks", "wrk", {"asgi": tmp_path}))
    for part in ("command: `python -m benchmarks`, commit ", " UTC", " cores", "CPython 3.", "wrk", "onnxruntime 1."):
        assert part in text
    assert "of the peers in `asgi`, where different: orjson 9.8.7" in text
    assert "`SERVING__MODELS__IRIS__THREADS=2`" in text


def test_answers_about_images_are_checked():
    good = '{"predictions": [%s]}'
    entry = '{"label": "x", "class_id": 1, "probability": %s}'
    inception_v3.check_answer((good % ", ".join(entry % p for p in (0.5, 0.2, 0.1, 0.1, 0.05))).encode())
    for probabilities in [(0.5, 0.2), (0.1, 0.2, 0.3, 0.1, 0.1), (0.9, 0.8, 0.7, 0.6, 0.5)]:
        with pytest.raises(ValueError, match="not "):
            inception_v3.check_answer((good % ", ".join(entry % p for p in probabilities)).encode())


def test_another_checkout_is_measured_beside_iris_only(runs, monkeypatch, tmp_path: Path, capsys):  # noqa: ARG001
    asked = []

    def run(options, other):
        asked.append((options.rounds, other))
        return Section("against", "against", [])

    monkeypatch.setattr(command.against, "run", run)
    assert command.main(["iris", "--against", str(tmp_path), "--rounds", "2", "--generator", "asyncio"]) == 0
    assert asked == [(2, tmp_path)]
    assert not (tmp_path / "RESULTS.md").exists(), "it does not replace the results of all"
    for names in ([], ["iris", "batching"]):
        with pytest.raises(SystemExit):
            command.main([*names, "--against", str(tmp_path)])
        assert "--against is for the benchmark iris alone" in capsys.readouterr().err


def test_a_checkout_without_an_environment_says_what_to_do(tmp_path: Path):
    with pytest.raises(ServerError, match=rf"run `make install` in {tmp_path}"):
        against.checkout("other", tmp_path)


def test_each_checkout_runs_in_its_own_directory(tmp_path: Path):
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/bentoml").write_text("")
    other = against.checkout("other", tmp_path)
    assert other.root == tmp_path
    assert other.command(1)[0] == tmp_path / ".venv/bin/bentoml"
    # What other versions of this project do not know would end their start.
    assert set(other.environment) == {"SERVING__GRPC__ENABLED", "SERVING__LOGGING__PREDICTIONS"}
