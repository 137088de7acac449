"""`dvgen verify`: is what a prior tells a likelihood, and are its samples of it?"""

import json
from collections.abc import Callable

import click

from dvgen.cli.every_command import json_option, pass_plugins
from dvgen.discovery import Plugins
from dvgen.errors import IntegrityError


@click.command(short_help="Prove that a prior's likelihood is one.")
@click.argument("name", metavar="PRIOR")
@click.option("--source", default="markov", show_default=True, metavar="NAME", help="The code source that it is trained on.")
@json_option
@pass_plugins
def verify(load: Callable[[], Plugins], name: str, source: str, as_json: bool) -> None:
    """Prove that a prior's likelihood is one: by enumeration, by its gradients, and by compressing codes with it.

    Checks 1 to 5 are of a tiny model; for the others a small one is trained on the CPU, for seconds, on codes whose probability
    is known. The exit code is 4 when a check fails.
    """
    from dvgen.cli.work import session_for
    from dvgen.experiment import PriorChoice
    from dvgen.verify.checks import Verification
    from dvgen.verify.prior import verify_component
    from dvgen.verify.short_training import verify_learning

    with session_for(load(), {"accelerator": "cpu"}) as session:
        session.registry.find("code-source", source)  # before any work
        checks = verify_component(session.registry, PriorChoice(use=name))
        checks += verify_learning(session, name, source)
    found = Verification(tuple(sorted(checks, key=lambda check: check.number)))
    if as_json:
        click.echo(json.dumps({"schema": 1, "prior": name, "source": source} | found.to_dict()))
    else:
        for check in found.checks:
            click.echo(check.line)
    counts = [sum(check.passed is passed for check in found.checks) for passed in (True, False, None)]
    told = f"{counts[0]} checks passed, {counts[1]} failed, {counts[2]} do not apply"
    if not found.verified:
        raise IntegrityError(f"{name}: not verified: {told}; what it tells is no likelihood that can be ranked")
    if not as_json:
        click.echo(f"{name}: verified: {told}")
