"""deploy/compose.yaml: its shape, what it names, what its containers may do, and its Redis as a real one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from serving.settings import Settings
from tests.deploy.manifests import ROOT
from tests.deploy.programs import need, run
from tests.docs import programs, readme
from tests.docs.settings import is_variable
from tests.server import free_port

DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
SECRETS = {"REDIS_PASSWORD": "red15", "MARIADB_PASSWORD": "mar1a", "GRAFANA_PASSWORD": "graf4na"}
GIVEN = {"MODEL_SERVING_VERSION": "0.1.0", **SECRETS}
# What the Compose specification has of what is used here; a misspelt key is none of these.
KEYS = {
    "image", "command", "environment", "read_only", "cap_drop", "security_opt", "restart", "stop_grace_period", "tmpfs",
    "networks", "ports", "mem_limit", "pids_limit", "healthcheck", "depends_on", "user", "volumes",
}  # fmt: skip
HEALTHCHECK = {"test", "interval", "timeout", "retries", "start_period"}
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?P<rest>:[?-][^}]*)?\}|\$\$")


def interpolated(text: str, given: dict[str, str]) -> str:
    """As Compose does it; a required variable that is not given is a KeyError."""

    def value(match: re.Match[str]) -> str:
        if match["name"] is None:
            return "$"
        default = match["rest"][2:] if (match["rest"] or "").startswith(":-") else None
        return given[match["name"]] if default is None else given.get(match["name"], default)

    return _VARIABLE.sub(value, text)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The file with its variables filled in."""
    document: dict[str, Any] = yaml.safe_load(interpolated(COMPOSE.read_text(), GIVEN))
    return document


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = compose["services"]
    return found


def seconds(text: str) -> int:
    match = re.fullmatch(r"(\d+)s", text)
    assert match, text
    return int(match[1])


def test_there_is_what_is_wanted(services: dict[str, Any]) -> None:
    assert set(services) == {"api", "worker", "batch", "redis", "mariadb", "prometheus", "grafana"}


def test_it_has_the_shape_of_a_compose_file(compose: dict[str, Any], services: dict[str, Any]) -> None:
    extensions = {key for key in compose if key.startswith("x-")}
    assert set(compose) - extensions == {"name", "services", "volumes", "networks"}
    for name, service in services.items():
        assert set(service) <= KEYS, name
        assert set(service["healthcheck"]) == HEALTHCHECK, name
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
        assert all(isinstance(value, str) for value in service.get("environment", {}).values()), name
        assert set(service["networks"]) <= set(compose["networks"])
        for needed, condition in service.get("depends_on", {}).items():
            assert needed in services
            assert condition == {"condition": "service_healthy"}


def test_docker_compose_takes_it_where_there_is_one() -> None:
    """Where there is none, the shape is what the test above knows of it."""
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        return
    done = run(docker, "compose", "--file", str(COMPOSE), "config", "--format", "json", **GIVEN)
    assert set(json.loads(done)["services"]) == set(yaml.safe_load(COMPOSE.read_text())["services"])


def test_it_does_not_start_without_passwords_of_ones_own() -> None:
    text = COMPOSE.read_text()
    used = {match["name"]: match["rest"] for match in _VARIABLE.finditer(text) if match["name"]}
    for name in GIVEN:
        with pytest.raises(KeyError, match=name):
            interpolated(text, {key: value for key, value in GIVEN.items() if key != name})
        assert all(rest.startswith(":?") for variable, rest in used.items() if variable == name)
    # what has a default is a port
    assert all(name.endswith("_PORT") for name, rest in used.items() if rest.startswith(":-"))
    # and nothing that is called a password has a value in the file
    written = re.findall(r"PASSWORD\w*: +(\S+)", text)
    assert [value for value in written if not value.startswith("${") and value != '"yes"'] == []


def test_passwords_are_on_no_command_line(services: dict[str, Any]) -> None:
    for service in services.values():
        commands = json.dumps([service.get("command"), service["healthcheck"]["test"]])
        assert [secret for secret in SECRETS.values() if secret in commands] == []


def test_make_writes_every_variable_that_is_required() -> None:
    required = {match["name"] for match in _VARIABLE.finditer(COMPOSE.read_text()) if (match["rest"] or "")[:2] == ":?"}
    assert required - {"MODEL_SERVING_VERSION"} == set(SECRETS)
    makefile = programs.makefile()
    (names,) = re.findall(r"for name in ([A-Z ]+);", makefile)
    assert {f"{name}_PASSWORD" for name in names.split()} == set(SECRETS)
    assert "MODEL_SERVING_VERSION" in makefile
    assert "deploy/.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_images_carry_a_version(services: dict[str, Any]) -> None:
    for service in services.values():
        _, _, version = service["image"].rpartition(":")
        assert re.fullmatch(r"v?\d+\.\d+\.\d+[\w.-]*", version), service["image"]


