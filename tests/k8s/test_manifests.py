"""The manifests render, fit the schemas of Kubernetes and KubeRay, and keep what we promise about safety.

The KubeRay schemas are not part of the project: ALM_MTA_CRDS names the folder with `ray.io_rayclusters.yaml` and
`ray.io_rayjobs.yaml`.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from allocator.settings import SCOPES, token_variable
from features.settings import load_section

ROOT = Path(__file__).resolve().parents[2]
CRDS = os.environ.get("ALM_MTA_CRDS")
KUBERNETES = "1.31"
OVERLAYS = ["base", "overlays/laptop-kind", "overlays/cluster-gpu"]
SAFE_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Object = dict[str, Any]


@pytest.fixture(scope="module", params=OVERLAYS)
def objects(request: pytest.FixtureRequest) -> list[Object]:
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed: the manifests were not rendered")
    rendered = subprocess.run(
        ["kubectl", "kustomize", str(ROOT / "k8s" / request.param)], capture_output=True, text=True, check=False
    )
    assert rendered.returncode == 0, rendered.stderr
    return list(yaml.load_all(rendered.stdout, Loader=SAFE_LOADER))


def is_ray(item: Object) -> bool:
    return str(item["apiVersion"]).startswith("ray.io/")


def find(objects: list[Object], kind: str, name: str) -> Object:
    [found] = [item for item in objects if item["kind"] == kind and item["metadata"]["name"] == name]
    return found


def pod_specs(node: Any) -> Iterator[Object]:
    """Every pod spec at any depth: a mapping with `containers`."""
    if isinstance(node, dict):
        if "containers" in node:
            yield node
        for value in node.values():
            yield from pod_specs(value)
    elif isinstance(node, list):
        for value in node:
            yield from pod_specs(value)


def closed(schema: Any) -> Any:
    """`schema` with unknown properties refused, which the published one merely prunes."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    tightened = {key: closed(value) for key, value in schema.items()}
    free_form = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if schema.get("type") == "object" and "properties" in schema and not free_form:
        tightened["additionalProperties"] = False
    return tightened


def validate(item: Object, schema: Any) -> None:
    """Like jsonschema.validate, without the seconds that checking a large schema itself takes."""
    jsonschema.Draft202012Validator(schema).validate(item)


@pytest.fixture(scope="module")
def ray_schemas() -> dict[tuple[str, str], Any]:
    """(apiVersion, kind) -> JSON schema."""
    if CRDS is None:
        pytest.skip("no KubeRay schemas: ALM_MTA_CRDS names their folder")
    files = sorted(Path(CRDS).glob("ray.io_*.yaml"))
    assert files, f"no ray.io_*.yaml under ALM_MTA_CRDS={CRDS}"
    schemas = {}
    for file in files:
        definition = yaml.load(file.read_text(), Loader=SAFE_LOADER)["spec"]
        for version in definition["versions"]:
            schema = closed(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = {"type": "object"}
            schemas[f"{definition['group']}/{version['name']}", definition["names"]["kind"]] = schema
    return schemas


def test_core_kinds_fit_the_schema_of_kubernetes(objects: list[Object]) -> None:
    core = [item for item in objects if not is_ray(item)]
    assert {
        "ConfigMap",
        "Namespace",
        "Deployment",
        "Service",
        "PersistentVolumeClaim",
        "NetworkPolicy",
        "ServiceAccount",
    } <= {item["kind"] for item in core}
    for item in core:
        kubernetes_validate.validate(item, KUBERNETES, strict=True)


def test_ray_kinds_fit_the_schema_of_kuberay(objects: list[Object], ray_schemas: dict[tuple[str, str], Any]) -> None:
    ray = [item for item in objects if is_ray(item)]
    assert {item["kind"] for item in ray} == {"RayCluster", "RayJob"}
    for item in ray:
        validate(item, ray_schemas[item["apiVersion"], item["kind"]])


def test_a_typing_error_in_a_ray_kind_is_found(objects: list[Object], ray_schemas: dict[tuple[str, str], Any]) -> None:
    job = find(objects, "RayJob", "alm-mta-sweep")
    container = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    broken = {**job, "spec": {**job["spec"], "submitterPodTemplate": {"spec": {"containers": [container]}}}}
    schema = ray_schemas[job["apiVersion"], "RayJob"]
    validate(broken, schema)
    broken["spec"]["submitterPodTemplate"]["spec"]["containers"] = [{**container, "imagePullPolic": "Never"}]
    with pytest.raises(jsonschema.ValidationError, match="imagePullPolic"):
        validate(broken, schema)


def test_every_pod_is_confined(objects: list[Object]) -> None:
    specs = [spec for item in objects for spec in pod_specs(item)]
    assert len(specs) == 7, "allocator, mlflow, two of the cluster, submitter and two of the job"
    for spec in specs:
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] >= 10000
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        for container in spec["containers"]:
            confinement = container["securityContext"]
            assert confinement["allowPrivilegeEscalation"] is False
            assert confinement["readOnlyRootFilesystem"] is True
            assert confinement["capabilities"] == {"drop": ["ALL"]}


