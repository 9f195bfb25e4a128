"""A zoo of models as published packages make them: what is served has to be what their `predict` says.

`MAKE` has a function for each; the modules beside this one hold one kind of model each.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.matrix.cases import Case
from tests.matrix.zoo import boosted, classifiers, columns, forms, numbers, unsupervised

MAKE: dict[str, Callable[[], Case]] = {
    **classifiers.MAKE,
    **numbers.MAKE,
    **unsupervised.MAKE,
    **columns.MAKE,
    **boosted.MAKE,
    **forms.MAKE,
}
