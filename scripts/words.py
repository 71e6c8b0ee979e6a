"""Check the language of pages, docstrings, comments and error texts against a list of banned words.

`docs/glossary.md` has the words to use. Code spans, code blocks and addresses of pages are exempt, because names of
metrics, log events and py-drakkar are a contract. Files and directories (with a final slash) that are listed in
`scripts/words_todo.txt` are not clean yet. A listed one that has become clean, or that is gone, is a finding as well,
so the list only shrinks (`--update` shortens it).
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

TODO = Path("scripts/words_todo.txt")
GENERATED = {"docs/configuration.md", "docs/api.md"}
"""Made from docstrings, which are checked where they stand."""

BANNED = {
    r"told|tells?|telling": "the exact verb: reported, logged, returned, raised, shows",
    r"of (?:its|his|their|our|your|one's|my) own": "'its own ...', 'separate' or 'user-defined'",
    r"mend(?:s|ed|ing)?": "fix",
    r"(?:some|any|no)body(?:'s)?|who(?:m)?ever": "the actor: the caller, another worker, no task",
    r"(?<!dead )(?<!dead-)(?<!case )letters?": "dead letter",
    r"remed(?:y|ies)": "fix",
    r"bur(?:y|ies|ied)": "dead-letter",
    r"park(?:s|ed|ing)?": "delay",
    r"lanes?": "topic partition, or shard",
    r"twins?": "duplicate",
    r"heirs?": "replacement",
    r"purses?": "credit pool",
    r"wardens?": "reaper",
    r"doom(?:s|ed)?": "kill",
    r"farewells?|last words": "child exit, end of stderr",
    r"heard": "received",
    r"heed(?:s|ed|ing)?": "react to, use",
    r"be had|(?:is|was|are) had": "available",
    r"for ever": "forever, or without limit",
    r"for good": "permanently",
    r"anew": "again, or new",
    r"as ever": "as usual",
    r"all the same": "anyway",
    r"(?:say|says|said) so": "reports it",
    r"left alone|leave(?:s)? alone": "the circuit breaker opens",
    r"gives? way|gave way": "is replaced by",
    r"(?:stand|stands|stood|standing) still": "stall",
    r"(?:becomes?|became|comes?|came) of": "'what happens to ...' or 'the results of ...'",
    r"what (?:is|was|are|were|has|had|goes|comes|came)(?! wrong)": "the noun: unfinished records, missing topics",
}
RIDDLE = re.compile(r"(?:What|How|Whether|Who|Whose|Where|When|That|Which|Why)\b")
"""How a docstring must not begin: its first word names the thing."""

PATTERN = re.compile(
    "|".join(rf"(?P<w{number}>\b(?:{banned})\b)" for number, banned in enumerate(BANNED)).replace(" ", "[ \n]"),
    re.IGNORECASE,
)
INSTEAD = list(BANNED.values())
EXEMPT = re.compile(r"`[^`\n]*`|\]\([^)\n]*\)|https?://\S+")


def words(text: str, first_line: int = 1) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each finding in a prose text.

    Example:
        >>> list(words("A fault\\nis told at once; `told` is a name."))
        [(2, "'told': write the exact verb: reported, logged, returned, raised, shows")]
    """
    prose = EXEMPT.sub(lambda code: re.sub(r"\S", "`", code[0]), text)
    prose = re.sub(r"[ \t]*\n[ \t#]*", "\n", prose)
    for match in PATTERN.finditer(prose):
        found, instead = match[0].replace("\n", " "), INSTEAD[int((match.lastgroup or "w0")[1:])]
        yield first_line + prose.count("\n", 0, match.start()), f"'{found}': write {instead}"


def page(text: str) -> Iterator[tuple[int, str]]:
    """Yield the findings of a Markdown page, without its code blocks.

    Example:
        >>> list(page("```\\nit is told\\n```\\nMend it.\\n"))
        [(4, "'Mend': write fix")]
    """
    blocks = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
    return words(blocks.sub(lambda block: re.sub(r".+", "", block[0]), text))


def unreleased(text: str) -> str:
    """Return a changelog up to its newest release.

    Example:
        >>> unreleased("# Changelog\\n## [Unreleased]\\n- a\\n## [0.1.0]\\n- b\\n")
        '# Changelog\\n## [Unreleased]\\n- a\\n'
    """
    return re.split(r"^## \[(?!Unreleased)", text, maxsplit=1, flags=re.MULTILINE)[0]


def module(source: str) -> Iterator[tuple[int, str]]:
    """Yield the findings of a Python module: docstrings, texts with a space in them, comments.

    Example:
        >>> list(module('def f():\\n    "How it ends."\\n    raise ValueError("mend the file")  # as told\\n'))
        [(2, "a docstring begins with 'How': begin with the noun"), (3, "'mend': write fix"), \
(3, "'told': write the exact verb: reported, logged, returned, raised, shows")]
    """
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            found += words(node.value, node.lineno)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            riddle = RIDDLE.match(node.value.value)
            if riddle:
                found.append((node.lineno, f"a docstring begins with '{riddle[0]}': begin with the noun"))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            found += words(token.string, token.start[0])
    yield from sorted(found)


def findings(name: str, text: str) -> list[str]:
    """Return the findings of one file, each with its place."""
    if name.endswith(".py"):
        found = module(text)
    elif name.endswith(".md"):
        found = page(unreleased(text) if name == "CHANGELOG.md" else text)
    else:
        found = words(text)
    return [f"{name}:{line}: {problem}" for line, problem in found]


def checked(names: Iterable[str]) -> list[str]:
    """Return the files whose language is checked: pages, and code, settings and templates that users read."""
    users = ("src/", "examples/", "flows/")
    kinds = (".py", ".template", ".yaml", ".sh")
    return [
        name
        for name in names
        if name not in GENERATED and (name.endswith(".md") or (name.startswith(users) and name.endswith(kinds)))
    ]


def report(files: dict[str, list[str]], todo: list[str]) -> Iterator[str]:
    """Yield every finding outside of the to-do list, and every line that has to leave the list.

    Example:
        >>> found = {"a.md": ["a.md:1: 'told'"], "b.md": [], "src/c.py": ["src/c.py:2: 'anew'"]}
        >>> list(report(found, ["b.md", "src/"]))
        ["a.md:1: 'told'", 'scripts/words_todo.txt: b.md is clean or gone: remove it']
    """
    for name, found in files.items():
        if not any(_covers(entry, name) for entry in todo):
            yield from found
    for entry in todo:
        if not unclean(entry, files):
            yield f"{TODO}: {entry} is clean or gone: remove it"


def unclean(entry: str, files: dict[str, list[str]]) -> bool:
    """Return True if a listed file, or a file of a listed directory, has findings."""
    return any(found for name, found in files.items() if _covers(entry, name))


def _covers(entry: str, name: str) -> bool:
    return name.startswith(entry) if entry.endswith("/") else name == entry


def main(arguments: list[str]) -> int:
    """Print every finding, of the given files whether listed or not; return 1 if there is any."""
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True).stdout
    names = arguments if arguments and arguments != ["--update"] else checked(listed.split("\0"))
    files = {name: findings(name, Path(name).read_text()) for name in names if Path(name).exists()}
    todo = [] if names is arguments else TODO.read_text().split()
    if arguments == ["--update"]:
        todo = [entry for entry in todo if unclean(entry, files)]
        TODO.write_text("".join(f"{entry}\n" for entry in todo))
    found = list(report(files, todo))
    print("\n".join(found) or "Words: 0 findings.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
