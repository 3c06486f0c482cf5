"""What the chart makes, whatever the values: safe containers, least rights, no secret where it can be read."""

from __future__ import annotations

import base64
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from fixtures.chart import (
    CHART,
    EMBEDDED,
    OFFLINE,
    ROOT,
    SCENARIOS,
    Chart,
    Manifest,
    Releases,
    containers,
    manifests,
    named,
    overlay,
    pod_specs,
)

COMPONENTS = ("operator", "api", "worker", "webhook")


@pytest.fixture(scope="module")
def everything(chart: Chart) -> list[Manifest]:
    """A release with all that can be switched on."""
    on = {
        "metrics": {each: {"enabled": True} for each in ("podMonitor", "prometheusRule", "dashboard")},
        "worker": {"autoscaling": {"enabled": True}},
        "networkPolicy": {"egress": {"enabled": True}},
    }
    return chart.render(OFFLINE, EMBEDDED, on)


def test_every_container_is_confined(everything: list[Manifest]) -> None:
    found = containers(everything)
    assert len(found) == 9
    for name, container in found.items():
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert container["resources"]["requests"], name
        assert container["resources"]["limits"]["memory"], name
        assert container["image"].endswith(":0.1.0"), name
        assert container["imagePullPolicy"] == "IfNotPresent", name
    for name, spec in pod_specs(everything).items():
        context = spec["securityContext"]
        assert context["runAsNonRoot"], name
        assert context["runAsUser"] == context["runAsGroup"] == context["fsGroup"] == 65532, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        assert not [each for each in spec["volumes"] if "hostPath" in each], name


def test_only_those_who_ask_the_api_server_have_a_token(everything: list[Manifest]) -> None:
    with_token = {name for name, spec in pod_specs(everything).items() if spec["automountServiceAccountToken"]}
    assert with_token == {
        "Deployment/memory-operator",
        "Deployment/memory-api",
        "Deployment/memory-worker",
        "Pod/memory-test",
    }
    for each in everything:
        if each["kind"] == "ServiceAccount":
            assert each["automountServiceAccountToken"] is False


def test_every_process_has_an_account_of_its_own(everything: list[Manifest]) -> None:
    accounts = [spec["serviceAccountName"] for spec in pod_specs(everything).values()]
    assert len(accounts) == len(set(accounts)) == 6


def test_every_process_is_probed_and_has_its_metrics_port(everything: list[Manifest]) -> None:
    for name, container in containers(everything).items():
        if name.endswith(":migrate") or name.startswith("Pod/"):
            continue
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container), name
        ports = {each["name"]: each["containerPort"] for each in container["ports"]}
        assert ports.get("metrics", 8081) == 8081
    operator = named(everything, "Deployment", "memory-operator")["spec"]["template"]["spec"]["containers"][0]
    assert operator["readinessProbe"]["httpGet"]["path"] == "/livez"  # /readyz is 503 while a change is held
    api = named(everything, "Deployment", "memory-api")["spec"]["template"]["spec"]["containers"][0]
    assert "tcpSocket" in api["readinessProbe"]  # so that it is there to answer 503 while the database is away


