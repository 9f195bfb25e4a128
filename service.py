"""The entry service: `bentoml serve service:svc` starts it.

`configuration.yaml` says which models are served; `serving/bento/entry.py` makes the service of it, and
`serving/http/` has its routes.
"""

from __future__ import annotations

import bentoml

from serving.bento.entry import entry_options, make_entry
from serving.settings.proxies import spare_loopback
from serving.settings.reading import require_settings

spare_loopback()
# A wrong setting ends in a line here, not in a traceback.
settings = require_settings()
svc = bentoml.service(**entry_options(settings))(make_entry(settings))
