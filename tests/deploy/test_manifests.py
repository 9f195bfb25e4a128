"""The Kubernetes manifests: valid, consistent in themselves, and about what the service really has."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from serving.commands import exits
from serving.jobs.store import open_store
from serving.jobs.worker_http import make_app
from serving.settings import ENV_PREFIX, FILE_VARIABLE, Settings
from serving.settings.jobs import JobsSettings
from serving.store.models import open_model
from tests.deploy.copies import copies
from tests.deploy.manifests import (
    KUBERNETES,
    OVERLAYS,
    ROOT,
    Document,
    build,
    container,
    environment,
    named,
    of_kind,
    quantity,
    selects,
    workloads,
)
from tests.docs import programs, readme
from tests.docs.settings import is_variable
from tests.jobs.factory import new_job
from tests.jobs.redis_server import GivenRedis

VERSION = "1.31"
CLUSTER_WIDE = {"Namespace"}
# Kinds of the KEDA and Prometheus operators, for which there are no schemas at hand: what may stand below `spec`.
OPERATORS = {
    "ScaledObject": {
        "scaleTargetRef",
        "minReplicaCount",
        "maxReplicaCount",
        "pollingInterval",
        "cooldownPeriod",
        "fallback",
        "triggers",
    },
    "TriggerAuthentication": {"secretTargetRef"},
    "ServiceMonitor": {"selector", "podTargetLabels", "endpoints"},
    "PrometheusRule": {"groups"},
}
NOT_SETTINGS = {FILE_VARIABLE, "BENTOML_HOME", "IRIS_VERSION", "INCEPTION_V3_VERSION"}
SECONDS_TO_SPARE = 5
"""Between the end of the drain and SIGKILL: connections are dropped and processes end."""


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> list[Document]:
    return build(request.param)


@pytest.fixture
def production() -> list[Document]:
    return build("production")


@pytest.fixture
def canary() -> list[Document]:
    return build("canary")


def settings_of(documents: list[Document], template: Document, tmp_path: Path, patch: pytest.MonkeyPatch) -> Settings:
    """The settings of a container: its variables, and the file that is mounted."""
    for name in [name for name in os.environ if name.startswith(ENV_PREFIX)]:
        patch.delenv(name)
    given = environment(documents, template)
    (mount,) = (mount for mount in container(template)["volumeMounts"] if mount["name"] == "configuration")
    (volume,) = (volume for volume in template["spec"]["volumes"] if volume["name"] == "configuration")
    files = named(documents, "ConfigMap", volume["configMap"]["name"])["data"]
    file = tmp_path / Path(given[FILE_VARIABLE]).relative_to(mount["mountPath"])
    file.write_text(files[file.name])
    for name, value in (given | {FILE_VARIABLE: str(file)}).items():
        patch.setenv(name, value)
    return Settings()


# --- the files ---


def test_copies_are_current() -> None:
    """When this fails: `make docs`."""
    assert {str(path): path.read_text() for path in copies()} == {str(path): text for path, text in copies().items()}


def test_every_manifest_is_valid(overlay: list[Document]) -> None:
    for document in overlay:
        if document["kind"] not in OPERATORS:
            kubernetes_validate.validate(document, VERSION, strict=True)


def test_what_operators_read_has_the_shape_that_they_want(overlay: list[Document]) -> None:
    for document in of_kind(overlay, *OPERATORS):
        assert set(document) == {"apiVersion", "kind", "metadata", "spec"}
        assert set(document["spec"]) == OPERATORS[document["kind"]], document["kind"]
    for scaled in of_kind(overlay, "ScaledObject"):
        assert scaled["apiVersion"] == "keda.sh/v1alpha1"
        for trigger in scaled["spec"]["triggers"]:
            assert set(trigger) == {"type", "metadata", "authenticationRef"}
            # KEDA takes texts only, numbers too
            assert all(isinstance(value, str) for value in trigger["metadata"].values())
            named(overlay, "TriggerAuthentication", trigger["authenticationRef"]["name"])
    for monitor in of_kind(overlay, "ServiceMonitor", "PrometheusRule"):
        assert monitor["apiVersion"] == "monitoring.coreos.com/v1"


def test_there_is_what_is_wanted(production: list[Document]) -> None:
    wanted = {
        ("Deployment", "model-serving"),
        ("Deployment", "model-serving-worker"),
        ("Service", "model-serving"),
        ("Service", "model-serving-worker"),
        ("HorizontalPodAutoscaler", "model-serving"),
        ("PodDisruptionBudget", "model-serving"),
        ("ScaledObject", "model-serving-worker"),
        ("TriggerAuthentication", "model-serving-jobs"),
        ("CronJob", "model-serving-batch"),
        ("ServiceMonitor", "model-serving"),
        ("PrometheusRule", "model-serving"),
        *(("NetworkPolicy", f"model-serving-{name}") for name in ("deny", "api", "worker", "jobs", "batch")),
    }
    found = {(one["kind"], one["metadata"]["name"]) for one in production if one["kind"] != "ConfigMap"}
    assert found == wanted


def test_dev_needs_no_operators_and_no_secrets() -> None:
    documents = build("dev")
    assert of_kind(documents, *OPERATORS) == []
    assert "secretKeyRef" not in yaml.safe_dump_all(documents)


def test_everything_of_an_overlay_is_in_one_namespace(overlay: list[Document]) -> None:
    assert len({one["metadata"]["namespace"] for one in overlay if one["kind"] not in CLUSTER_WIDE}) == 1


# --- one with the other ---


def test_selectors_fit_the_labels_of_pods(overlay: list[Document]) -> None:
    pods = {name: template["metadata"]["labels"] for name, template in workloads(overlay)}
    for document in of_kind(overlay, "Deployment"):
        assert selects(document["spec"]["selector"], pods[document["metadata"]["name"]])
    # the canary's Service is production's
    for document in of_kind(overlay, "Service"):
        chosen = [name for name, labels in pods.items() if selects(document["spec"]["selector"], labels)]
        assert chosen == [document["metadata"]["name"]]
    for document in of_kind(overlay, "PodDisruptionBudget"):
        assert [name for name, labels in pods.items() if selects(document["spec"]["selector"], labels)] == [
            "model-serving"
        ]
    for template in dict(workloads(overlay)).values():
        for spread in template["spec"].get("topologySpreadConstraints", []):
            assert selects(spread["labelSelector"], template["metadata"]["labels"])


def test_each_network_policy_is_for_the_pods_that_it_names(production: list[Document]) -> None:
    pods = {name: template["metadata"]["labels"] for name, template in workloads(production)}
    chosen = {
        policy["metadata"]["name"].removeprefix("model-serving-"): {
            name for name, labels in pods.items() if selects(policy["spec"]["podSelector"], labels)
        }
        for policy in of_kind(production, "NetworkPolicy")
    }
    api, worker, batch = "model-serving", "model-serving-worker", "model-serving-batch"
    assert chosen == {
        "deny": {api, worker, batch},
        "api": {api},
        "worker": {worker},
        "jobs": {api, worker},
        "batch": {api, batch},
    }


def test_what_is_let_in_has_a_port(production: list[Document]) -> None:
    templates = dict(workloads(production))
    for policy in of_kind(production, "NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            for template in templates.values():
                if selects(policy["spec"]["podSelector"], template["metadata"]["labels"]):
                    ports = {port["name"] for port in container(template).get("ports", [])}
                    assert {port["port"] for port in rule["ports"]} <= ports


def test_scalers_scale_what_there_is(production: list[Document]) -> None:
    targets = [one["spec"]["scaleTargetRef"] for one in of_kind(production, "HorizontalPodAutoscaler", "ScaledObject")]
    for target in targets:
        assert named(production, target["kind"], target["name"])["apiVersion"] == target["apiVersion"]
    # two that set the same replicas would fight
    assert len({target["name"] for target in targets}) == len(targets)


def test_services_and_probes_name_ports_of_the_container(overlay: list[Document]) -> None:
    templates = dict(workloads(overlay))
    for service in of_kind(overlay, "Service"):
        ports = {port["name"] for port in container(templates[service["metadata"]["name"]])["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    for template in templates.values():
        only = container(template)
        for probe in (only[name] for name in only if name.endswith("Probe")):
            assert probe["httpGet"]["port"] in {port["name"] for port in only["ports"]}


def test_prometheus_scrapes_ports_that_services_have(production: list[Document]) -> None:
    (monitor,) = of_kind(production, "ServiceMonitor")
    chosen = [
        service
        for service in of_kind(production, "Service")
        if selects(monitor["spec"]["selector"], service["metadata"]["labels"])
    ]
    # the rules and the dashboard tell them apart by these names
    assert {service["metadata"]["name"] for service in chosen} == {"model-serving", "model-serving-worker"}
    ports = {port["name"] for service in chosen for port in service["spec"]["ports"]}
    scraped = {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]}
    assert scraped <= ports
    for service in chosen:
        assert len(scraped & {port["name"] for port in service["spec"]["ports"]}) == 1, "scraped once"
    assert {endpoint["path"] for endpoint in monitor["spec"]["endpoints"]} == {"/metrics"}


# --- the images ---


def test_images_carry_a_version(overlay: list[Document]) -> None:
    images = {container(template)["image"] for _, template in workloads(overlay)}
    assert len(images) == 1, "one image in every role"
    name, _, version = images.pop().rpartition(":")
    assert name.rpartition("/")[2] == "model-serving"
    # a tag of the repository or a commit, as `make image` has it, and nothing that was not committed
    assert re.fullmatch(r"v?\d+\.\d+\.\d+[\w.-]*|[0-9a-f]{7,40}", version)
    assert "dirty" not in version


@pytest.mark.parametrize("name", ["production", "canary"])
def test_model_versions_are_exact_and_those_of_the_labels(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = build(name)
    for _, template in workloads(documents):
        labels = template["metadata"]["labels"]
        versions = {model: labels[f"model-serving/{model.replace('_', '-')}"] for model in ("iris", "inception_v3")}
        assert all(re.fullmatch("[a-z0-9]{16}", version) for version in versions.values())
        settings = settings_of(documents, template, tmp_path, monkeypatch)
        tags = {model: entry.tag for model, entry in settings.served.items()}
        assert tags == {model: f"{model}:{version}" for model, version in versions.items()}


@pytest.mark.parametrize("name", ["model-serving-worker", "model-serving-batch"])
def test_commands_exist(production: list[Document], name: str) -> None:
    pod = dict(workloads(production))[name]["spec"]
    commands = programs.serving_commands()
    for one in [*pod.get("initContainers", []), *pod["containers"]]:
        arguments = " ".join(one["args"])
        command, *options = re.split(" (?=--)", arguments)
        assert command in commands
        known = {option.split()[0] for option in programs.serving_options(commands[command])}
        assert {option.split()[0] for option in options} <= known


def test_roles_are_those_of_the_image(production: list[Document]) -> None:
    """It has no entry point, so arguments are the command; without, it is the API. And its user is a number."""
    template = (ROOT / "deploy/Dockerfile.template").read_text()
    assert "ENTRYPOINT" not in template
    assert re.search(r'^CMD \["bentoml", "serve", .*"--port", "3000"\]$', template, re.MULTILINE)
    roles = {name: container(pod).get("args") for name, pod in workloads(production)}
    assert [name for name, arguments in roles.items() if arguments is None] == ["model-serving"]
    user = re.search(r"^USER (\d+):(\d+)$", template, re.MULTILINE)
    assert user
    for name, pod in workloads(production):
        context = pod["spec"]["securityContext"]
        assert [str(context[key]) for key in ("runAsUser", "runAsGroup")] == list(user.groups()), name


# --- the settings ---


def test_every_variable_is_a_setting(overlay: list[Document]) -> None:
    for name, template in workloads(overlay):
        variables = set(environment(overlay, template)) - NOT_SETTINGS
        assert [variable for variable in variables if not is_variable(variable)] == [], name


def test_the_settings_of_every_container_are_accepted(
    overlay: list[Document], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, template in workloads(overlay):
        with monkeypatch.context() as patch:
            settings = settings_of(overlay, template, tmp_path, patch)
        ports = {port["name"]: port["containerPort"] for port in container(template).get("ports", [])}
        assert (
            ports
            == {
                "worker": {"metrics": settings.jobs.worker_port},
                # BentoML's own port, and the one of the setting
                "api": {"http": 3000, "grpc": settings.grpc.port},
                "batch": {},
            }[container(template)["name"]]
        ), name
        assert settings.grpc.enabled


def test_a_drain_ends_before_the_pod_is_killed(
    overlay: list[Document], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, template in workloads(overlay):
        with monkeypatch.context() as patch:
            drain = settings_of(overlay, template, tmp_path, patch).server.drain_seconds
        before = container(template).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        assert before + drain + SECONDS_TO_SPARE <= template["spec"]["terminationGracePeriodSeconds"], name
        # new connections are refused from SIGTERM on, so the endpoints have to be gone by then
        assert (before > 0) == (container(template)["name"] == "api")


@pytest.mark.usefixtures("model_store")
def test_threads_fit_the_cpu_limit(production: list[Document], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, template in workloads(production):
        with monkeypatch.context() as patch:
            settings = settings_of(production, template, tmp_path, patch)
        cores = max(1, quantity(container(template)["resources"]["limits"]["cpu"]))
        for model, entry in settings.served.items():
            kind = open_model(f"{model}:latest").metadata.kind
            threads = [entry.limits(kind).threads, *([entry.image.decode_threads] if kind == "image" else [])]
            assert all(1 <= number <= cores for number in threads), (name, model)


def test_jobs_have_somebody_who_does_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for overlay in OVERLAYS:
        documents = build(overlay)
        api = next(template for _, template in workloads(documents) if container(template)["name"] == "api")
        with monkeypatch.context() as patch:
            assert settings_of(documents, api, tmp_path, patch).jobs.has_embedded_worker == (overlay == "dev")


def test_secrets_are_named_and_nowhere_written(overlay: list[Document]) -> None:
    assert of_kind(overlay, "Secret") == []
    text = yaml.safe_dump_all(overlay)
    assert not re.search(r"://[^/\s]*:[^/\s]*@", text), "a URL with a password"
    guide = (ROOT / "docs/operations.md").read_text()
    references = [
        variable["valueFrom"]["secretKeyRef"]
        for _, template in workloads(overlay)
        for variable in container(template)["env"]
        if "secretKeyRef" in variable.get("valueFrom", {})
    ]
    references += [
        reference
        for authentication in of_kind(overlay, "TriggerAuthentication")
        for reference in authentication["spec"]["secretTargetRef"]
    ]
    for reference in references:
        created = re.search(rf"create secret generic {reference['name']}((?: *\\?\n? *--from-\S+)+)", guide)
        assert created, f"docs/operations.md does not say how {reference['name']} is made"
        assert f"={reference['key']}=" in created[1]


async def _jobs_of(url: str, namespace: str) -> None:
    store = open_store(JobsSettings(url=url, namespace=namespace))
    try:
        for model in Settings().served:
            for _ in range(2):
                await store.submit(new_job(model=model))
            assert len(await store.claim(model, "worker", limit=1)) == 1
    finally:
        await store.close()


@pytest.mark.anyio
async def test_keda_counts_what_redis_has(production: list[Document], redis_server: GivenRedis) -> None:
    """Two jobs of each model, one of which runs: every list has one."""
    import redis

    namespace = "manifests"
    await _jobs_of(redis_server.url, namespace)
    (scaled,) = of_kind(production, "ScaledObject")
    lists = [trigger["metadata"]["listName"] for trigger in scaled["spec"]["triggers"]]
    assert len(lists) == 2 * len(Settings().served)
    with redis.Redis.from_url(redis_server.url) as client:
        keys = [name.replace(f"{{{JobsSettings().namespace}}}", f"{{{namespace}}}") for name in lists]
        assert [client.type(key) for key in keys] == [b"zset"] * len(lists)
        assert [client.zcard(key) for key in keys] == [1] * len(lists)


# --- how they run ---


def test_probes_ask_for_what_there_is(overlay: list[Document]) -> None:
    # held equal to the routes by tests/docs
    api_paths = {
        route.split()[1] for row in readme.rows("| route | request | answer |") for route in readme.code(row[0])
    }
    worker_paths = {route.path for route in make_app(ready=lambda: True, registry=None).routes}  # type: ignore[arg-type, attr-defined]
    for name, template in workloads(overlay):
        only = container(template)
        probes = {kind: only[kind]["httpGet"]["path"] for kind in only if kind.endswith("Probe")}
        if only["name"] == "batch":
            assert probes == {}
            continue
        assert probes == {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
        assert set(probes.values()) <= (api_paths if only["name"] == "api" else worker_paths), name


def test_starting_may_take_minutes(overlay: list[Document]) -> None:
    for _, template in workloads(overlay):
        probe = container(template).get("startupProbe")
        if probe:
            assert probe["periodSeconds"] * probe["failureThreshold"] >= 180


def test_quantities_are_quantities_and_limits_are_no_less_than_requests(overlay: list[Document]) -> None:
    for name, template in workloads(overlay):
        resources = container(template)["resources"]
        for kind in ("cpu", "memory"):
            assert 0 < quantity(resources["requests"][kind]) <= quantity(resources["limits"][kind]), name
        for volume in template["spec"]["volumes"]:
            if "emptyDir" in volume:
                assert quantity(volume["emptyDir"]["sizeLimit"]) > 0


def test_the_api_scales_as_it_should(production: list[Document]) -> None:
    assert named(production, "Deployment", "model-serving")["spec"]["replicas"] == 4
    spec = named(production, "HorizontalPodAutoscaler", "model-serving")["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (3, 10)
    assert spec["metrics"] == [
        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}
    ]
    resources = container(dict(workloads(production))["model-serving"])["resources"]
    assert resources["requests"]["cpu"] == resources["limits"]["cpu"] == "500m"


def _pod_of(spec: Document) -> Document:
    template: Document = spec["jobTemplate"]["spec"]["template"]
    return template


def test_what_another_attempt_does_not_change_is_not_tried_again(production: list[Document]) -> None:
    spec = named(production, "CronJob", "model-serving-batch")["spec"]["jobTemplate"]["spec"]
    assert spec["template"]["spec"]["restartPolicy"] == "Never", "or the policy is refused"
    fails = spec["podFailurePolicy"]["rules"][0]
    assert fails["action"] == "FailJob"
    assert fails["onExitCodes"]["containerName"] == container(spec["template"])["name"]
    assert fails["onExitCodes"]["values"] == [exits.USAGE, exits.ROWS_FAILED, exits.TIMED_OUT]


def test_init_containers_are_as_what_comes_after_them(overlay: list[Document]) -> None:
    """So the checks of the one hold for the other."""
    for _, template in workloads(overlay):
        after = container(template)
        for first in template["spec"].get("initContainers", []):
            assert {key for key in after if after[key] != first.get(key)} <= {"name", "args"}
            assert set(first) <= set(after)


def test_batches_run_every_hour_and_one_at_a_time(production: list[Document]) -> None:
    spec = named(production, "CronJob", "model-serving-batch")["spec"]
    assert (spec["schedule"], spec["concurrencyPolicy"]) == ("0 * * * *", "Forbid")
    assert spec["startingDeadlineSeconds"] > 10, "less and Kubernetes may never start one"
    assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] < 3600
    (deadline,) = re.findall(r"--deadline (\d+)m", " ".join(container(_pod_of(spec))["args"]))
    assert int(deadline) * 60 < spec["jobTemplate"]["spec"]["activeDeadlineSeconds"]
    assert spec["successfulJobsHistoryLimit"] >= 1
    assert spec["failedJobsHistoryLimit"] >= 1


def test_pods_may_do_nothing_but_their_work(overlay: list[Document]) -> None:
    for name, template in workloads(overlay):
        pod, only = template["spec"], container(template)
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True, name
        assert isinstance(context["runAsUser"], int), "a name cannot be judged by runAsNonRoot"
        assert context["runAsUser"] >= 1000
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert only["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "privileged": False,
            "capabilities": {"drop": ["ALL"]},
        }
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert [volume["name"] for volume in pod["volumes"] if "hostPath" in volume] == []
        writable = {mount["mountPath"] for mount in only["volumeMounts"] if not mount.get("readOnly")}
        assert writable == {"/tmp"}


def test_pods_are_spread(production: list[Document]) -> None:
    spread = dict(workloads(production))["model-serving"]["spec"]["topologySpreadConstraints"]
    assert {one["topologyKey"] for one in spread} == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}


# --- the canary ---


def test_a_canary_is_behind_the_same_service_and_not_in_the_same_deployment(
    production: list[Document], canary: list[Document]
) -> None:
    stable = named(production, "Deployment", "model-serving")
    (second,) = of_kind(canary, "Deployment")
    labels = second["spec"]["template"]["metadata"]["labels"]
    assert second["metadata"]["name"] == "model-serving-canary"
    assert selects(named(production, "Service", "model-serving")["spec"]["selector"], labels)
    assert selects(named(production, "PodDisruptionBudget", "model-serving")["spec"]["selector"], labels)
    assert not selects(stable["spec"]["selector"], labels)
    assert not selects(second["spec"]["selector"], stable["spec"]["template"]["metadata"]["labels"])
    policies = of_kind(production, "NetworkPolicy")
    assert {one["metadata"]["name"] for one in policies if selects(one["spec"]["podSelector"], labels)} == {
        f"model-serving-{name}" for name in ("deny", "api", "jobs", "batch")
    }


def test_a_canary_gets_its_share_by_replicas(production: list[Document], canary: list[Document]) -> None:
    (second,) = of_kind(canary, "Deployment")
    stable = named(production, "Deployment", "model-serving")
    assert (second["spec"]["replicas"], stable["spec"]["replicas"]) == (1, 4)


def _without_what_differs(deployment: Document) -> Document:
    spec: Any = copy.deepcopy(deployment["spec"])
    del spec["replicas"]
    for one in (spec["selector"]["matchLabels"], spec["template"]["metadata"]["labels"]):
        for label in ("track", "model-serving/iris", "model-serving/inception-v3"):
            one.pop(label, None)
    for spread in spec["template"]["spec"]["topologySpreadConstraints"]:
        spread["labelSelector"]["matchLabels"].pop("track", None)
    container(spec["template"])["image"] = ""
    container(spec["template"])["envFrom"] = []
    for volume in spec["template"]["spec"]["volumes"]:
        volume.pop("configMap", None)
    return spec


def test_a_canary_differs_in_nothing_but_image_models_and_configuration(
    production: list[Document], canary: list[Document]
) -> None:
    stable = named(production, "Deployment", "model-serving")
    (second,) = of_kind(canary, "Deployment")
    assert _without_what_differs(second) == _without_what_differs(stable)


def test_taking_a_canary_back_deletes_nothing_of_production(production: list[Document], canary: list[Document]) -> None:
    def names(documents: list[Document]) -> Iterator[tuple[str, str]]:
        return ((one["kind"], one["metadata"]["name"]) for one in documents)

    assert set(names(canary)) & set(names(production)) == set()


def test_overlays_are_what_is_there() -> None:
    assert {path.name for path in (KUBERNETES / "overlays").iterdir()} == set(OVERLAYS)