def test_rolling_updates_drop_no_request(everything: list[Manifest]) -> None:
    assert named(everything, "Deployment", "memory-operator")["spec"]["strategy"] == {"type": "Recreate"}
    api = named(everything, "Deployment", "memory-api")["spec"]
    assert api["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    pod = api["template"]["spec"]
    wait = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert wait + 10 < pod["terminationGracePeriodSeconds"]


def test_the_webhook_is_registered_as_designed(everything: list[Manifest]) -> None:
    (webhook,) = named(everything, "ValidatingWebhookConfiguration", "memory-memory-system")["webhooks"]
    assert webhook["failurePolicy"] == "Ignore"
    assert webhook["timeoutSeconds"] == 3
    assert webhook["sideEffects"] == "None"
    assert webhook["clientConfig"]["service"] == {
        "name": "memory-webhook",
        "namespace": "memory-system",
        "port": 443,
        "path": "/validate-omnia-altairalabs-ai-v1alpha1-provider",
    }
    (rule,) = webhook["rules"]
    assert (rule["operations"], rule["resources"]) == (["CREATE", "UPDATE"], ["providers"])


def test_the_crd_is_the_generated_one(chart: Chart) -> None:
    generated = (ROOT / "crds" / "omnia.altairalabs.ai_providers.yaml").read_text()
    crd = named(chart.render(OFFLINE), "CustomResourceDefinition", "providers.omnia.altairalabs.ai")
    assert crd["spec"] == yaml.safe_load(generated)["spec"]
    assert crd["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda path: path.name.removesuffix("-values.yaml"))
def test_what_is_secret_stands_in_no_other_object(scenario: Path, releases: Releases) -> None:
    objects = releases.render(scenario)
    secrets = [
        value for each in objects if each["kind"] == "Secret" for key, value in each["data"].items() if key != "ca.crt"
    ]
    rest = json.dumps([each for each in objects if each["kind"] != "Secret"])
    for value in secrets:
        assert value not in rest
        assert json.dumps(base64.b64decode(value).decode(errors="replace"))[1:-1] not in rest


def test_traces_go_to_the_collector_that_is_named_and_nowhere_by_default(
    chart: Chart, everything: list[Manifest]
) -> None:
    assert "OTEL_" not in json.dumps(everything)
    egress = {"networkPolicy": {"egress": {"enabled": True}}}
    tracing = {"endpoint": "https://collector:4318", "sampler": "traceidratio", "samplerArg": "0.1"}
    found = chart.render(OFFLINE, EMBEDDED, egress, {"tracing": tracing})
    for component in ("operator", "api", "worker"):
        [main] = named(found, "Deployment", f"memory-{component}")["spec"]["template"]["spec"]["containers"]
        given = {each["name"]: each.get("value") for each in main["env"]}
        assert given["OTEL_EXPORTER_OTLP_ENDPOINT"] == "https://collector:4318"
        assert given["OTEL_SERVICE_NAME"] == f"memory-{component}"
        assert (given["OTEL_TRACES_SAMPLER"], given["OTEL_TRACES_SAMPLER_ARG"]) == ("traceidratio", "0.1")
        # A variable is only put into those that come after it.
        assert list(given).index("K8S_POD_NAME") < list(given).index("OTEL_RESOURCE_ATTRIBUTES")
    for endpoint, port in {
        "https://c:4318/x": 4318,
        "http://c": 80,
        "https://c/": 443,
        "http://[::1]:4000": 4000,
    }.items():
        found = chart.render(OFFLINE, EMBEDDED, egress, {"tracing": {"endpoint": endpoint}})
        rules = named(found, "NetworkPolicy", "memory-api")["spec"]["egress"]
        assert {"ports": [{"protocol": "TCP", "port": port}]} in rules


def test_selectors_find_the_pods_of_one_component(everything: list[Manifest]) -> None:
    pods = {
        each["metadata"]["name"]: each["spec"].get("template", each)["metadata"]["labels"]
        for each in everything
        if each["kind"] in ("Deployment", "StatefulSet", "Pod")
    }
    for each in everything:
        if each["kind"] in ("Service", "PodDisruptionBudget", "NetworkPolicy"):
            spec = each["spec"]
            wanted = spec.get("podSelector", spec.get("selector"))
            wanted = wanted.get("matchLabels", wanted)
            found = [name for name, labels in pods.items() if wanted.items() <= labels.items()]
            assert found == [each["metadata"]["name"]]


def test_the_pods_get_what_their_component_was_given(releases: Releases) -> None:
    objects = releases.render(CHART / "ci" / "mirror-values.yaml")
    for component in COMPONENTS:
        deployment = named(objects, "Deployment", f"memory-{component}")
        assert deployment["metadata"]["annotations"] == {"example.com/a": "b", "example.com/owner": "platform"}
        template = deployment["spec"]["template"]
        assert template["metadata"]["labels"].items() >= {"example.com/e": "f", "team": "platform"}.items()
        assert template["metadata"]["annotations"].items() >= {"example.com/c": "d"}.items()
        spec = template["spec"]
        assert spec["nodeSelector"] == {"kubernetes.io/os": "linux"}
        assert spec["tolerations"] == [{"key": "memory", "operator": "Exists"}]
        assert spec["priorityClassName"] == "system-cluster-critical"
        assert spec["imagePullSecrets"] == [{"name": "mirror"}, {"name": "other"}]
        (constraint,) = spec["topologySpreadConstraints"]
        assert constraint["labelSelector"]["matchLabels"]["app.kubernetes.io/component"] == component
        main, beside = spec["containers"]
        assert beside["name"] == "beside"
        assert main["image"].startswith("registry.example.com/memory/memory-")
        assert {"name": "HTTPS_PROXY", "value": "http://proxy.example.com:3128"} in main["env"]
        assert {"name": "ca", "mountPath": "/etc/company", "readOnly": True} in main["volumeMounts"]
        assert [each["name"] for each in spec["volumes"]].count("ca") == 1
    assert {"memory-more", "more"} <= {each["metadata"]["name"] for each in objects}
    server = named(objects, "StatefulSet", "memory-postgresql")["spec"]["template"]["spec"]["containers"][0]
    assert {"name": "POSTGRES_SETTINGS", "value": "max_connections=200\nshared_buffers=512MB\n"} in server["env"]


def test_options_that_the_chart_sets_are_options_of_the_processes(chart: Chart) -> None:
    settings = (ROOT / "docs" / "settings.md").read_text()
    known = set(re.findall(r"`(MEMORY_[A-Z_]+)`", settings))
    objects = chart.render(overlay(OFFLINE, {"auth": {"mode": "tokens", "tokens": {"existingSecret": "t"}}}))
    objects += chart.render(overlay(OFFLINE, {"providers": {"credentialEnvVars": ["A"], "credentialDirectory": "/k"}}))
    used = {
        env["name"]
        for container in containers(objects).values()
        for env in container.get("env", [])
        if env["name"].startswith("MEMORY_")
    }
    assert used <= known


EVERY_EXTRA = {
    component: {
        "extraEnv": [
            {"name": "MEMORY_LOG_FORMAT", "value": "text"},
            {"name": "OTHER", "value": "1"},
            {"name": "OTHER", "value": "2"},
        ]
    }
    for component in COMPONENTS
}


def test_a_variable_of_the_users_replaces_the_charts_and_none_is_there_twice(chart: Chart) -> None:
    for name, container in containers(chart.render(OFFLINE, EVERY_EXTRA)).items():
        names = [each["name"] for each in container.get("env", [])]
        assert len(names) == len(set(names)), name
        if "OTHER" in names:
            assert {"name": "OTHER", "value": "2"} in container["env"], name
            assert {"name": "MEMORY_LOG_FORMAT", "value": "text"} in container["env"], name


class _Unique(yaml.SafeLoader):
    """YAML as kustomize reads it: a key that is there twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep) for key, _ in node.value]  # type: ignore[no-untyped-call]
        assert len(keys) == len(set(keys)), f"{keys} at {node.start_mark}"
        return super().construct_mapping(node, deep)


def test_no_label_is_there_twice_whatever_common_labels_and_pod_labels_say(chart: Chart) -> None:
    labels = {"app.kubernetes.io/part-of": "theirs", "app.kubernetes.io/component": "theirs", "team": "one"}
    values = {"commonLabels": labels, **{each: {"podLabels": labels | {"team": "two"}} for each in COMPONENTS}}
    objects = [each for each in yaml.load_all(chart.text(OFFLINE, values), _Unique) if each]
    worker = named(objects, "Deployment", "memory-worker")
    assert worker["metadata"]["labels"]["app.kubernetes.io/part-of"] == "theirs"
    assert worker["metadata"]["labels"]["team"] == "one"
    pod = worker["spec"]["template"]["metadata"]["labels"]
    assert pod["team"] == "two"
    assert worker["spec"]["selector"]["matchLabels"].items() <= pod.items()


def test_another_version_of_the_chart_changes_no_pod_by_itself(chart: Chart, tmp_path: Path) -> None:
    newer = tmp_path / "memory-operator"
    shutil.copytree(CHART, newer)
    (newer / "Chart.yaml").write_text(
        re.sub(r"(?m)^version: .*$", "version: 9.9.9", (CHART / "Chart.yaml").read_text())
    )
    values = chart.values(overlay(OFFLINE, EMBEDDED))
    before, after = (
        {
            each["metadata"]["name"]: each["spec"]["template"]
            for each in manifests(chart.run("template", "memory", str(folder), "-f", values))
            if each["kind"] in ("Deployment", "StatefulSet")
        }
        for folder in (CHART, newer)
    )
    assert before == after
    assert len(before) == 5


def test_helm_test_may_call_the_api_whoever_else_may_not(chart: Chart) -> None:
    only = [{"namespaceSelector": {"matchLabels": {"memory": "true"}}}]
    objects = chart.render(OFFLINE, {"networkPolicy": {"apiFrom": only, "egress": {"enabled": True}}})
    (rule,) = [
        each
        for each in named(objects, "NetworkPolicy", "memory-api")["spec"]["ingress"]
        if each["ports"][0]["port"] == "http"
    ]
    test = named(objects, "Pod", "memory-test")["metadata"]["labels"]
    (pods,) = [each["podSelector"]["matchLabels"] for each in rule["from"] if "podSelector" in each]
    assert pods.items() <= test.items()
    own = named(objects, "NetworkPolicy", "memory-test")["spec"]
    assert own["podSelector"]["matchLabels"].items() <= test.items()
    assert own["ingress"] == []
    assert [port["port"] for each in own["egress"] for port in each["ports"]] == [53, 53, "http"]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda path: path.name.removesuffix("-values.yaml"))
def test_every_scenario_has_its_section_of_the_document(scenario: Path) -> None:
    heading = re.match(r"# .*docs/install\.md, \"(.+)\"\.", scenario.read_text())
    assert heading is not None
    assert f"\n## {heading[1]}\n" in (ROOT / "docs" / "install.md").read_text()


def test_the_versions_are_those_of_the_distribution() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert f'version = "{chart["appVersion"]}"' in (ROOT / "pyproject.toml").read_text()
    assert chart["version"] == chart["appVersion"]


def test_a_packed_chart_renders_the_same(chart: Chart) -> None:
    chart.run("package", str(CHART), "--destination", str(chart.folder))
    (packed,) = chart.folder.glob("memory-operator-*.tgz")
    text = chart.run("template", "memory", str(packed), "-n", "memory-system", "-f", chart.values(OFFLINE))
    assert manifests(text) == chart.render(OFFLINE)


@pytest.mark.parametrize(
    ("values", "named_secrets"),
    [
        ({"database": {"url": "postgresql://a:b@c/d", "existingSecret": ""}}, {"memory-master"}),
        (EMBEDDED, {"memory-master", "db"}),
        ({"auth": {"mode": "tokens", "tokens": {"existingSecret": "tokens"}}}, {"memory-master", "tokens"}),
        ({"test": {"tokenSecret": "test-token"}}, {"test-token"}),
        ({"database": {"api": {"role": "memory_api", "existingSecret": "api-db"}}}, {"api-db"}),
        ({"webhook": {"tls": {"mode": "certManager"}}}, {"memory-webhook-ca", "memory-webhook-tls"}),
        (
            {
                "webhook": {
                    "tls": {
                        "mode": "existingSecret",
                        "existingSecret": "pair",
                        "caBundle": "-----BEGIN CERTIFICATE-----\nx",
                    }
                }
            },
            {"pair", "memory-webhook-ca", "memory-master-key"},
        ),
    ],
    ids=["url", "embedded", "tokens", "test", "api role", "cert-manager", "pair"],
)
def test_each_secret_that_a_release_has_is_withheld_from_providers(
    chart: Chart, values: dict[str, Any], named_secrets: set[str]
) -> None:
    objects = chart.render(OFFLINE, values)
    withheld = {
        entry["value"]
        for name, each in containers(objects).items()
        for entry in each.get("env", [])
        if entry["name"] == "MEMORY_WITHHELD_SECRETS"
    }
    (listed,) = withheld
    secrets = {each["metadata"]["name"] for each in objects if each["kind"] == "Secret"}
    mounted = {
        volume["secret"]["secretName"]
        for spec in pod_specs(objects).values()
        for volume in spec.get("volumes", [])
        if "secret" in volume
    }
    assert {f"memory-system/{name}" for name in secrets | mounted | named_secrets} <= set(listed.split(","))
