"""Train or export a model, verify the export against the original, save it in the BentoML model store."""

from train.environment import prepare

# Here, because it must come before any import of TensorFlow or BentoML and every script passes here first.
prepare()
