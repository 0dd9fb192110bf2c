"""AWS on this machine: moto's server, with the resources that its CloudFormation lacks.

Resources that moto has an API but no CloudFormation for are made through that API, so boto3 checks
the name and type of every property as for AWS. Only what runs the server imports moto: that takes
a second.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

from tests.helpers.servers import Server, start

__all__ = ["KEYS", "aws", "client", "serve"]

#: Invented credentials. With them and AWS_ENDPOINT_URL no request can reach a real account.
KEYS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": "eu-central-1",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextlib.contextmanager
def aws() -> Iterator[Server]:
    """Run the server."""
    program = "from tests.helpers.aws.account import serve; serve()"
    command = [sys.executable, "-c", program, "-H", "127.0.0.1", "-p", "{port}"]
    with start(command, KEYS) as server:
        yield server


def client(server: str, service: str) -> Any:
    """Return boto3's client of *service* at *server*."""
    import boto3

    return boto3.client(
        service,
        endpoint_url=server,
        region_name=KEYS["AWS_REGION"],
        aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
    )


def serve() -> None:
    """Run the server in this process, with moto's arguments; the last one is the port."""
    from moto.server import main

    server = f"http://127.0.0.1:{sys.argv[-1]}"
    gateway = client(server, "apigatewayv2")
    bucket = client(server, "s3").put_bucket_policy
    _add("AWS::ApiGatewayV2::Api", gateway.create_api, "ApiId")
    _add("AWS::ApiGatewayV2::Stage", gateway.create_stage, "StageName")
    _add("AWS::ApiGatewayV2::Integration", gateway.create_integration, "IntegrationId")
    _add("AWS::ApiGatewayV2::Route", gateway.create_route, "RouteId")
    _add("AWS::S3::BucketPolicy", lambda **given: _put_policy(bucket, **given), "Bucket")
    with patch("moto.cloudformation.models.validate_template_cfn_lint", _errors):
        main(sys.argv[1:])


def _errors(template: str) -> list[Any]:
    """List the errors of *template*; moto alone would reject it for warnings too."""
    from moto.cloudformation.utils import validate_template_cfn_lint

    return [m for m in validate_template_cfn_lint(template) if m.rule.severity == "error"]


def _put_policy(put: Callable[..., Any], **properties: Any) -> dict[str, Any]:
    # moto ignores Condition, so osls's TLS-only policy would lock osls out of its bucket.
    if "deploymentbucket" not in properties["Bucket"]:
        put(Bucket=properties["Bucket"], Policy=json.dumps(properties["PolicyDocument"]))
    return properties


def _add(kind: str, create: Callable[..., Any], name: str) -> None:
    """Teach moto to make a *kind* with *create*, whose answer has its id under *name*."""
    from moto.core.common_models import CloudFormationModel

    class Resource(CloudFormationModel):
        physical_resource_id: str

        @staticmethod
        def cloudformation_name_type() -> str:
            return ""

        @staticmethod
        def cloudformation_type() -> str:
            return kind

        @classmethod
        def create_from_cloudformation_json(cls, *given: Any, **_: Any) -> Any:
            resource = cls()
            resource.physical_resource_id = create(**given[1]["Properties"])[name]
            return resource

        def is_created(self) -> bool:
            return True

    _ADDED.append(Resource)


#: moto finds resource types among the existing subclasses of its base class.
_ADDED: list[object] = []
