"""Models at rest in the BentoML model store: metadata, opening, checking, adding, importing."""
