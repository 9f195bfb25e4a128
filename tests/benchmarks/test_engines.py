from pathlib import Path

import numpy as np
import pytest

from benchmarks import engine_program, engines
from benchmarks.engines import BASE, FAST, NOISE, SETUPS, TIE, Agreement, EngineError, agreement, targets

REFERENCE = np.array([[0.9, 0.1, 0.0], [0.5002, 0.4998, 0.0], [0.2, 0.5, 0.3], [0.6, 0.1, 0.3]], np.float32)


def test_agreement_leaves_ties_out_and_says_the_largest_difference():
    answers = REFERENCE.copy()
    answers[1] = [0.49, 0.51, 0.0]
    answers[2] = [0.2, 0.38, 0.42]
    found = agreement(answers, REFERENCE)
    assert found.shares[0.0] == (0.5, 4)
    assert found.shares[TIE] == (pytest.approx(2 / 3), 3), "the second row is a tie"
    assert found.shares[0.2] == (1.0, 2), "0.9 − 0.1 and 0.6 − 0.3"
    assert found.largest == pytest.approx(0.12)
    assert found.median == pytest.approx((0.0102 + 0) / 2, abs=1e-6)
    share, count = agreement(answers[1:3], REFERENCE[1:3]).shares[0.5]
    assert np.isnan(share)
    assert count == 0


def test_targets_say_what_was_missed():
    speeds = {BASE: dict.fromkeys(SETUPS, 10.0), FAST: dict(zip(SETUPS, (20.0, 19.0, 18.0), strict=True))}
    found = targets(speeds, {FAST: Agreement({TIE: (0.75, 400)}, 0.5, 0.1)})
    assert [target.met for target in found] == [True, True, False, False]
    assert found[-1].row()[2:] == ["0.75", "NOT met", "400 images"]
    assert [target.met for target in targets({BASE: speeds[BASE]}, {})] == [None] * 4


@pytest.fixture
def fake_engines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Engines that answer at once; those that are named in the list fail."""
    broken: list[str] = []

    def run(engine: str, *arguments: str) -> str:
        if engine in broken:
            raise EngineError(f"{engines.TITLES[engine]} ended with 1: no such library")
        options = dict(argument.removeprefix("--").partition("=")[::2] for argument in arguments)
        if "answers" in options:
            np.save(options["answers"], REFERENCE)
            return ""
        return '{"images_per_second": %s, "p50_ms": 1}' % (40 if engine == FAST else 20)

    monkeypatch.setattr(engines, "_run", run)
    monkeypatch.setattr(engines, "open_model", lambda _: FakeModel)
    return broken


class FakeModel:
    tag = "fake:1"

    class metadata:
        class weights:
            origin, trained = "random", False


def test_the_section_has_every_engine_and_says_that_weights_are_random(fake_engines: list[str]):  # noqa: ARG001
    section = engines.run(rounds=1, seconds=1, images=4)
    assert not section.failures
    text = section.markdown([])
    for name in (
        *engines.TITLES.values(),
        "ORT",
        "2.00",
        "100.0%",
        "up to 1 of 255",
        "**the weights are not trained**",
    ):
        assert name in text
    assert section.tables[1].rows[-1][0].startswith("ONNX Runtime"), "the noise comes last"


def test_an_engine_that_is_not_there_leaves_the_others(fake_engines: list[str]):
    fake_engines += ["openvino-float32", FAST, "tensorflow"]
    section = engines.run(rounds=1, seconds=1, images=4)
    assert section.failures == [f"{engines.TITLES[name]} ended with 1: no such library" for name in
                                ("tensorflow", "openvino-float32", FAST)]  # fmt: skip
    assert [row[0] for row in section.tables[0].rows] == [engines.TITLES[BASE]]
    assert [target[3] for target in section.tables[2].rows] == ["not measured"] * 4


def test_without_the_base_there_is_nothing_to_compare(fake_engines: list[str]):
    fake_engines.append(BASE)
    assert engines.run(rounds=1, seconds=1, images=4).tables == []


def test_a_process_that_fails_is_an_error_with_its_last_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    with pytest.raises(EngineError, match=r"ONNX Runtime, float32 ended with 2: .*unrecognized arguments: --nonsense"):
        engines._run(BASE, "--threads=1", "--nonsense")
    monkeypatch.setattr(engines, "OPENVINO_PYTHON", tmp_path / "python")
    with pytest.raises(EngineError, match=r"OpenVINO, bfloat16: .*No such file"):
        engines._run(FAST)


def test_noise_is_of_one_grey_level_and_the_same_every_time():
    seen = []

    def predict(images):
        seen.append(images.astype(int))
        return np.zeros((len(images), 2), np.float32)

    for noise in (False, True, True):
        assert engine_program.answers(predict, count=9, noise=noise).shape == (9, 2)
    assert [len(batch) for batch in seen] == [8, 1] * 3
    assert set(np.unique(seen[2] - seen[0])) == {-1, 0, 1}
    np.testing.assert_array_equal(seen[2], seen[4])


def test_every_engine_has_a_title():
    assert set(engines.TITLES) == set(engine_program.ENGINES)
    assert NOISE not in engines.TITLES


@pytest.mark.usefixtures("model_store")
def test_onnxruntime_gives_probabilities_of_the_stored_model():
    predict = engine_program.load("onnxruntime", threads=1)
    probabilities = engine_program.answers(predict, count=2, noise=False)
    assert probabilities.shape == (2, 1000)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-4)
