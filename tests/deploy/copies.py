"""`python -m tests.deploy.copies` (`make docs`): what deploy/kubernetes/ has of other files.

kustomize reads nothing outside the directory of a kustomization, so it needs files of its own.
"""

from __future__ import annotations

from pathlib import Path
from textwrap import indent

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "deploy/kubernetes/base"
ALERTS = ROOT / "deploy/prometheus/alerts.yaml"

_RULE = """\
# Made of deploy/prometheus/alerts.yaml by `make docs`: change that one. For the Prometheus operator.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: model-serving
  labels:
    app.kubernetes.io/name: model-serving
spec:
"""


def copies() -> dict[Path, str]:
    """Each file that is made of another one, and what has to be in it."""
    rules = ALERTS.read_text(encoding="utf-8")
    return {
        BASE / "api/configuration.yaml": (ROOT / "configuration.yaml").read_text(encoding="utf-8"),
        BASE / "alerts.yaml": _RULE + indent(rules[rules.index("groups:") :], "  "),
    }


if __name__ == "__main__":
    for path, content in copies().items():
        path.write_text(content, encoding="utf-8")
