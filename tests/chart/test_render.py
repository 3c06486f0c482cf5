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
    OFFLINE,
    ROOT,
    SCENARIOS,
    Chart,
    Manifest,
    Releases,
    manifests,
    named,
    overlay,
    pod_specs,
)

PENDING_QUERY = "select chunks from memory_pending_work"
"""tests/component/db/test_pending_work.py shows what it says."""
PASSWORD = "correct-horse"
"""In the URL of the scenario database-url."""
COMPONENTS = ("operator", "api", "worker", "webhook")
EMBEDDED = {
    "database": {"existingSecret": ""},
    "postgresql": {"embedded": True, "auth": {"existingSecret": "db"}},
}


@pytest.fixture(scope="module")
def everything(chart: Chart) -> list[Manifest]:
    """A release with all that can be switched on."""
    on = {
        "metrics": {each: {"enabled": True} for each in ("podMonitor", "prometheusRule", "dashboard")},
        "worker": {"autoscaling": {"enabled": True}},
        "networkPolicy": {"egress": {"enabled": True}},
    }
    return chart.render(OFFLINE, EMBEDDED, on)


def containers(objects: list[Manifest]) -> dict[str, dict[str, Any]]:
    return {
        f"{pod}:{each['name']}": each
        for pod, spec in pod_specs(objects).items()
        for each in [*spec.get("initContainers", []), *spec["containers"]]
    }


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


def test_the_store_is_migrated_before_each_process_starts(everything: list[Manifest]) -> None:
    for name in ("operator", "api", "worker"):
        spec = named(everything, "Deployment", f"memory-{name}")["spec"]["template"]["spec"]
        (migrate,) = spec["initContainers"]
        assert migrate["args"] == ["migrate"]
        assert migrate["image"] == spec["containers"][0]["image"]


def test_the_api_waits_for_the_others_where_its_role_may_not_migrate(chart: Chart) -> None:
    api = {"role": "memory_api", "existingSecret": "memory-db-api", "existingSecretKey": "url"}
    objects = chart.render(OFFLINE, {"database": {"api": api}})
    for name, secret, key, args in (
        ("operator", "memory-db-app", "uri", ["migrate"]),
        ("worker", "memory-db-app", "uri", ["migrate"]),
        ("api", "memory-db-api", "url", ["migrate", "--only-wait"]),
    ):
        spec = named(objects, "Deployment", f"memory-{name}")["spec"]["template"]["spec"]
        (migrate,) = spec["initContainers"]
        assert migrate["args"] == args
        assert {"name": "MEMORY_API_ROLE", "value": "memory_api"} in migrate["env"]
        (volume,) = [each["secret"] for each in spec["volumes"] if each["name"] == "database"]
        assert (volume["secretName"], volume["items"]) == (secret, [{"key": key, "path": "url"}])


def test_the_bundled_database_makes_the_apis_role_by_itself(chart: Chart) -> None:
    password = {"postgresql": {"embedded": True, "auth": {"password": "correct-horse"}}}
    objects = chart.render(OFFLINE, {"database": {"existingSecret": ""}}, password)
    secret = {
        key: base64.b64decode(value).decode()
        for key, value in named(objects, "Secret", "memory-postgresql")["data"].items()
    }
    api = secret["api-password"]
    assert len(api) == 64
    assert secret["api-uri"] == f"postgresql://memory_api:{api}@memory-postgresql.memory-system.svc:5432/memory"
    server = named(objects, "StatefulSet", "memory-postgresql")["spec"]["template"]["spec"]
    assert {"name": "POSTGRES_API_ROLE", "value": "memory_api"} in server["containers"][0]["env"]
    (mounted,) = [each["secret"]["items"] for each in server["volumes"] if each["name"] == "password"]
    assert {"key": "api-password", "path": "api-password"} in mounted
    pod = named(objects, "Deployment", "memory-api")["spec"]["template"]["spec"]
    (volume,) = [each["secret"] for each in pod["volumes"] if each["name"] == "database"]
    assert volume["items"] == [{"key": "api-uri", "path": "url"}]  # and not the owner's


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


def test_passwords_are_in_secrets_only(releases: Releases) -> None:
    objects = releases.render(CHART / "ci" / "database-url-values.yaml")
    encoded = base64.b64encode(PASSWORD.encode()).decode().rstrip("=")[:-2]
    holders = [each for each in objects if PASSWORD in json.dumps(each) or encoded in json.dumps(each)]
    assert holders == []  # base64 of the whole URL does not hold that of the password
    secret = named(objects, "Secret", "memory-database")
    assert PASSWORD in base64.b64decode(secret["data"]["uri"]).decode()
    for each in objects:
        if each["kind"] != "Secret":
            assert secret["data"]["uri"] not in json.dumps(each)


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


