"""What `dvgen explain` prints: lines of text of a given width."""

from collections.abc import Iterator, Sequence

from dvgen.explaining.component import ExplainedComponent, assignment
from dvgen.explaining.config_fields import ConfigField
from dvgen.explaining.hooks_and_errors import ExitCode, Hooks
from dvgen.explaining.interface import Contract, Interface, KindOfComponent
from dvgen.explaining.layout import docstring, table, wrapped
from dvgen.explaining.recipe import ExplainedRecipe
from dvgen.explaining.signatures import Member

INDENT = 2
_SHORT = 40
"""Letters of a help text that may be said twice."""
_CONFIG = """\
A nested class `Config` (attrs: frozen, keyword only) holds all that a user may set: every field with a default, a number with
bounds, as in `field(default=0.25, validator=ge(0))`, and an entry "name: text" in its docstring.
"""
_HOOKS = """\
A plugin is a module. It implements a hook by a function of that name, marked with `dvgen.hookimpl`, that takes any of these
arguments. An observer of a run that raises costs a warning, and never the run.
"""


def kind_lines(told: KindOfComponent, contract: Contract, components: Sequence[tuple[str, str]], width: int) -> Iterator[str]:
    """A kind: its interface, what to define, its records, its contract, the components there are, and what comes next."""
    one = told.interface
    yield f"{told.kind}: {one.name} of {one.place.partition(':')[0]}"
    yield ""
    yield from docstring(one.doc, width, INDENT)
    yield from _interface(one, width)
    for narrower in told.narrower:
        yield from _heading("or derive from", narrower.name)
        yield from docstring(narrower.doc, width, INDENT)
        yield from _interface(narrower, width, narrower.name)
    yield from _heading("what these speak of") if told.records else ()
    yield from _members(told.records, width)
    yield from _config(width)
    yield from _contract(contract, width)
    yield from _components(components, width)
    new = "encoder" if told.kind == "decoder" else told.kind  # the two are made together, and belong together
    yield from _next(
        [
            (f"dvgen new {new} my-{new}", f"a package of your own that works{', its decoder too' if new == 'encoder' else ''}"),
            (f"dvgen check my-{new}", "whether it keeps the contract, and what is wrong"),
            *[(f"dvgen explain {told.kind} {name}", "one of the above, and what may be set") for name, _ in components[:1]],
        ],
        width,
    )


def component_lines(told: ExplainedComponent, width: int) -> Iterator[str]:
    """A component: what it is, where it comes from, what may be set, and how."""
    yield from wrapped(f"{told.kind} {told.name}: {told.summary}", width)
    yield ""
    yield from docstring(told.doc, width, INDENT)
    yield from _heading("where it comes from")
    origin = [("plugin", f"{told.plugin} of {told.distribution}"), ("class", told.target), ("file", told.file)]
    yield from _pairs(origin)
    yield from _heading("what may be set" if told.fields else "nothing to set")
    yield from _fields(told.fields, width)
    for note in told.notes:
        yield from wrapped(note, width, INDENT)
    if told.path is None and told.fields:
        yield from wrapped(f"An experiment names {told.kind} and takes their defaults.", width, INDENT)
    if told.waived_laws:
        yield from _heading("laws that do not apply to it")
        yield from table(list(told.waived_laws.items()), width, INDENT)
    yield from _heading("how to use it")
    yield from _command(told.example, width)
    yield from _parts(told, width)
    yield from _next([(f"dvgen check {told.kind}:{told.name}", "whether it keeps the contract")], width)


def recipe_lines(told: ExplainedRecipe, width: int) -> Iterator[str]:
    """A recipe: its origin, what is in each box, and the commands that go on from it."""
    yield from wrapped(f"recipe {told.name}: {told.summary}", width)
    yield ""
    yield from wrapped(f"source: {told.source}", width, INDENT, hanging=8)
    yield from wrapped(f"note: {told.note}", width, INDENT, hanging=6) if told.note else ()
    yield from _heading("where it comes from")
    yield from _pairs([("plugin", f"{told.plugin} of {told.distribution}"), ("file", told.target)])
    yield from _heading("what is in it", f"for signals of {'x'.join(map(str, told.shape))}")
    yield from table([(one.box, one.use, one.fields) for one in told.boxes], width, INDENT)
    yield from _heading("training")
    yield from _pairs(list(told.training.items()))
    yield from _next(
        [
            (f"dvgen recipes {told.name}", "how large its parts and its codes are"),
            (f"dvgen recipes {told.name} --toml", "the file, to copy and change"),
            (f"dvgen train --recipe {told.name}", "trains it"),
        ],
        width,
    )


