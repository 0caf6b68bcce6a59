"""The command line and the configuration file of each process of the node.

Where a setting is not what a cluster usually has, its reason stands next to it. Most of them come from running as root
without CAP_SYS_RESOURCE, under cgroup v1, in a network namespace.
"""

from __future__ import annotations

import json
import resource
import shutil
import sys
from pathlib import Path
from typing import Any

from hack.testbed.machine.network import ENTER
from hack.testbed.machine.processes import Component
from hack.testbed.places import (
    DNS_SERVICE,
    NODE_ADDRESS,
    NODE_NAME,
    PODS,
    PODS_OF_NODE,
    RUN,
    SERVICES,
    Places,
)

SOCKET = RUN / "containerd.sock"
PAUSE = "registry.k8s.io/pause:3.10"
REGISTRY = "127.0.0.1:5000"  # loopback inside the namespace
MANIFESTS = Path(__file__).parent / "manifests"
CGROUP = "distillery-cluster"
"""All containers are below this cgroup of each controller, where `node.down` finds them whatever else was killed."""

_REPOSITORY = Path(__file__).parents[3]
_ETCD = "http://127.0.0.1:2379"


def _component(places: Places, name: str, program: str, *arguments: str, reads: tuple[Path, ...] = ()) -> Component:
    return Component(
        name=name,
        command=(places.program(program), *arguments),
        reads=reads,
        enter=ENTER,
        # no more than that: a proxy in the caller's environment would keep the components from each other
        environment={"PATH": f"{places.bin}:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"},
    )


def etcd(places: Places, name: str = "etcd") -> Component:
    """The store. It doesn't wait for the disk: what a power cut would lose is no loss here, and tests are faster.

    Args:
        places: Where the node lives.
        name: Of the component, and of the folder of its data.
    """
    return _component(
        places,
        name,
        "etcd",
        f"--data-dir={places.state(name)}",
        f"--listen-client-urls={_ETCD}",
        f"--advertise-client-urls={_ETCD}",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--unsafe-no-fsync",
        "--log-level=warn",
    )


def containerd(places: Places) -> Component:
    """The runtime. It finds its shim and the network plugins among the node's programs."""
    path = _write(
        places.configuration / "containerd.toml",
        f"""\
version = 3
root = "{places.state("containerd")}"
state = "{RUN}/containerd"
[grpc]
  address = "{SOCKET}"
[plugins.'io.containerd.nri.v1.nri']
  disable = true
[plugins.'io.containerd.internal.v1.opt']
  path = "{places.state("containerd")}/opt"
[plugins.'io.containerd.shim.v1.manager']
  socket_dir = "{RUN}/shims"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "{PAUSE}"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true  # a lower score than our own takes CAP_SYS_RESOURCE
  netns_mounts_under_state_dir = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["{places.bin}"]
    conf_dir = "{places.configuration}/cni"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      BinaryName = "{shutil.which("runc")}"
      Root = "{RUN}/runc"
      SystemdCgroup = false
""",
    )
    _write(places.configuration / "cni" / "10-bridge.conflist", _CNI)
    return _component(places, "containerd", "containerd", f"--config={path}", reads=(path,))


_CNI = {
    "cniVersion": "1.0.0",
    "name": "pods",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "ipMasq": True,
            "hairpinMode": True,  # a pod may reach itself through its Service
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": PODS_OF_NODE}]],
                "routes": [{"dst": "0.0.0.0/0"}],
                "dataDir": f"{RUN}/addresses",
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}


def apiserver(places: Places) -> Component:
    """The API server: RBAC and NodeRestriction are on, as is pod security, and every request is audited."""
    pki, policy = places.certificates, MANIFESTS / "audit-policy.yaml"
    return _component(
        places,
        "apiserver",
        "kube-apiserver",
        f"--etcd-servers={_ETCD}",
        f"--advertise-address={NODE_ADDRESS}",
        f"--bind-address={NODE_ADDRESS}",
        "--secure-port=6443",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--client-ca-file={pki}/ca.crt",
        f"--kubelet-client-certificate={pki}/apiserver-to-kubelet.crt",
        f"--kubelet-client-key={pki}/apiserver-to-kubelet.key",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={pki}/service-accounts.pub",
        f"--service-account-signing-key-file={pki}/service-accounts.key",
        f"--service-cluster-ip-range={SERVICES}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction,PodSecurity,DefaultStorageClass",
        "--allow-privileged=true",
        f"--requestheader-client-ca-file={pki}/ca.crt",
        "--requestheader-allowed-names=front-proxy",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki}/front-proxy.crt",
        f"--proxy-client-key-file={pki}/front-proxy.key",
        f"--audit-policy-file={policy}",
        f"--audit-log-path={places.audit_log}",
        "--audit-log-maxsize=500",  # MB, far more than the tests write: they must find their whole story in one file
        "--audit-log-maxbackup=1",
        "--profiling=false",
        reads=(policy, pki / "issued"),
    )