def test_containers_may_do_nothing_but_their_work(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not {"privileged", "cap_add", "pid", "network_mode", "ipc"} & set(service)
        assert "mem_limit" in service
        # the user of our own image is a number already
        assert service["image"].startswith("model-serving:") or re.fullmatch(r"\d+:\d+", service["user"]), name
        assert not any("docker.sock" in volume for volume in service.get("volumes", []))


def test_nothing_is_open_to_other_machines(compose: dict[str, Any], services: dict[str, Any]) -> None:
    assert compose["networks"]["inner"] == {"internal": True}
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
    assert {name for name, service in services.items() if "ports" in service} == {"api", "prometheus", "grafana"}
    assert {name for name, service in services.items() if "outer" in service["networks"]} == {
        "api",
        "prometheus",
        "grafana",
    }


def test_files_and_volumes_are_there(compose: dict[str, Any], services: dict[str, Any]) -> None:
    for name, service in services.items():
        for volume in service.get("volumes", []):
            source, target, *mode = volume.split(":")
            if source.startswith("."):
                assert (DEPLOY / source).is_dir(), volume
                assert mode == ["ro"], name
            else:
                assert source in compose["volumes"]
            assert target.startswith("/")


def test_commands_exist(services: dict[str, Any]) -> None:
    commands = programs.serving_commands()
    ours = {name: service for name, service in services.items() if service["image"].startswith("model-serving:")}
    assert "command" not in ours["api"], "what the image does by itself"
    for name, service in ours.items():
        words = [word for part in (service.get("command", []), service["healthcheck"]["test"]) for word in part]
        for command in re.findall(r"serving [^&]+", " ".join(words)):
            (called,) = (known for known in commands if f"{command} ".startswith(f"{known} "))
            options = set(re.findall(r"--[\w-]+", command))
            assert options <= {option.split()[0] for option in programs.serving_options(commands[called])}, name


def test_the_settings_are_accepted(services: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("api", "worker", "batch"):
        variables = services[name]["environment"]
        assert [variable for variable in variables if not is_variable(variable)] == []
        for variable, value in variables.items():
            monkeypatch.setenv(variable, value)
        settings = Settings()
        assert not settings.jobs.has_embedded_worker
        assert settings.jobs.url == f"redis://:{SECRETS['REDIS_PASSWORD']}@redis:6379/0"
        assert seconds(services[name]["stop_grace_period"]) >= settings.server.drain_seconds + 5
    assert [port.rpartition(":")[2] for port in services["api"]["ports"]] == ["3000", str(settings.grpc.port)]
    assert services["mariadb"]["environment"]["MARIADB_PASSWORD"] in settings.batch.database_url


def test_health_is_asked_for_where_it_is(services: dict[str, Any]) -> None:
    routes = {route.split()[1] for row in readme.rows("| route | request | answer |") for route in readme.code(row[0])}
    settings = Settings()
    for name, port in (("api", 3000), ("worker", settings.jobs.worker_port)):
        (url,) = re.findall(r"http://127\.0\.0\.1:(\d+)(/\w+)", services[name]["healthcheck"]["test"][-1])
        assert url == (str(port), "/readyz")
        assert "/readyz" in routes


def test_prometheus_scrapes_the_services(services: dict[str, Any]) -> None:
    (file,) = (
        option.partition("=")[2] for option in services["prometheus"]["command"] if option.startswith("--config.file=")
    )
    assert file == "/etc/prometheus/prometheus.yaml"
    configuration = yaml.safe_load((DEPLOY / "prometheus/prometheus.yaml").read_text())
    scraped = {
        job["job_name"]: (name, target["port"])
        for job in configuration["scrape_configs"]
        for target in job["dns_sd_configs"]
        for name in target["names"]
    }
    assert scraped == {"model-serving": ("api", 3000), "model-serving-worker": ("worker", Settings().jobs.worker_port)}
    assert all((DEPLOY / "prometheus" / file).is_file() for file in configuration["rule_files"])


def test_grafana_finds_prometheus_and_its_dashboards(services: dict[str, Any]) -> None:
    provisioning = DEPLOY / "grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in services
    (provider,) = yaml.safe_load((provisioning / "dashboards/model-serving.yaml").read_text())["providers"]
    mounts = dict(volume.split(":")[1::-1] for volume in services["grafana"]["volumes"])
    dashboards = DEPLOY / mounts[provider["options"]["path"]]
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (dashboards / Path(home).name).is_file()
    scrape = yaml.safe_load((DEPLOY / "prometheus/prometheus.yaml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scrape


def test_its_redis_wants_the_password_and_forgets_nothing(services: dict[str, Any], tmp_path: Path) -> None:
    """The command as it stands, with another directory and port."""
    need("redis-server")
    port = free_port()
    shell, option, script = services["redis"]["command"]
    script = script.replace("dir /data", f"dir {tmp_path}\nport {port}\nbind 127.0.0.1")
    process = subprocess.Popen(
        [shell, option, script], env={**services["redis"]["environment"], "PATH": "/usr/bin:/bin:/usr/local/bin"}
    )
    try:
        with redis.Redis(port=port, password=SECRETS["REDIS_PASSWORD"]) as client:
            deadline = time.monotonic() + 30
            while True:
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    assert time.monotonic() < deadline
                    assert process.poll() is None
                    time.sleep(0.05)
            assert client.config_get("appendonly") == {"appendonly": "yes"}
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert client.config_get("dir") == {"dir": str(tmp_path)}
        with redis.Redis(port=port) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
    finally:
        # the shell has become the server: the signal of `docker stop` reaches it
        process.terminate()
        assert process.wait(30) == 0
