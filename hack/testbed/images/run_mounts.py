"""What RUN steps of a build see of this machine: how it reaches packages, and nothing of it stays in the image."""

from __future__ import annotations

import configparser
import json
import os
from collections.abc import Mapping
from pathlib import Path

_UV = "/etc/uv/uv.toml"
_HOST_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
INSIDE = Path("/run/build-host")
"""Where the machine's files appear. The stand-ins have this folder, /etc/pip.conf and /etc/uv/uv.toml (see the recipe
``debian``): a mount point that the build had to make would stay in the layer."""

# Settings by which packages are found. Those by which they are installed are the Dockerfile's own.
_FINDING = frozenset(
    ("index-url", "extra-index-url", "no-index", "find-links", "cert", "trusted-host", "proxy", "timeout", "retries")
)


def pip_settings(environment: Mapping[str, str], files: list[Path]) -> dict[str, str]:
    """How pip on this machine finds packages: its files in the order in which it reads them, then its variables."""
    settings: dict[str, str] = {}
    for file in files:
        parser = configparser.RawConfigParser()
        parser.read(file)
        for section in ("global", "install"):
            if parser.has_section(section):
                settings |= {name.replace("_", "-"): value for name, value in parser.items(section)}
    settings |= {
        name.removeprefix("PIP_").lower().replace("_", "-"): value
        for name, value in environment.items()
        if name.startswith("PIP_")
    }
    return {name: value for name, value in settings.items() if name in _FINDING}


def _pip(settings: Mapping[str, str]) -> str:
    return "[global]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items())


def uv(settings: Mapping[str, str]) -> str:
    """Return the same for uv, which reads no setting of pip and needs one to trust the system's certificates."""
    lines = ["native-tls = true"]
    if "index-url" in settings:
        lines.append(f"index-url = {json.dumps(settings['index-url'])}")
    for name in ("extra-index-url", "find-links"):
        if name in settings:
            lines.append(f"{name} = {json.dumps(settings[name].split())}")
    return "\n".join(lines) + "\n"


def options(folder: Path) -> list[str]:
    """The options for ``buildah bud`` that mount them.

    Args:
        folder: Where the files for one build are put together.
    """
    home = Path.home()
    files = [Path("/etc/pip.conf"), home / ".pip/pip.conf", home / ".config/pip/pip.conf"]
    settings = pip_settings(os.environ, [*files, Path(os.environ.get("PIP_CONFIG_FILE", os.devnull))])
    folder.mkdir(parents=True, exist_ok=True)
    volumes = [f"{folder}:{INSIDE}:ro"]
    if "cert" in settings:
        (folder / "cert.pem").write_bytes(Path(settings["cert"]).read_bytes())
        settings["cert"] = f"{INSIDE}/cert.pem"
    links: list[str] = []
    for number, link in enumerate(settings.pop("find-links", "").split()):
        if not link.startswith("/"):
            links.append(link)
        elif Path(link).is_dir():
            inside = f"links-{number}"
            (folder / inside).mkdir(exist_ok=True)
            volumes.append(f"{link}:{INSIDE}/{inside}:ro")
            links.append(f"{INSIDE}/{inside}")
    if links:
        settings["find-links"] = " ".join(links)
    for name, text, inside in (("pip.conf", _pip(settings), "/etc/pip.conf"), ("uv.toml", uv(settings), _UV)):
        (folder / name).write_text(text)
        volumes.append(f"{folder / name}:{inside}:ro")
    if _HOST_CERTIFICATES.exists():
        volumes.append(f"{_HOST_CERTIFICATES}:{_HOST_CERTIFICATES}:ro")
    return [f"--volume={volume}" for volume in volumes]