def test_network_policies_let_nobody_else_into_the_bundled_database(everything: list[Manifest]) -> None:
    policy = named(everything, "NetworkPolicy", "memory-postgresql")["spec"]
    (rule,) = policy["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": "postgresql"}]
    (who,) = rule["from"]
    assert who["podSelector"]["matchExpressions"][0]["values"] == ["operator", "api", "worker"]
    assert policy["egress"] == []
    assert named(everything, "NetworkPolicy", "memory-webhook")["spec"]["egress"] == []


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
    assert named(objects, "StatefulSet", "memory-postgresql")["spec"]["template"]["spec"]["containers"][0]["env"] == [
        {"name": "POSTGRES_SETTINGS", "value": "max_connections=200\nshared_buffers=512MB\n"}
    ]


def test_the_operator_fills_only_where_nobody_else_does(chart: Chart) -> None:
    def fills(values: dict[str, Any]) -> str:
        operator = named(chart.render(overlay(OFFLINE, values)), "Deployment", "memory-operator")
        env = {each["name"]: each.get("value") for each in operator["spec"]["template"]["spec"]["containers"][0]["env"]}
        return str(env["MEMORY_FILL"])

    assert fills({}) == "false"
    assert fills({"worker": {"replicaCount": 0}}) == "true"
    assert fills({"worker": {"replicaCount": 0, "autoscaling": {"enabled": True}}}) == "false"
    assert fills({"operator": {"fill": True}}) == "true"
    assert fills({"operator": {"fill": False}, "worker": {"replicaCount": 0}}) == "false"


def test_each_process_has_as_many_connections_and_fills_as_its_values_say(chart: Chart) -> None:
    values = {component: {"databaseConnections": 10 + place} for place, component in enumerate(COMPONENTS[:3])}
    objects = containers(chart.render(OFFLINE, values, {"worker": {"fillsAtOnce": 3}}))
    for place, component in enumerate(COMPONENTS[:3]):
        environment = objects[f"Deployment/memory-{component}:{component}"]["env"]
        given = {each["name"]: each.get("value") for each in environment}
        assert given["MEMORY_DATABASE_CONNECTIONS"] == str(10 + place)
        assert given.get("MEMORY_FILLS_AT_ONCE") == (None if component == "api" else "3")


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


@pytest.mark.parametrize("metric", ["auto", "cpu", "pendingChunks"])
@pytest.mark.parametrize("adapter", [True, False])
def test_the_worker_scales_on_what_waits_where_the_cluster_can_tell(chart: Chart, metric: str, adapter: bool) -> None:
    values = overlay(OFFLINE, {"worker": {"autoscaling": {"enabled": True, "metric": metric}}})
    capabilities = ["--api-versions", "external.metrics.k8s.io/v1beta1"] if adapter else []
    text = chart.run("template", "memory", str(CHART), "-f", chart.values(values), *capabilities)
    scaler = named(manifests(text), "HorizontalPodAutoscaler", "memory-worker")["spec"]
    (figure,) = scaler["metrics"]
    assert figure["type"] == ("External" if metric == "pendingChunks" or (metric == "auto" and adapter) else "Resource")
    assert "replicas" not in named(manifests(text), "Deployment", "memory-worker")["spec"]


def test_where_keda_answers_external_metrics_auto_scales_on_cpu(chart: Chart) -> None:
    values = overlay(OFFLINE, {"worker": {"autoscaling": {"enabled": True}}})
    there = ["--api-versions", "external.metrics.k8s.io/v1beta1", "--api-versions", "keda.sh/v1alpha1"]
    objects = manifests(chart.run("template", "memory", str(CHART), "-f", chart.values(values), *there))
    (figure,) = named(objects, "HorizontalPodAutoscaler", "memory-worker")["spec"]["metrics"]
    assert figure["type"] == "Resource"


def test_keda_scales_workers_down_to_none_by_a_query_with_the_databases_own_secret(chart: Chart) -> None:
    objects = chart.render(OFFLINE, {"worker": {"keda": {"enabled": True}}})
    assert "replicas" not in named(objects, "Deployment", "memory-worker")["spec"]
    scaled = named(objects, "ScaledObject", "memory-worker")["spec"]
    assert scaled["scaleTargetRef"] == {"name": "memory-worker"}
    assert scaled["minReplicaCount"] == 0
    (trigger,) = scaled["triggers"]
    assert trigger["metadata"]["query"] == PENDING_QUERY
    assert trigger["metadata"]["activationTargetQueryValue"] == "0"
    (reference,) = named(objects, "TriggerAuthentication", "memory-worker")["spec"]["secretTargetRef"]
    assert reference == {"parameter": "connection", "name": "memory-db-app", "key": "uri"}
    operator = containers(objects)["Deployment/memory-operator:operator"]["env"]
    assert {"name": "MEMORY_FILL", "value": "false"} in operator


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


def test_the_bundled_databases_service_is_headless(chart: Chart) -> None:
    objects = chart.render(OFFLINE, EMBEDDED)
    name = named(objects, "StatefulSet", "memory-postgresql")["spec"]["serviceName"]
    assert named(objects, "Service", name)["spec"]["clusterIP"] == "None"


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