def controller_manager(places: Places) -> Component:
    """The controllers; alone, so that they need no election."""
    pki = places.certificates
    return _component(
        places,
        "controller-manager",
        "kube-controller-manager",
        f"--kubeconfig={places.configuration}/controller-manager.kubeconfig",
        f"--service-account-private-key-file={pki}/service-accounts.key",
        f"--root-ca-file={pki}/ca.crt",
        f"--cluster-signing-cert-file={pki}/ca.crt",
        f"--cluster-signing-key-file={pki}/ca.key",
        "--use-service-account-credentials",
        f"--flex-volume-plugin-dir={places.state('kubelet')}/volume-plugins",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        reads=(pki / "issued",),
    )


def scheduler(places: Places) -> Component:
    """The scheduler; alone, too."""
    return _component(
        places,
        "scheduler",
        "kube-scheduler",
        f"--kubeconfig={places.configuration}/scheduler.kubeconfig",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        reads=(places.certificates / "issued",),
    )


def kubelet(places: Places) -> Component:
    """The kubelet: everything that it keeps is below the node's folder, save what its source has fixed paths for."""
    # nobody answers there: the node has no names beyond the cluster's
    resolver = _write(places.configuration / "resolv.conf", "nameserver 127.0.0.1\n")
    pki = places.certificates
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    path = _write(
        places.configuration / "kubelet.json",
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "failCgroupV1": False,  # what these machines have
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{CGROUP}",
            "oomScoreAdj": 0,  # the usual -999 takes CAP_SYS_RESOURCE, as does a higher limit of open files
            "maxOpenFiles": limit if limit != resource.RLIM_INFINITY else 1_000_000,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": f"{pki}/ca.crt"},
            },
            "authorization": {"mode": "Webhook"},
            "containerRuntimeEndpoint": f"unix://{SOCKET}",
            "tlsCertFile": f"{pki}/kubelet.crt",
            "tlsPrivateKeyFile": f"{pki}/kubelet.key",
            "clusterDNS": [DNS_SERVICE],
            "clusterDomain": "cluster.local",
            "resolvConf": str(resolver),
            "failSwapOn": False,
            # a test machine's disk is fuller than a server's, and images that were loaded can't be pulled again
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "maxPods": 60,
            "address": NODE_ADDRESS,
            "podLogsDir": f"{places.logs}/pods",
            "volumePluginDir": f"{places.state('kubelet')}/volume-plugins",
        },
    )
    return _component(
        places,
        "kubelet",
        "kubelet",
        f"--config={path}",
        f"--kubeconfig={places.configuration}/kubelet.kubeconfig",
        f"--hostname-override={NODE_NAME}",
        f"--node-ip={NODE_ADDRESS}",
        f"--root-dir={places.state('kubelet')}",
        reads=(path, pki / "issued"),
    )


def proxy(places: Places) -> Component:
    """kube-proxy: by nftables, inside the namespace."""
    path = _write(
        places.configuration / "proxy.json",
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clusterCIDR": PODS,
            "hostnameOverride": NODE_NAME,
            "clientConnection": {"kubeconfig": f"{places.configuration}/proxy.kubeconfig"},
            # limits of connection tracking can't be set from within a namespace
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
            "healthzBindAddress": "127.0.0.1:10256",
            "metricsBindAddress": "127.0.0.1:10249",
            "nodePortAddresses": [f"{NODE_ADDRESS}/32"],
        },
    )
    return _component(places, "proxy", "kube-proxy", f"--config={path}", reads=(path, places.certificates / "issued"))


def provisioner(places: Places) -> Component:
    """Our own provisioner of volumes."""
    return Component(
        name="provisioner",
        command=(sys.executable, "-m", "hack.testbed.control_plane.provisioner", str(places.root)),
        reads=(Path(__file__).with_name("provisioner.py"), places.certificates / "issued"),
        environment={"PYTHONPATH": str(_REPOSITORY)},
    )


def registry(places: Places) -> Component:
    """The way of images into the node: it keeps their layers, so that only new ones move."""
    path = _write(
        places.configuration / "registry.json",
        {
            "version": 0.1,
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(places.state("registry"))}},
            "http": {"addr": REGISTRY},
        },
    )
    return _component(places, "registry", "registry", "serve", str(path), reads=(path,))


def ctr(places: Places) -> list[str]:
    """The beginning of a command to containerd, in the kubelet's namespace."""
    return [*ENTER, places.program("ctr"), f"--address={SOCKET}", "--namespace=k8s.io"]


def kubectl(places: Places) -> list[str]:
    """The beginning of a command to the API server, as administrator."""
    return [places.program("kubectl"), f"--kubeconfig={places.kubeconfig}", f"--cache-dir={RUN}/kubectl"]


def _write(path: Path, content: str | dict[str, Any]) -> Path:
    """Write a file, if it says something else: kube-proxy ends when its file is touched."""
    text = content if isinstance(content, str) else json.dumps(content, indent=2)
    path.parent.mkdir(exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
    return path