def recipe_kind_lines(doc: str, fields: Sequence[ConfigField], recipes: Sequence[tuple[str, str]], width: int) -> Iterator[str]:
    """What a recipe is, what its table `[recipe]` holds, and the recipes there are."""
    yield "recipe: an experiment in TOML that a plugin ships"
    yield ""
    yield from docstring(doc, width, INDENT)
    yield from _heading("the table [recipe]")
    yield from _fields(fields, width)
    yield from _components(recipes, width)
    yield from _next(
        [
            ("dvgen new recipe my-recipe", "a package of your own that works"),
            ("dvgen check my-recipe", "whether it can be read and put together"),
        ],
        width,
    )


def hook_lines(told: Hooks, width: int) -> Iterator[str]:
    """The hooks, and how a plugin implements one."""
    yield "hooks: functions of a plugin that dvgen calls"
    yield ""
    yield from docstring(_HOOKS, width, INDENT)
    yield from _heading("hooks")
    yield from _members(told.hooks, width)
    yield from _heading("what these speak of")
    yield from _members(told.records, width)


def error_lines(codes: Sequence[ExitCode], width: int) -> Iterator[str]:
    """The exit codes."""
    yield from wrapped("errors: what a command leaves with; the classes are those of dvgen.errors", width)
    yield ""
    rows = [(f"{one.code:>4}", one.error, one.meaning) for one in codes]
    yield from table(rows, width, INDENT, headings=("CODE", "ERROR", "MEANING"))


def _heading(text: str, behind: str = "") -> Iterator[str]:
    yield ""
    yield f"{text.upper()} {behind}".rstrip()


def _interface(one: Interface, width: int, name: str = "") -> Iterator[str]:
    yield from _heading("you define", name and f"with {name}")
    yield from _members(one.must, width)
    if one.may:
        yield from _heading("you may define", name and f"with {name}")
        yield from _members(one.may, width)
    if one.given:
        yield from wrapped(f"Written already: {', '.join(one.given)}.", width, INDENT)


def _members(members: Sequence[Member], width: int) -> Iterator[str]:
    for one in members:
        yield from wrapped(one.call, width, INDENT, hanging=8)
        yield from docstring(one.doc, width, INDENT + 4)


def _config(width: int) -> Iterator[str]:
    yield from _heading("its settings")
    yield from docstring(_CONFIG, width, INDENT)


def _contract(contract: Contract, width: int) -> Iterator[str]:
    yield from _heading("its contract")
    if not contract.count:
        yield from wrapped("No laws of its own yet.", width, INDENT)
        return
    letters = ", ".join(f"{letter} ({count})" for letter, count in contract.laws.items())
    text = f"{contract.count} laws in {contract.checks} checks, by their letters: {letters}."
    yield from wrapped(
        f"{text} Which of them apply follows from the class, which waives one only in `waived_laws`, with a reason.",
        width,
        INDENT,
    )


def _components(components: Sequence[tuple[str, str]], width: int) -> Iterator[str]:
    yield from _heading("there are")
    yield from table(components, width, INDENT) if components else [" " * INDENT + "none"]


def _fields(fields: Sequence[ConfigField], width: int) -> Iterator[str]:
    if not fields:
        return
    first: dict[str, str] = {}
    rows = []
    for field in fields:
        again = first.setdefault(field.help, field.name) != field.name and len(field.help) > _SHORT
        text = f"as {first[field.help]}" if again else field.help
        rows.append((field.name, field.type, field.default or "required", field.allowed, text))
    yield from table(rows, width, INDENT, headings=("NAME", "TYPE", "DEFAULT", "ALLOWED", "HELP"))


def _parts(told: ExplainedComponent, width: int) -> Iterator[str]:
    """How each part is chosen, and where its own fields are told."""
    for field in told.fields:
        if field.part and told.path:
            name = (field.default or "NAME").partition(",")[0]
            yield from _command(f"--set {assignment(told.path, field)}", width)
            text = f"fields of the part: --set {told.path}.{field.name}.FIELD=VALUE; dvgen explain {field.part} {name}"
            yield from wrapped(text, width, INDENT + 4)


def _command(command: str, width: int) -> Iterator[str]:
    yield from wrapped(command, width, INDENT, hanging=4)


def _pairs(pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
    wide = max(len(name) for name, _ in pairs)
    for name, text in pairs:
        yield f"{' ' * INDENT}{name.ljust(wide)}  {text}"


def _next(commands: Sequence[tuple[str, str]], width: int) -> Iterator[str]:
    yield from _heading("next")
    yield from table(commands, width, INDENT, widest=60)
