"""
serverless.yml: the package and template by osls, and the resources that a deployment creates.

If moto's CloudFormation lacks a property, the test reads it from the template.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests
from serving.access import cors

from tests.helpers.aws.account import aws, client
from tests.helpers.aws.osls import offline, osls, package
from tests.helpers.platforms import PATHS
from tests.helpers.servers import ROOT, Server

pytestmark = pytest.mark.slow

FUNCTIONS = {path.stem for path in (ROOT / "functions").glob("*.py")}


class Stack(NamedTuple):
    """The packaged stage, and where it was deployed."""

    server: Server
    folder: Path

    def resources(self, kind: str) -> list[Any]:
        """List the resources of type *kind* in the CloudFormation template."""
        text = (self.folder / "cloudformation-template-update-stack.json").read_text("utf-8")
        return [r for r in json.loads(text)["Resources"].values() if r["Type"] == kind]

    def api(self, service: str) -> Any:
        """Return boto3's client of *service*."""
        return client(self.server, service)

    def bucket(self) -> str:
        """Return the name of the models' bucket."""
        found = self.api("cloudformation").describe_stack_resource(
            StackName="canoa-prod", LogicalResourceId="ModelsBucket"
        )
        return str(found["StackResourceDetail"]["PhysicalResourceId"])


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Package the stage `prod` and deploy it with osls, as a user does."""
    with aws() as server:
        folder = package(server, tmp_path_factory.mktemp("osls"), "--stage", "prod")
        osls(server, "deploy", "--package", str(folder), "--stage", "prod")
        yield Stack(server, folder)


def test_the_package_holds_only_the_functions(stack: Stack) -> None:
    """The package has a few KB: functions/, and nothing of the layer, tests or training."""
    path = stack.folder / "canoa.zip"
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())

    assert names == {f"functions/{name}.py" for name in FUNCTIONS}
    assert path.stat().st_size < 8 * 1024


def test_the_template_is_valid(stack: Stack) -> None:
    """cfn-lint reports no error and no warning."""
    files = stack.folder.glob("cloudformation-template-*.json")
    command = [str(Path(sys.executable).with_name("cfn-lint"))]
    run = subprocess.run(
        [*command, "--regions", "eu-central-1", "us-east-1", "--", *map(str, files)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.stdout + run.stderr == ""
    assert run.returncode == 0


def test_every_function_is_deployed(stack: Stack) -> None:
    """Each file of functions/ is a Lambda, with the layer, the model's location and tracing."""
    listed = stack.api("lambda").list_functions()["Functions"]
    found = {
        function["Environment"]["Variables"]["FUNCTION_TARGET"]: function for function in listed
    }
    [layer] = stack.api("lambda").list_layers()["Layers"]

    assert found.keys() == FUNCTIONS == PATHS.keys()
    assert layer["LatestMatchingVersion"]["CompatibleRuntimes"] == ["python3.13"]
    [layer] = stack.resources("AWS::Lambda::LayerVersion")
    assert layer["Properties"]["CompatibleArchitectures"] == ["arm64"]
    for function in stack.resources("AWS::Lambda::Function"):
        assert function["Properties"]["Architectures"] == ["arm64"]
        assert function["Properties"]["TracingConfig"] == {"Mode": "Active"}
        assert function["Properties"]["Layers"] == [{"Ref": "ServingLambdaLayer"}]
    for name, function in found.items():
        assert function["FunctionName"] == f"canoa-prod-{name}"
        assert function["Handler"] == "serving.adapters.aws.handler"
        assert function["Runtime"] == "python3.13"
        assert function["MemorySize"] == (512 if name in ("predict", "explain") else 256)
        assert 5 < function["Timeout"] < 30  # over a store's timeout, under the gateway's
        variables = function["Environment"]["Variables"]
        assert variables["MODEL_URI"] == f"s3://{stack.bucket()}/models/credit"


def test_every_route_leads_to_its_function(stack: Stack) -> None:
    """Each path leads with any method to its function, as payload 2.0; other paths to none."""
    gateway = stack.api("apigatewayv2")
    [api] = gateway.get_apis()["Items"]
    integrations = {
        item["IntegrationId"]: item
        for item in gateway.get_integrations(ApiId=api["ApiId"])["Items"]
    }
    led = {}
    for route in gateway.get_routes(ApiId=api["ApiId"])["Items"]:
        integration = integrations[route["Target"].removeprefix("integrations/")]
        assert integration["IntegrationType"] == "AWS_PROXY"
        assert integration["PayloadFormatVersion"] == "2.0"
        led[route["RouteKey"]] = integration["IntegrationUri"].rpartition("canoa-prod-")[2]

    assert led == {f"ANY {path}": name for name, path in PATHS.items()}


def test_the_gateway_has_throttling_and_cors(stack: Stack) -> None:
    """Throttling and CORS are those of the stage's parameters."""
    gateway = stack.api("apigatewayv2")
    [api] = gateway.get_apis()["Items"]
    [stage] = gateway.get_stages(ApiId=api["ApiId"])["Items"]

    assert stage["StageName"] == "$default"
    assert stage["DefaultRouteSettings"]["ThrottlingRateLimit"] == 500
    assert stage["DefaultRouteSettings"]["ThrottlingBurstLimit"] == 1000
    assert api["CorsConfiguration"]["AllowOrigins"] == ["https://www.example.com"]
    assert "POST" in api["CorsConfiguration"]["AllowMethods"]
    assert ", ".join(api["CorsConfiguration"]["AllowHeaders"]) == cors.ALLOWED
    assert ", ".join(api["CorsConfiguration"]["ExposeHeaders"]) == cors.EXPOSED


