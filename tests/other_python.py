"""A virtual environment of its own, in which tests install plugins."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path


class OtherPython:
    """A virtual environment in a new folder, which sees the packages of this one."""

    def __init__(self, folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        self.python = folder / "bin" / "python"
        (site,) = folder.glob("lib/python*/site-packages")
        # a .pth file in a folder that a .pth file adds is not read, unless the folder is added like this
        (site / "beside.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")

    def install(self, *what: object) -> None:
        """Let pip install these folders, without a network."""
        offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
        self.ask(self.python.parent, "pip", "install", *offline, *what)

    def ask(self, folder: Path, *arguments: object) -> str:
        """Run a module in a folder; its standard output. Fails when the module does."""
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [str(self.python), "-m", *map(str, arguments)]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
