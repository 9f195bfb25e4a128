"""The Kubernetes manifests as kustomize builds them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.programs import need, run

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "deploy/kubernetes"
OVERLAYS = ("dev", "production", "canary")

Document = dict[str, Any]
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


@lru_cache
def build(overlay: str) -> list[Document]:
    """The documents of an overlay. With kustomize or kubectl, whichever is there."""
    command = [need("kustomize"), "build"] if shutil.which("kustomize") else [need("kubectl"), "kustomize"]
    return list(yaml.safe_load_all(run(*command, KUBERNETES / "overlays" / overlay)))


def of_kind(documents: list[Document], *kinds: str) -> list[Document]:
    return [document for document in documents if document["kind"] in kinds]


def named(documents: list[Document], kind: str, name: str) -> Document:
    (found,) = (document for document in of_kind(documents, kind) if document["metadata"]["name"] == name)
    return found


def workloads(documents: list[Document]) -> Iterator[tuple[str, Document]]:
    """The name of everything that makes Pods, and the template of those."""
    for document in of_kind(documents, "Deployment", "CronJob"):
        spec = document["spec"]["jobTemplate"]["spec"] if document["kind"] == "CronJob" else document["spec"]
        yield document["metadata"]["name"], spec["template"]


def container(template: Document) -> Document:
    (only,) = template["spec"]["containers"]
    return only


def selects(selector: Document, labels: dict[str, str]) -> bool:
    """Whether a label selector, or the plain labels of a Service's, fits."""
    if not {"matchLabels", "matchExpressions"} & set(selector):
        return selector.items() <= labels.items()
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In", expression
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return selector.get("matchLabels", {}).items() <= labels.items()


def quantity(text: str) -> float:
    """Cores or bytes.

    Raises:
        AssertionError: it is none; `500m`, `2`, `1.5` and `512Mi` are.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(m|Ki|Mi|Gi)?", str(text))
    assert found, f"not a quantity: {text}"
    number, unit = float(found[1]), found[2]
    return number / 1000 if unit == "m" else number * _BINARY.get(unit, 1)


CONTENT = "sqlite:///secret.db"
"""Stands for the content of every secret."""


def environment(documents: list[Document], template: Document) -> dict[str, str]:
    """The variables that a container gets."""
    only = container(template)
    found: dict[str, str] = {}
    for source in only.get("envFrom", []):
        found |= named(documents, "ConfigMap", source["configMapRef"]["name"])["data"]
    for variable in only["env"]:
        found[variable["name"]] = _value(variable, found, template["metadata"]["labels"])
    return found


def _value(variable: Document, before: dict[str, str], labels: dict[str, str]) -> str:
    source = variable.get("valueFrom")
    if source is None:
        # as the kubelet does: a variable has to stand above those that use it
        return re.sub(r"\$\((\w+)\)", lambda match: before[match[1]], variable["value"])
    if "fieldRef" in source:
        label = re.fullmatch(r"metadata\.labels\['(.+)'\]", source["fieldRef"]["fieldPath"])
        assert label, source
        return labels[label[1]]
    assert list(source) == ["secretKeyRef"], source
    return CONTENT
