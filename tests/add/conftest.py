from tests.store_fixtures import bentoml_home, run_python, stored

__all__ = ["bentoml_home", "run_python", "stored"]