def test_the_bucket_is_private(stack: Stack) -> None:
    """The models' bucket is private, encrypted, versioned, retained, and TLS only."""
    bucket = stack.bucket()
    s3 = stack.api("s3")

    for resource in stack.resources("AWS::S3::Bucket"):
        blocked = resource["Properties"]["PublicAccessBlockConfiguration"]
        assert list(blocked.values()) == [True] * 4
    [rule] = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    [deny] = json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"]
    assert (deny["Effect"], deny["Principal"], deny["Action"]) == ("Deny", "*", "s3:*")
    assert deny["Resource"] == [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    assert deny["Condition"] == {"Bool": {"aws:SecureTransport": False}}
    _, models = stack.resources("AWS::S3::Bucket")  # the first bucket is osls's own
    assert models["Properties"]["VersioningConfiguration"] == {"Status": "Enabled"}
    assert models["DeletionPolicy"] == models["UpdateReplacePolicy"] == "Retain"


def test_the_functions_may_only_read_models(stack: Stack) -> None:
    """The role may read and list objects under models/ and write logs and traces; nothing else."""
    iam = stack.api("iam")
    [role] = iam.list_roles()["Roles"]
    [name] = iam.list_role_policies(RoleName=role["RoleName"])["PolicyNames"]
    document = iam.get_role_policy(RoleName=role["RoleName"], PolicyName=name)["PolicyDocument"]
    policy = ast.literal_eval(document)  # moto stores it as Python prints it
    bucket = f"arn:aws:s3:::{stack.bucket()}"
    granted = {}
    for statement in policy["Statement"]:
        actions = statement["Action"]
        for action in [actions] if isinstance(actions, str) else actions:
            granted[action] = statement

    assert all(statement["Effect"] == "Allow" for statement in granted.values())
    assert {action.partition(":")[0] for action in granted} == {"logs", "xray", "s3"}
    assert {action for action in granted if action.startswith("s3:")} == {
        "s3:GetObject",
        "s3:ListBucket",
    }
    assert granted["s3:GetObject"]["Resource"] == f"{bucket}/models/*"
    assert granted["s3:ListBucket"]["Resource"] == bucket
    assert granted["s3:ListBucket"]["Condition"] == {"StringLike": {"s3:prefix": "models/*"}}
    assert not any("*" in action for action in granted)


def test_logs_are_kept_for_90_days(stack: Stack) -> None:
    """Each function's log group deletes its entries after 90 days."""
    groups = stack.api("logs").describe_log_groups()["logGroups"]

    assert {group["logGroupName"] for group in groups} == {
        f"/aws/lambda/canoa-prod-{name}" for name in FUNCTIONS
    }
    assert {group["retentionInDays"] for group in groups} == {90}


def test_a_stage_has_its_own_parameters(stack: Stack, tmp_path: Path) -> None:
    """Another stage has its own names and limits; the command line sets one parameter."""
    folder = package(stack.server, tmp_path, "--stage", "dev", "--param", "model=credit/v7")
    dev = Stack(stack.server, folder)

    for function in dev.resources("AWS::Lambda::Function"):
        assert function["Properties"]["FunctionName"].startswith("canoa-dev-")
        uri = function["Properties"]["Environment"]["Variables"]["MODEL_URI"]
        assert uri == {"Fn::Sub": "s3://${ModelsBucket}/models/credit/v7"}
    [stage] = dev.resources("AWS::ApiGatewayV2::Stage")
    assert stage["Properties"]["DefaultRouteSettings"]["ThrottlingRateLimit"] == 50


def test_access_is_set_at_deployment(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys come from the environment or a parameter; unset, the variables are empty: closed."""
    names = ("API_KEYS", "JWT_ISSUER", "JWT_AUDIENCE", "JWT_JWKS_URL", "AUTH")
    unsaid = dict.fromkeys(names, "")
    said = {"API_KEYS": "web=" + "0" * 64, "JWT_AUDIENCE": "shop"}
    monkeypatch.setenv("JWT_AUDIENCE", said["JWT_AUDIENCE"])
    folder = package(stack.server, tmp_path, "--param", f"api_keys={said['API_KEYS']}")
    for one, expected in ((stack, unsaid), (Stack(stack.server, folder), unsaid | said)):
        for function in one.resources("AWS::Lambda::Function"):
            variables = function["Properties"]["Environment"]["Variables"]
            assert {name: variables[name] for name in names} == expected


def test_deploying_twice_changes_nothing(stack: Stack) -> None:
    """The template depends only on serverless.yml and the package."""
    printed = osls(stack.server, "deploy", "--package", str(stack.folder), "--stage", "prod")

    assert "did not include any changes" in printed


_STAND_IN = """
import json, os

def handler(event, context):
    answer = {"target": os.environ["FUNCTION_TARGET"], "root": os.environ["LAMBDA_TASK_ROOT"]}
    answer["event"] = event
    return {"statusCode": 200, "headers": {}, "body": json.dumps(answer)}
"""


def test_the_emulator_starts_every_handler(tmp_path: Path) -> None:
    """serverless-offline sends each path to its function, here a stand-in, as payload 2.0."""
    adapters = tmp_path / "serving" / "adapters"
    adapters.mkdir(parents=True)
    for folder in (adapters.parent, adapters):
        (folder / "__init__.py").touch()
    (adapters / "aws.py").write_text(_STAND_IN, "utf-8")
    with offline(tmp_path, PYTHONPATH=str(tmp_path)) as server:
        for name, path in PATHS.items():
            answer = requests.post(server + path, data=b"{}", timeout=30).json()

            assert (answer["target"], answer["root"]) == (name, str(ROOT))
            assert answer["event"]["version"] == "2.0"
            assert answer["event"]["rawPath"] == path
            assert answer["event"]["body"] == "{}"
