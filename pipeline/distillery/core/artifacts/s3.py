"""Artifacts in S3, or in anything that speaks its protocol."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import threading
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from distillery.core.artifacts.base import (
    MANIFEST,
    ArtifactDamaged,
    ArtifactError,
    ArtifactNotFound,
    StoreUnavailable,
    check,
    check_student,
    files_of,
    read_manifest,
)
from distillery.core.artifacts.drafts import Drafts

T = TypeVar("T")

_TRANSFERS = 16
_ATTEMPTS = 8  # at a request that the server does not answer or asks to repeat: about a minute
_ABSENT = ("NoSuchKey", "404", "NotFound")  # of a key; a bucket that is not there is a store that is not
_MADE_MEANWHILE = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
_BY_DIGEST = "digest"  # in a manifest: its files' keys hold their digests; those of earlier versions do not
_REFUSED = ("AccessDenied", "403", "Forbidden")
_CONNECT_SECONDS, _READ_SECONDS = 10, 60


class S3Store:
    """See :class:`distillery.core.artifacts.Store`. An artifact is whole when its manifest is there, which is put last.

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
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError
        except ImportError as error:
            raise ArtifactError("artifacts in S3 need boto3: pip install 'distillery-agents[s3]'") from error
        config = Config(
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        )
        try:
            self._client: Any = boto3.client("s3", endpoint_url=endpoint_url, config=config)
        except BotoCoreError as error:  # such as a profile that is not there
            raise ArtifactError(f"the settings of AWS (AWS_PROFILE, ~/.aws/config) can't be used: {error}") from error
        self._bucket = bucket
        self._prefix = prefix.strip("/")
        self._cache = cache
        self._drafts = Drafts(cache)
        self._keeping = threading.Lock()

    def draft(self, name: str) -> Path:
        """Return an empty folder to fill. Raises :class:`StoreUnavailable`."""
        return self._try(name, lambda: self._drafts.make(name))

    def close(self) -> None:
        """Remove what was not published."""
        self._drafts.close()

    def sweep(self, idle_seconds: float) -> list[Path]:
        """Remove the drafts of others that died."""
        return self._drafts.sweep(idle_seconds)

    def publish(self, name: str, draft: Path, result: Mapping[str, Any]) -> dict[str, Any]:
        """Upload a draft, its manifest last. Raises :class:`StoreUnavailable`."""
        try:
            files = self._try(name, lambda: files_of(draft))
            manifest = {**result, "keys": _BY_DIGEST, "files": files}
            damaged = False
            try:
                return self.open(name)[1]
            except ArtifactNotFound:
                pass
            except ArtifactDamaged:
                damaged = True
            self._transfer(
                name,
                self._keys(name, manifest),
                lambda file, key: self._client.upload_file(str(draft / file), self._bucket, key),
            )
            if not self._seal(name, manifest, replace=damaged):
                return self.open(name)[1]  # another worker was quicker
        finally:
            self._drafts.discard(draft)
        return manifest

    def manifest(self, name: str) -> dict[str, Any]:
        """Return an artifact's manifest. Raises :class:`ArtifactError`."""
        key = self._key(name, MANIFEST)
        content = self._try(name, lambda: self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read())
        return read_manifest(name, f"s3://{self._bucket}/{key}", content)

    def place(self, name: str) -> str:
        """Return an artifact's URI. Raises :class:`ArtifactError`."""
        self.manifest(name)
        return f"s3://{self._bucket}/{self._key(name, '').rstrip('/')}"

    def open(self, name: str, *, student: str = "") -> tuple[Path, dict[str, Any]]:
        """Return an artifact's folder and manifest; download it if it is not here. Raises :class:`ArtifactError`."""
        manifest, folder = self.manifest(name), self._cache / name
        check_student(name, manifest, student)
        try:
            check(name, folder, manifest["files"])
        except ArtifactDamaged:
            self._bring(name, manifest, folder)
        return folder, manifest

    def keep(self, name: str, folder: Path) -> None:
        """Upload a folder's files. Each is replaced at once. Raises :class:`StoreUnavailable`."""
        with self._keeping:  # of two at once the later one has the newer files
            self._upload_work(_name_work(name), folder)

    def _upload_work(self, work: str, folder: Path) -> None:
        """Upload a folder's files, except for hidden ones."""
        for path in sorted(folder.glob("[!.]*")):
            link = folder / f".{path.name}.kept"  # the parts of an upload are read by name, and the name may move on
            link.unlink(missing_ok=True)
            self._try(work, lambda link=link, path=path: os.link(path, link))
            try:
                self._transfer(
                    work,
                    {path.name: self._key(work, path.name)},
                    lambda _, key, link=link: self._client.upload_file(str(link), self._bucket, key),
                )
            finally:
                link.unlink()

    def restore(self, name: str, folder: Path) -> None:
        """Download what was kept, but for files that are here. Raises :class:`StoreUnavailable`."""
        work = _name_work(name)
        for key in self._list_kept(work):
            path = folder / key.rsplit("/", 1)[1]
            if not path.exists():
                folder.mkdir(parents=True, exist_ok=True)
                draft = folder / f".{path.name}.draft"
                self._try(work, lambda key=key, draft=draft: self._client.download_file(self._bucket, key, str(draft)))
                draft.rename(path)

    def forget(self, name: str) -> None:
        """Delete what was kept. Raises :class:`StoreUnavailable`."""
        work = _name_work(name)
        for key in self._list_kept(work):
            self._try(work, lambda key=key: self._client.delete_object(Bucket=self._bucket, Key=key))

    def _list_kept(self, work: str) -> list[str]:
        """Return the keys of the files that were kept."""
        prefix = self._key(work, "")
        answer = self._try(work, lambda: self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix))
        return [entry["Key"] for entry in answer.get("Contents", [])]

    def _bring(self, name: str, manifest: Mapping[str, Any], folder: Path) -> None:
        """Download an artifact, in a draft first: another process may do the same."""
        draft = self._try(name, lambda: self._drafts.make(name))
        try:
            for file in manifest["files"]:
                (draft / file).parent.mkdir(parents=True, exist_ok=True)
            self._download(name, manifest, draft)
            with self._lock():
                try:
                    check(name, folder, manifest["files"])  # another worker was quicker, and may be reading it
                except ArtifactDamaged:
                    shutil.rmtree(folder, ignore_errors=True)
                    self._try(name, lambda: draft.rename(folder))
        finally:
            self._drafts.discard(draft)

    @contextlib.contextmanager
    def _lock(self) -> Generator[None]:
        """Hold the cache's lock, so that no worker of this machine removes what another one has just put there."""
        handle = os.open(self._cache, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _download(self, name: str, manifest: Mapping[str, Any], folder: Path) -> None:
        """Download an artifact's files into a folder, and check them."""
        try:
            self._transfer(
                name,
                self._keys(name, manifest),
                lambda file, key: self._client.download_file(self._bucket, key, str(folder / file)),
            )
        except ArtifactNotFound as error:
            raise ArtifactDamaged(f"artifact {name} lacks a file that its manifest names: {error}") from error
        check(name, folder, manifest["files"])

    def _seal(self, name: str, manifest: Mapping[str, Any], *, replace: bool) -> bool:
        """Put a manifest; False if another one was put meanwhile, which stays. Raises :class:`StoreUnavailable`."""
        from botocore.exceptions import BotoCoreError, ClientError

        body = json.dumps(manifest, indent=1).encode() + b"\n"
        put: dict[str, Any] = {"Bucket": self._bucket, "Key": self._key(name, MANIFEST), "Body": body}
        if not replace:
            try:
                self._client.put_object(**put, IfNoneMatch="*")
                return True
            except ClientError as error:
                code = error.response.get("Error", {}).get("Code")
                if code in _MADE_MEANWHILE:
                    return False
                if code != "NotImplemented":
                    raise self._failure(name, error) from error
            except BotoCoreError as error:
                raise self._failure(name, error) from error
        self._try(name, lambda: self._client.put_object(**put))
        return True

    def _keys(self, name: str, manifest: Mapping[str, Any]) -> dict[str, str]:
        """Return the keys of an artifact's files, by file."""
        by_digest = manifest.get("keys") == _BY_DIGEST
        return {
            file: self._key(name, f"{entry['sha256']}/{file}" if by_digest else file)
            for file, entry in manifest["files"].items()
        }

    def _key(self, name: str, file: str) -> str:
        """Return the key of a file of an artifact."""
        return "/".join(part for part in (self._prefix, name) if part) + f"/{file}"

    def _transfer(self, name: str, keys: Mapping[str, str], move: Callable[[str, str], None]) -> None:
        """Call ``move(file, key)`` for every file, several at a time."""
        with ThreadPoolExecutor(_TRANSFERS) as threads:
            for _ in threads.map(lambda file: self._try(name, lambda: move(file, keys[file])), keys):
                pass

    def _try(self, name: str, work: Callable[[], T]) -> T:
        """Call the server; turn its errors, and those of the local disk, into one that names the artifact."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return work()
        except (Boto3Error, BotoCoreError, ClientError, OSError) as error:
            raise self._failure(name, error) from error

    def _failure(self, name: str, error: Exception) -> ArtifactError:
        """Return the error of an artifact for an error of the server or of the local disk."""
        message = f"artifact {name} in s3://{self._bucket}/{self._prefix}: {error}"
        response: Mapping[str, Any] = getattr(error, "response", None) or {}
        code = response.get("Error", {}).get("Code")
        if code in _ABSENT:
            return ArtifactNotFound(message)
        if code in _REFUSED:
            message += "; the credentials need s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket there"
        return StoreUnavailable(message)


def _name_work(name: str) -> str:
    """Return the name of a stage's folder of work in the store; no stage has a name like it."""
    return f".work/{name}"
