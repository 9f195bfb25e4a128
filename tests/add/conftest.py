from tests.keras_fixture import keras
from tests.store_fixtures import bentoml_home, run_python, stored

__all__ = ["bentoml_home", "keras", "run_python", "stored"]
