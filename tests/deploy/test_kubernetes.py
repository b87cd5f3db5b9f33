"""The files for Kubernetes: valid by its schemas, in keeping with each other, and with what the package does."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from sealwire import Security
from sealwire.testing import Throwaway
from support.documents import ROOT

DIRECTORY = ROOT / "deploy/kubernetes"
OF_OTHERS = {"Certificate": "cert-manager.io/v1"}
"""Resources that are not Kubernetes' own, which has no schemas of them."""
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def resources() -> dict[str, Any]:
    found = [each for path in sorted(DIRECTORY.glob("*.yaml")) for each in yaml.safe_load_all(path.read_text())]
    assert len({each["kind"] for each in found}) == len(found)
    return {each["kind"]: each for each in found}


RESOURCES = resources()
POD = RESOURCES["Deployment"]["spec"]["template"]
CONTAINER = POD["spec"]["containers"][0]
CONFIGURATION = RESOURCES["ConfigMap"]["data"]["sealwire.toml"]


@pytest.mark.parametrize("kind", sorted(set(RESOURCES) - set(OF_OTHERS)))
def test_schemas(kind: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the package that validates
        kubernetes_validate.validate(RESOURCES[kind], kubernetes_validate.latest_version(), strict=True)


def test_schemas_are_strict() -> None:
    """What is misspelt is found."""
    wrong = yaml.safe_load((DIRECTORY / "deployment.yaml").read_text())
    wrong["spec"]["template"]["spec"]["containers"][0]["readinessprobe"] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # likewise
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)


def test_certificate() -> None:
    """By the fields of cert-manager.io/v1 that it needs, since its schema is not here."""
    made = RESOURCES["Certificate"]
    assert made["apiVersion"] == OF_OTHERS["Certificate"]
    spec = made["spec"]
    assert set(spec) == {
        "secretName", "duration", "renewBefore", "privateKey", "usages", "dnsNames", "issuerRef",
    }  # fmt: skip
    assert set(spec["issuerRef"]) == {"name", "kind", "group"}
    assert spec["privateKey"] == {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"}
    assert "server auth" in spec["usages"]
    assert int(spec["duration"][:-1]) > int(spec["renewBefore"][:-1]) > 0
    assert RESOURCES["Service"]["metadata"]["name"] in spec["dnsNames"]
    sources = POD["spec"]["volumes"][0]["projected"]["sources"]
    assert {"secret": {"name": spec["secretName"]}} in sources


def test_they_belong_together() -> None:
    labels = POD["metadata"]["labels"]
    for selector in (
        RESOURCES["Deployment"]["spec"]["selector"]["matchLabels"],
        RESOURCES["Service"]["spec"]["selector"],
        RESOURCES["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        RESOURCES["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    port = CONTAINER["ports"][0]
    assert str(port["containerPort"]) == CONTAINER["args"][CONTAINER["args"].index("--port") + 1]
    assert RESOURCES["Service"]["spec"]["ports"][0]["targetPort"] == port["name"]
    assert RESOURCES["NetworkPolicy"]["spec"]["ingress"][0]["ports"][0]["port"] == port["name"]
    assert {"configMap": {"name": RESOURCES["ConfigMap"]["metadata"]["name"]}} in POD["spec"]["volumes"][0][
        "projected"
    ]["sources"]
    assert CONTAINER["volumeMounts"][0]["name"] == POD["spec"]["volumes"][0]["name"]
    address = re.search(r'listen = "(.*)"', CONFIGURATION)
    assert address is not None
    assert all(f"http://{address[1]}/" in str(CONTAINER[probe]["exec"]["command"]) for probe in PROBES)


def test_privileges() -> None:
    pod, container = POD["spec"]["securityContext"], CONTAINER["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["runAsUser"] != 0
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert POD["spec"]["automountServiceAccountToken"] is False
    assert POD["spec"]["volumes"][0]["projected"]["defaultMode"] == 0o440


def test_the_configuration(tmp_path: Path) -> None:
    """Loads, beside the files that cert-manager and the keyring's secret bring."""
    place = Throwaway(tmp_path)
    cert, key = place.leaf("server", "orders")
    for path, name in ((cert, "tls.crt"), (key, "tls.key"), (place.ca, "ca.crt")):
        path.rename(tmp_path / name)
    (tmp_path / "sealwire.toml").write_text(CONFIGURATION)
    security = Security.from_toml(tmp_path / "sealwire.toml")
    assert security.admin == "127.0.0.1:9090"


def test_time_to_stop() -> None:
    """Is enough for the pause, for requests in hand, and for workers that hang."""
    pause = int(CONTAINER["lifecycle"]["preStop"]["exec"]["command"][1])
    assert POD["spec"]["terminationGracePeriodSeconds"] >= pause + 10 + 5


def instructions(path: Path) -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n|\\\n", "", path.read_text(), flags=re.MULTILINE)
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


def test_containerfile() -> None:
    """Its last image runs as the pod's user, as one process without a shell, and has no tools to build with."""
    lines = instructions(ROOT / "deploy/Containerfile")
    last = max(number for number, (word, _) in enumerate(lines) if word == "FROM")
    final = dict(lines[last:])
    pod = POD["spec"]["securityContext"]
    assert final["USER"] == f"{pod['runAsUser']}:{pod['runAsGroup']}"
    assert final["ENTRYPOINT"] == '["sealwire", "serve"]'
    assert final["EXPOSE"] == str(CONTAINER["ports"][0]["containerPort"])
    assert "RUN" not in final
    assert re.fullmatch(r"BASE=\S+:\d\S*", dict(lines)["ARG"]), "a version, not the latest"
    for word, rest in lines:
        for source in rest.split()[:-1] if word == "COPY" and not rest.startswith("--from") else []:
            assert source == "orders.py" or (ROOT / source).exists()