def test_every_container_is_bounded_and_pinned(objects: list[Object]) -> None:
    for item in objects:
        for spec in pod_specs(item):
            for container in spec["containers"]:
                assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
                assert "memory" in container["resources"]["limits"]
                assert re.fullmatch(r"[^:@]+(:(?!latest)[\w.-]+|@sha256:[0-9a-f]{64})", container["image"])


def test_every_mount_has_its_volume_and_the_claims_exist(objects: list[Object]) -> None:
    claims = {item["metadata"]["name"] for item in objects if item["kind"] == "PersistentVolumeClaim"}
    for item in objects:
        for spec in pod_specs(item):
            volumes = {volume["name"]: volume for volume in spec["volumes"]}
            mounted = {m["name"] for container in spec["containers"] for m in container["volumeMounts"]}
            assert mounted == set(volumes)
            used = {v["persistentVolumeClaim"]["claimName"] for v in volumes.values() if "persistentVolumeClaim" in v}
            assert used <= claims


def test_services_and_policies_select_the_pods_they_mean(objects: list[Object]) -> None:
    for name in ("allocator", "mlflow"):
        labels = find(objects, "Deployment", name)["spec"]["template"]["metadata"]["labels"]
        selector = find(objects, "Service", name)["spec"]["selector"]
        restricted = find(objects, "NetworkPolicy", name)["spec"]["podSelector"]["matchLabels"]
        assert selector.items() <= labels.items()
        assert restricted.items() <= labels.items()
        assert labels["app.kubernetes.io/part-of"] == "alm-mta", "or the policies would shut it out"


def test_no_secret_is_committed() -> None:
    for file in (ROOT / "k8s").rglob("*.yaml"):
        text = file.read_text()
        assert not re.search(r"^kind: Secret$", text, re.MULTILINE), file
        assert "secretGenerator" not in text, file


def test_every_scope_of_the_allocator_has_its_token(objects: list[Object]) -> None:
    """A token under a name that the service does not read would leave it open."""
    [container] = find(objects, "Deployment", "allocator")["spec"]["template"]["spec"]["containers"]
    tokens = {
        variable["name"]: variable["valueFrom"]["secretKeyRef"]
        for variable in container["env"]
        if "valueFrom" in variable
    }
    assert set(tokens) == {token_variable(scope) for scope in SCOPES}
    assert not any(reference.get("optional") for reference in tokens.values())
    assert {reference["key"] for reference in tokens.values()} == set(SCOPES)


@pytest.mark.parametrize(
    ("name", "live", "ready"), [("allocator", "/healthz", "/readyz"), ("mlflow", "/health", "/health")]
)
def test_probes(objects: list[Object], name: str, live: str, ready: str) -> None:
    [container] = find(objects, "Deployment", name)["spec"]["template"]["spec"]["containers"]
    paths = {probe: container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")}
    assert paths == {"startup": live, "liveness": live, "readiness": ready}


def test_ray_version_is_the_pinned_one(objects: list[Object]) -> None:
    [pin] = re.findall(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    cluster = find(objects, "RayCluster", "alm-mta")["spec"]
    job = find(objects, "RayJob", "alm-mta-sweep")["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] == job["rayVersion"] == pin


def test_the_first_push_reaches_an_allocator_without_a_model(objects: list[Object]) -> None:
    """/readyz answers 503 until a model serves, and an unready pod is otherwise out of its service."""
    assert find(objects, "Service", "allocator")["spec"]["publishNotReadyAddresses"] is True


def test_the_sweep_is_a_command_that_exists_with_settings_it_accepts(
    objects: list[Object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import model.sweep

    job = find(objects, "RayJob", "alm-mta-sweep")["spec"]
    python, dash_m, module, *arguments = shlex.split(job["entrypoint"])
    assert (python, dash_m, module) == ("python", "-m", "model.sweep")
    monkeypatch.setattr(sys, "argv", [module, *arguments, "--help"])
    with pytest.raises(SystemExit) as helped:
        model.sweep.main()
    assert helped.value.code == 0
    options = {argument for argument in arguments if argument.startswith("--")}
    assert options == set(re.findall(r"--[a-z]+", capsys.readouterr().out.split("options:")[1])) - {"--help"}
    config = load_section(
        find(objects, "ConfigMap", "alm-mta-sweep")["data"]["sweep.yaml"], "sweep", model.sweep.SweepConfig
    )
    assert config.trials > 0
    assert config.address == "auto", "or the sweep would start a Ray of its own on the head"


def test_the_sweep_waits_to_be_started(objects: list[Object]) -> None:
    job = find(objects, "RayJob", "alm-mta-sweep")["spec"]
    assert job["suspend"] is True
    assert job["shutdownAfterJobFinishes"] is True, "KubeRay refuses a suspended job without it"
