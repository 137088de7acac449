"""A new plugin's files: rendered, written beside their place, and renamed into it. Imports no torch."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from jinja2 import Environment, PackageLoader, StrictUndefined

from dvgen.errors import ConfigError
from dvgen.scaffold.names import Names

SHARED, ENDING = "shared", ".j2"


def rendered(names: Names) -> dict[str, str]:
    """The files of a new plugin: paths inside its folder, and texts.

    Of the templates in `shared` and in the folder of the kind, all are used; "package" in a path stands for the package.
    """
    environment = Environment(
        loader=PackageLoader("dvgen.scaffold"),
        autoescape=False,  # noqa: S701 - no HTML is rendered, and names hold letters, digits and hyphens alone
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    used = [path for path in environment.list_templates(extensions=[ENDING[1:]]) if path.split("/")[0] in (SHARED, names.kind)]
    return {_place(path, names): environment.get_template(path).render(names=names) for path in used}


def write_plugin(names: Names, into: Path) -> Path:
    """Write a new plugin's folder into `into` and return it: all of it or nothing.

    Raises ConfigError when `into` is no folder that can be written to, or holds something of that name already.
    """
    folder = into / names.distribution
    if not into.is_dir():
        raise ConfigError(f"--into {into}: not a folder; make it first, or name another")
    if os.path.lexists(folder):
        raise ConfigError(f"{folder} exists already, and dvgen new overwrites nothing; choose another name, or another --into")
    aside = into / f".writing-{folder.name}-{os.getpid()}"
    try:
        _write(aside, rendered(names))
        aside.rename(folder)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written: {error.strerror}; choose another --into") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def _write(folder: Path, files: Mapping[str, str]) -> None:
    folder.mkdir()
    for place, text in files.items():
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _place(template: str, names: Names) -> str:
    """Where the file of a template belongs in the plugin's folder."""
    called = {"package": names.package, "recipe.toml": f"{names.name}.toml"}
    inside = PurePosixPath(template.removesuffix(ENDING)).parts[1:]
    return "/".join(called.get(part, part) for part in inside)
