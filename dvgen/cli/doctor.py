"""`dvgen doctor`: is this machine ready? Nothing is changed but caches, and nothing is asked of the network."""

import json
import os
import platform
import re
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import click
from attrs import asdict, frozen

from dvgen import __version__
from dvgen.blocks.cache_folder import CACHE, cache_folder
from dvgen.cli.every_command import json_option, pass_plugins
from dvgen.cli.listing import columns
from dvgen.cli.weights import known_files, survey_file
from dvgen.discovery import Plugins
from dvgen.errors import DataError, DvgenError, PluginError
from dvgen.registry import INTERFACES, Registry, describe

OK, ABSENT, BROKEN = "ok", "absent", "BROKEN"


@frozen
class Finding:
    """One thing that was looked at. status: "ok", "absent" (may be wanted, need not be), or "BROKEN".

    exit_code: of the command, when it is broken; as of the error that the fault leads to elsewhere.
    """

    what: str
    status: str
    detail: str
    exit_code: int = 0


@click.command(short_help="Say whether this machine is ready.")
@json_option
@pass_plugins
def doctor(load: Callable[[], Plugins], as_json: bool) -> None:
    """Look at versions, devices, plugins, weights, data sets and the cache, and say what is there and what is broken.

    What is absent is no fault. The exit code is 0, or that of the gravest fault: 5 for a plugin that fails, 3 for a damaged
    file of weights or a cache that cannot be written, 1 for libraries that do not fit each other. The network is not used.
    """
    registry = load().registry
    findings = [*_machine(), *_plugins(registry), *_weights(registry), *_data(registry), _cache()]
    if as_json:
        click.echo(json.dumps({"schema": 1, "findings": [asdict(finding) for finding in findings]}, indent=1))
    else:
        for line in columns([(finding.what, finding.status, finding.detail) for finding in findings]):
            click.echo(line)
    raise SystemExit(max(finding.exit_code for finding in findings))


def _machine() -> Iterator[Finding]:
    import torch

    yield Finding("dvgen", OK, __version__)
    yield Finding("python", OK, f"{platform.python_version()} on {platform.platform()}")
    yield Finding("torch", OK, torch.__version__)
    yield _torchvision(torch.__version__)
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    devices += ["mps"] if torch.backends.mps.is_available() else []
    yield Finding("accelerators", OK if devices else ABSENT, ", ".join(devices) or "none; the CPU is used")
    yield Finding("threads", OK, f"{torch.get_num_threads()} of torch, {os.cpu_count()} processors")


def _torchvision(torch_version: str) -> Finding:
    """A torchvision that was built for another torch fails only when one of its operators is called."""
    name = "torchvision"
    try:
        found, asked = version(name), requires(name) or []
    except PackageNotFoundError:
        return Finding(name, BROKEN, "not installed; reinstall dvgen", DvgenError.exit_code)
    pins = [match[1] for text in asked if (match := re.match(r"torch\s*\(?==\s*([\w.]+)", text))]
    here = torch_version.partition("+")[0]
    if pins and here not in pins:
        detail = f"{found} is for torch {pins[0]}, and torch {here} is installed; install the two together"
        return Finding(name, BROKEN, detail, DvgenError.exit_code)
    try:
        import torchvision  # noqa: F401 - whether it can be
    except Exception as error:
        return Finding(name, BROKEN, f"{found}: {describe(error)}", DvgenError.exit_code)
    return Finding(name, OK, f"{found}, for this torch")


def _plugins(registry: Registry) -> Iterator[Finding]:
    for failure in registry.failures:
        yield Finding(f"plugin {failure.plugin}", BROKEN, f"{failure.distribution}: {failure.reason}", PluginError.exit_code)
    whole = 0
    for kind, interface in INTERFACES.items():
        for name in registry.names(kind):
            try:
                if interface:
                    registry.load(kind, name)
                else:
                    registry.find(kind, name)
                whole += 1
            except PluginError as error:
                yield Finding(f"{kind} {name}", BROKEN, str(error), PluginError.exit_code)
    yield Finding("components", OK, f"{whole} of {len({supplied.plugin for supplied in registry.supplied})} plugins")


def _weights(registry: Registry) -> Iterator[Finding]:
    for known in known_files(registry):
        row = survey_file(known)
        needed = f"needed by {', '.join(row['needed_by'])}"
        if row["status"] == "present":
            yield Finding(f"weights {row['name']}", OK, row["path"])
        elif row["status"] == "absent":
            yield Finding(f"weights {row['name']}", ABSENT, f"{needed}; dvgen weights list says how to get it")
        else:
            detail = f"{row['path']}: {row['status']}; {needed}; remove it, then: dvgen weights add"
            yield Finding(f"weights {row['name']}", BROKEN, detail, DataError.exit_code)


def _data(registry: Registry) -> Iterator[Finding]:
    from dvgen.data.loading import survey
    from dvgen.experiment import DataChoice

    for name in registry.names("dataset"):
        row = survey(registry, DataChoice(use=name))
        if row["fault"]:
            yield Finding(f"data {name}", ABSENT, " ".join(row["fault"].split()))
        else:
            sizes = ", ".join(f"{split} {size}" for split, size in row["splits"].items())
            yield Finding(f"data {name}", OK, f"{sizes}; shape {tuple(row['shape'])}")


def _cache() -> Finding:
    """Judged by the nearest folder that exists: nothing is made here."""
    folder = cache_folder().absolute()
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    if _writable(nearest):
        return Finding("cache", OK, str(folder))
    detail = f"{folder} cannot be written ({nearest} refuses); name another folder in {CACHE}"
    return Finding("cache", BROKEN, detail, DataError.exit_code)


def _writable(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
