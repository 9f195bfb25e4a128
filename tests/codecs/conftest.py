from tests.keras_fixture import keras

__all__ = ["keras"]
