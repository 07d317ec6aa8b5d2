"""obstore's client for a bucket, with credentials, region and endpoint from where the store's own tools look for them.

Amazon's: the environment, else what boto3 finds (profiles, single sign-on, the machine's role); without any, requests
are not signed, as public buckets want it. ``AWS_ENDPOINT_URL`` names a store that is not Amazon's. Google's: what
obstore finds, in the environment, in gcloud's file or by the machine's role.
"""

from __future__ import annotations

import functools
import os
import urllib.error
import urllib.parse
import urllib.request
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from obstore.store import ClientConfig, GCSStore, RetryConfig, S3Config, S3CredentialProvider, S3Store

_REGIONS = "https://s3.amazonaws.com"
"""Says in which region any bucket is, also to who may not use it."""
_REGION_SECONDS = 5.0
_NO_RETRIES: RetryConfig = {"max_retries": 0}  # ``files.patiently`` tries again, and says so
# A request waits this long for an answer. What is sent counts too: four parts of 5 MB at once need 0.7 MB/s.
_OPTIONS: ClientConfig = {"connect_timeout": "5s", "read_timeout": "30s", "timeout": "12h"}
_KEPT = timedelta(minutes=8)  # boto3 renews what ends in ten


def client_for(scheme: str, bucket: str) -> S3Store | GCSStore:
    """Return the client for a bucket; of the network only a bucket's region at Amazon is asked for."""
    from obstore.store import GCSStore

    if scheme in ("gs", "gcs"):
        return GCSStore(bucket, client_options=_OPTIONS, retry_config=_NO_RETRIES)
    return _s3(bucket)


def _s3(bucket: str) -> S3Store:
    from obstore.store import S3Store

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    settings: S3Config = {"disable_bulk_delete": True}  # not every store that speaks S3 has it
    region = None if endpoint else region_of(bucket)
    if region is not None:
        settings["region"] = region
    credentials = None
    if "AWS_ACCESS_KEY_ID" not in os.environ:
        credentials = _credentials()
        settings["skip_signature"] = credentials is None
    options: ClientConfig = {**_OPTIONS, "allow_http": (endpoint or "").startswith("http://")}
    return S3Store(
        bucket, config=settings, client_options=options, retry_config=_NO_RETRIES, credential_provider=credentials
    )


def _credentials() -> S3CredentialProvider | None:
    import boto3
    from obstore.auth.boto3 import Boto3CredentialProvider

    session = boto3.Session()
    return None if session.get_credentials() is None else Boto3CredentialProvider(session, ttl=_KEPT)


@functools.lru_cache
def region_of(bucket: str) -> str | None:
    """Return the region of a bucket at Amazon; None where that is not told: then the environment's counts."""
    request = urllib.request.Request(f"{_REGIONS}/{urllib.parse.quote(bucket)}", method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=_REGION_SECONDS) as answer:
            headers = answer.headers
    except urllib.error.HTTPError as error:  # a refusal names the region all the same
        headers = error.headers
    except OSError:
        return None
    region: str | None = headers.get("x-amz-bucket-region")
    return region
