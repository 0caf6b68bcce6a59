"""Artifacts in S3, or in anything that speaks its protocol."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from distillery.artifacts.base import MANIFEST, ArtifactError, check, files_of, read_manifest

T = TypeVar("T")

_TRANSFERS = 16


class S3Store:
    """See :class:`distillery.artifacts.Store`. An artifact is whole when its manifest is there, which is put last.

    Credentials and region are what boto3 finds: in the environment, a credentials file, or the workload's identity.

    Args:
        bucket: the bucket.
        prefix: what all keys of the run begin with.
        cache: local folder where drafts are made and opened artifacts lie.
        endpoint_url: of the server; None for AWS.
    """

    def __init__(self, bucket: str, prefix: str, *, cache: Path, endpoint_url: str | None = None) -> None:
        try:
            import boto3
        except ImportError as error:
            raise ArtifactError("artifacts in S3 need boto3: pip install 'distillery[s3]'") from error
        self._client: Any = boto3.client("s3", endpoint_url=endpoint_url)
        self._bucket = bucket
        self._prefix = prefix.strip("/")
        self._cache = cache

    def draft(self, name: str) -> Path:
        """An empty folder to fill."""
        folder = self._cache / f".{name}.draft"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def publish(self, name: str, draft: Path, result: Mapping[str, Any]) -> dict[str, Any]:
        """Upload a draft, its manifest last. Raises :class:`ArtifactError`."""
        try:
            manifest = {**result, "files": files_of(draft)}
            if self._exists(name):
                try:
                    return self.open(name)[1]
                except ArtifactError:
                    pass  # broken: put again
            self._transfer(
                name,
                manifest["files"],
                lambda file, key: self._client.upload_file(str(draft / file), self._bucket, key),
            )
            body = json.dumps(manifest, indent=1).encode() + b"\n"
            self._try(
                name, lambda: self._client.put_object(Bucket=self._bucket, Key=self._key(name, MANIFEST), Body=body)
            )
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return manifest

    def manifest(self, name: str) -> dict[str, Any]:
        """An artifact's manifest. Raises :class:`ArtifactError`."""
        key = self._key(name, MANIFEST)
        content = self._try(name, lambda: self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read())
        return read_manifest(name, f"s3://{self._bucket}/{key}", content)

    def open(self, name: str) -> tuple[Path, dict[str, Any]]:
        """An artifact, brought here if it is not here already. Raises :class:`ArtifactError`."""
        manifest, folder = self.manifest(name), self._cache / name
        try:
            check(name, folder, manifest["files"])
        except ArtifactError:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            for file in manifest["files"]:
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
            self._transfer(
                name,
                manifest["files"],
                lambda file, key: self._client.download_file(self._bucket, key, str(folder / file)),
            )
            check(name, folder, manifest["files"])
        return folder, manifest

    def _exists(self, name: str) -> bool:
        from botocore.exceptions import ClientError

        try:
            self._client.head_object(Bucket=self._bucket, Key=self._key(name, MANIFEST))
        except ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 404:
                return False
            raise self._failure(name, error) from error
        return True

    def _key(self, name: str, file: str) -> str:
        return "/".join(filter(None, (self._prefix, name, file)))

    def _transfer(self, name: str, files: Iterable[str], move: Callable[[str, str], None]) -> None:
        """Call ``move(file, key)`` for every file, several at a time."""
        with ThreadPoolExecutor(_TRANSFERS) as threads:
            for _ in threads.map(lambda file: self._try(name, lambda: move(file, self._key(name, file))), files):
                pass

    def _try(self, name: str, work: Callable[[], T]) -> T:
        """Whatever goes wrong with the server, or with the local disk, is one kind of error that names the artifact."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return work()
        except (Boto3Error, BotoCoreError, ClientError, OSError) as error:
            raise self._failure(name, error) from error

    def _failure(self, name: str, error: Exception) -> ArtifactError:
        return ArtifactError(f"artifact {name} in s3://{self._bucket}/{self._prefix}: {error}")
