"""The ``raydistill`` command: the verbs of ``python -m raydistill.VERB``, and what the package comes with."""

from __future__ import annotations

import argparse
import difflib
import importlib
import sys
from collections.abc import Sequence

from raydistill import VERSION
from raydistill.errors import UserError

COMMANDS = {
    "train": "train a teacher, a student alone and a distilled student, and compare them",
    "tune": "search decay schedules and loss weights",
    "check": "what a folder of data is, and whether it can be trained on",
    "evaluate": "score weights on a data set, or a file of detections",
    "predict": "detect objects in images: pictures with boxes, and a file of what was found",
    "export": "a student as an ONNX, TorchScript or OpenVINO file, compared with torch and timed",
    "cache": "teachers' answers that are kept on this machine: shown, or removed",
    "report": "tables, pictures and a page of runs and sweeps",
}
VERBS = COMMANDS | {
    "completion": 'a script with which bash or zsh completes this: eval "$(raydistill completion bash)"',
    "list": "recipes, sweeps, methods and detectors",
    "help": "this text; a verb's, a guide, or what a setting does: raydistill help TOPIC",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Hand over to the verb that was named, and return its exit code."""
    verb, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    if verb in COMMANDS:
        return _run(verb, rest)
    if verb == "list":
        return _list(rest)
    if verb == "completion":
        return _completion(rest)
    if verb in ("help", "-h", "--help"):
        return _help(rest)
    if verb == "--version":
        sys.stdout.write(f"{VERSION}\n")
        return 0
    sys.stderr.write(_unknown(verb) if verb else usage())
    return 2


def usage() -> str:
    """Return what can be done."""
    verbs = "\n".join(f"  {verb:<12}{text}" for verb, text in VERBS.items())
    topics = "\n".join(f"  {topic:<12}{text}" for topic, text in _topics().items())
    return (
        f"usage: raydistill VERB ...\n\n{verbs}\n\nraydistill VERB --help says more; --version says which this is\n\n"
        f"guides: raydistill help TOPIC\n{topics}\n"
    )


def bundled_as_text() -> str:
    """Return the recipes, sweeps, methods and detectors that come with the package, a line each."""
    from raydistill.config.bundled import BUNDLED_RECIPES, BUNDLED_SWEEPS
    from raydistill.config.reference import detectors, methods

    sections = []
    for command, files in (("train", BUNDLED_RECIPES), ("tune", BUNDLED_SWEEPS)):
        lines = [f"  {name:<18}{files.describe(name)}" for name in files.names]
        sections.append("\n".join([f"{files.kind}s: raydistill {command} NAME", *lines]))
    for title, found in (("methods: methods.NAME....", methods()), ("detectors: teacher and student", detectors())):
        sections.append("\n".join([title, *(f"  {name:<18}{text}" for name, text in found.items())]))
    return "\n\n".join(sections) + "\n"


def _run(command: str, arguments: Sequence[str]) -> int:
    code: int = importlib.import_module(f"raydistill.{command}").main(arguments)
    return code


def _list(arguments: Sequence[str]) -> int:
    description = "List the recipes, sweeps, methods and detectors that come with raydistill, each with what it is for."
    argparse.ArgumentParser(prog="raydistill list", description=description).parse_args(arguments)
    sys.stdout.write(bundled_as_text())
    return 0


def _completion(arguments: Sequence[str]) -> int:
    from raydistill.config.completion import SHELLS, completion_script

    parser = argparse.ArgumentParser(prog="raydistill completion", description="Print a script for a shell to read.")
    parser.add_argument("shell", choices=SHELLS)
    shell = parser.parse_args(arguments).shell
    parsers = {command: importlib.import_module(f"raydistill.{command}").command_line() for command in COMMANDS}
    parsers |= {verb: argparse.ArgumentParser() for verb in VERBS if verb not in COMMANDS}
    parsers["help"].add_argument("topic", choices=[*VERBS, *_topics()])
    sys.stdout.write(completion_script(parsers, shell))
    return 0


def _help(arguments: Sequence[str]) -> int:
    topic = arguments[0] if arguments else "help"
    if topic == "help":
        sys.stdout.write(usage())
        return 0
    if topic in VERBS:
        return main([topic, "--help"])
    try:
        _show(_text_of(topic))
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _topics() -> dict[str, str]:
    """Return what there is a guide to, and what each is about."""
    from raydistill.config.bundled import GUIDES

    written = {name: GUIDES.read(name).partition("\n")[0].lstrip("# ") for name in GUIDES.names}
    return {
        **written,
        "settings": "every setting of a recipe, what it may be and does; also of a part: raydistill help training",
        "sweep-keys": "every key of a sweep file",
    }


def _text_of(topic: str) -> str:
    """Return a guide, or what is said of a setting.

    Raises:
        UserError: when there is neither.
    """
    from raydistill.config import reference
    from raydistill.config.bundled import GUIDES

    if topic in GUIDES.names:
        return GUIDES.read(topic)
    if topic == "settings":
        return reference.as_text()
    if topic == "sweep-keys":
        from raydistill.sweeps.file.sections import SWEEP

        return reference.as_text(tree=SWEEP)
    if topic in reference.names():
        return reference.as_text(topic)
    known = [*VERBS, *_topics()]
    near = difflib.get_close_matches(topic, known, n=1, cutoff=0.6)
    all_known = f"; the verbs and guides are {', '.join(known)}"
    hint = reference.near(topic) or (f"; did you mean {near[0]}?" if near else all_known)
    raise UserError(f"{topic}: must be a verb, a guide or a setting{hint}")


def _show(text: str) -> None:
    """Write Markdown: as it is into a pipe, laid out on a terminal."""
    if text.startswith("# ") and sys.stdout.isatty():
        from rich.console import Console
        from rich.markdown import Markdown

        Console().print(Markdown(text))
    else:
        sys.stdout.write(text)


def _unknown(verb: str) -> str:
    near = difflib.get_close_matches(verb, VERBS, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return f"{verb}: must be a verb of raydistill; {hint}the verbs are {', '.join(VERBS)}\n"


if __name__ == "__main__":
    sys.exit(main())
