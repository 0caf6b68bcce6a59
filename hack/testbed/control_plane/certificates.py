"""The node's own certificate authority, a certificate for each component, and the kubeconfigs that carry them."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from dataclasses import astuple, dataclass
from pathlib import Path

from hack.testbed.errors import ClusterError
from hack.testbed.places import API_SERVICE, NODE_ADDRESS, NODE_NAME, Places

SERVER = f"https://{NODE_ADDRESS}:6443"
PROVISIONER = "distillery:provisioner"


@dataclass(frozen=True)
class _Subject:
    name: str
    subject: str
    """Kubernetes reads a user's name from CN and the user's groups from O."""
    alternatives: str = ""
    kubeconfig: bool = False


_API_NAMES = (
    "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,"
    f"DNS:localhost,IP:127.0.0.1,IP:{NODE_ADDRESS},IP:{API_SERVICE}"
)

_SUBJECTS = (
    _Subject("apiserver", "/CN=kube-apiserver", _API_NAMES),
    _Subject("apiserver-to-kubelet", "/O=system:masters/CN=kube-apiserver-kubelet-client"),
    _Subject("front-proxy", "/CN=front-proxy"),
    _Subject("admin", "/O=system:masters/CN=admin", kubeconfig=True),
    _Subject(
        "kubelet",
        f"/O=system:nodes/CN=system:node:{NODE_NAME}",
        f"DNS:{NODE_NAME},IP:{NODE_ADDRESS}",
        kubeconfig=True,
    ),
    _Subject("controller-manager", "/CN=system:kube-controller-manager", kubeconfig=True),
    _Subject("scheduler", "/CN=system:kube-scheduler", kubeconfig=True),
    _Subject("proxy", "/CN=system:kube-proxy", kubeconfig=True),
    _Subject("provisioner", f"/CN={PROVISIONER}", kubeconfig=True),
)


def ensure(places: Places) -> None:
    """Issue what is missing. The authority is kept while the node's state is, for tokens and tests hold on to it.

    Raises:
        ClusterError: openssl failed.
    """
    folder = places.certificates
    marker = folder / "issued"
    key = hashlib.sha256(repr((SERVER, [astuple(subject) for subject in _SUBJECTS])).encode()).hexdigest()
    if marker.is_file() and marker.read_text() == key:
        return
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not (folder / "ca.crt").is_file():
        _authority(folder)
    for subject in _SUBJECTS:
        _issue(folder, subject)
        if subject.kubeconfig:
            path = places.configuration / f"{subject.name}.kubeconfig"
            path.touch(mode=0o600)
            path.write_text(json.dumps(_kubeconfig(folder, subject.name)))
    marker.write_text(key)


def _authority(folder: Path) -> None:
    _openssl(folder, "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out service-accounts.key")
    _openssl(folder, "pkey -in service-accounts.key -pubout -out service-accounts.pub")
    # renamed last, so that an authority is there whole or not at all
    _openssl(folder, "req -x509 -subj /CN=distillery-ca -keyout ca.key -out ca.new", *_NEW_KEY, "-days", "3650")
    (folder / "ca.new").rename(folder / "ca.crt")


def _issue(folder: Path, subject: _Subject) -> None:
    name = subject.name
    extensions = ["extendedKeyUsage=serverAuth,clientAuth", f"subjectAltName={subject.alternatives or f'DNS:{name}'}"]
    (folder / f"{name}.extensions").write_text("\n".join(extensions))
    _openssl(folder, f"req -subj {subject.subject} -keyout {name}.key -out {name}.csr", *_NEW_KEY)
    _openssl(
        folder,
        f"x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -extfile {name}.extensions",
        "-out",
        f"{name}.crt",
    )


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def _kubeconfig(folder: Path, name: str) -> dict[str, object]:
    """A kubeconfig that holds its certificates, so that it can be copied. JSON is YAML."""

    def data(file: str) -> str:
        return base64.b64encode((folder / file).read_bytes()).decode()

    user = {"client-certificate-data": data(f"{name}.crt"), "client-key-data": data(f"{name}.key")}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "distillery", "cluster": {"server": SERVER, "certificate-authority-data": data("ca.crt")}}
        ],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": "distillery", "context": {"cluster": "distillery", "user": name}}],
        "current-context": "distillery",
    }


def _openssl(folder: Path, words: str, *more: str) -> None:
    done = subprocess.run(["openssl", *words.split(), *more], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise ClusterError(f"openssl {words} failed: {done.stderr.strip()}")
