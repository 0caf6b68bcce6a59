"""The word check: `make check` fails where a text breaks STYLE.md.

    python hack/check_words.py          check the repository
    python hack/check_words.py FOLDER   check another copy of it

It reads the Markdown pages, the chart, the examples, and all Python code: docstrings, messages, comments and names.
How a docstring begins is checked in the public code of the packages. Text in backticks is never checked. Only the
standard library is needed.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

WIDTH = 100
"""Characters that a line of Markdown prose may have."""

PACKAGES = (
    "pipeline/distillery", "operator/distillery_operator", "gateway/distillery_gateway",
    "environments/alfworld/distillery_alfworld", "environments/webshop/distillery_webshop",
)  # fmt: skip
PAGES = (
    "*.md", ".github/**/*.md", "charts/**/*.md", "docs/**/*.md", "examples/**/*.md", "models/**/*.md", "tests/**/*.md",
    "pipeline/*.md", "operator/*.md", "gateway/*.md", "environments/**/*.md",
)  # fmt: skip
TEXTS = (
    "Makefile", "docs/**/*.yaml", "charts/**/*.yaml", "charts/**/*.json", "charts/**/*.tpl", "charts/**/*.txt",
    "examples/**/*.yaml", ".github/**/*.yaml", ".github/**/*.yml",
)  # fmt: skip
PROGRAMS = ("tests/**/*.py", "benchmarks/**/*.py", "hack/**/*.py", "models/**/*.py", "scripts/**/*.py")
EXEMPT = (
    "hack/check_words.py", "tests/unit/hack/test_check_words.py",  # they list the words
    "pipeline/distillery/database/migrations/versions/*.py",  # released: they name what a database had
)  # fmt: skip
"""The Python files that are not checked."""

WORDS: Mapping[str, str] = {
    r"newcomers?|guests?": "canary",
    r"incumbents?": "stable (serving) or baseline (evaluation)",
    r"told": "reported, logged",
    r"mend(?:s|ed|ing)?": "fix",
    r"whoever|whomever": "the noun: clients, users, pods",
    r"anew": "again",
    r"beside": "next to, with",
    r"(?:get|gets|got|getting) on": "continue",
    r"(?:go|goes|went|gone|going) on": "continue, resume",
    r"(?:go|goes|went|gone|going) round": "repeat",
    r"(?:take|takes|took|taken|taking) back|withdraw(?:s|n|al|als|ing)?|withdrew": "roll back, abort",
    r"(?:hear|hears|heard) of": "the event itself: reported, received",
    r"under way": "in progress, running",
    r"for ever": "forever, indefinitely",
    r"twins?": "duplicate",
    r"wares?": "product type",
}
"""Each pattern of words that STYLE.md excludes, with the word to write."""

SPELLINGS: Mapping[str, str] = {
    r"(?P<stem>behavi|col|fav|flav|harb|hon|lab|neighb)our(?P<tail>\w*)": r"\g<stem>or\g<tail>",
    r"catalogue(?P<tail>s?)": r"catalog\g<tail>",
    r"(?P<stem>cent|met|lit)re(?P<tail>s?)": r"\g<stem>er\g<tail>",
    r"(?P<stem>author|categor|final|general|initial|minim|maxim|normal|optim|organ|prior|priorit|recogn|serial|special"
    r"|standard|summar|synchron|token|visual)is(?P<tail>e|ed|er|ers|es|ing|ation|ations)": r"\g<stem>iz\g<tail>",
    r"(?P<stem>label|model|level|signal|travel)l(?P<tail>ed|ing|er|ers)": r"\g<stem>\g<tail>",
    r"analys(?P<tail>e|ed|ing)": r"analyz\g<tail>",
    r"learnt": "learned",
    r"licence(?P<tail>s?)": r"license\g<tail>",
    r"grey": "gray",
    r"judgement(?P<tail>s?)": r"judgment\g<tail>",
    r"artefact(?P<tail>s?)": r"artifact\g<tail>",
    r"whilst": "while",
    r"amongst": "among",
}
"""Each pattern of British spellings, with the American one. `cancelled` is asyncio's word and stays."""

OPENING = re.compile(r"\s*(What|Whoever|Whether|Where)\b")
FUNCTION_OPENING = re.compile(r"\s*(The|A|An|What|Whether|Where|Whoever|How|Who|All|Every|Each|Those|These)\b")
"""The words that the docstring of a function must not begin with. Properties are exempt."""
PROPERTIES = ("property", "cached_property", "setter", "deleter", "computed_field")

_EDGES = r"(?<![\w.\-/$])(?:{})(?![\w\-/(=]|\.\w)"
_BREAK = r"[\s#]+"
_EXCLUDED = [
    (re.compile(_EDGES.format(words.replace(" ", _BREAK)), re.IGNORECASE), use)
    for words, use in (*WORDS.items(), *SPELLINGS.items())
]
_BACKTICKS = re.compile(r"(?<!`)(`+)(?!`)(?:(?!\n\s*\n).)+?(?<!`)\1(?!`)", re.DOTALL)
_LINK_TARGET = re.compile(r"(?<=\])\([^)\s]*\)|<?https?://\S+")
_FENCE = re.compile(r"`{3,}|~{3,}")
_ITEM = re.compile(r"\s*([-*+]|\d+[.)]|\[\^[^\]]+\]:)\s")
_NO_PROSE = re.compile(r"#{1,6} |\||<|\[[^\]]+\]:\s+\S+$")
_ARGUMENTS = re.compile(r"^[ \t]+\*{0,2}\w+(?: \([^)\n]*\))?:(?=\s)", re.MULTILINE)
_KEYS = re.compile(r"^\s*(?:- )?[\w./-]+:(?=\s|$)|(?<=[{,])\s*[\w-]+:(?=\s)|\"[\w./-]+\"(?=:)", re.MULTILINE)


@dataclass(frozen=True)
class Passage:
    """A piece of text with its place, and whether it is a public docstring: of anything, or of a function."""

    line: int
    text: str
    is_docstring: bool = False
    is_function: bool = False


@dataclass(frozen=True)
class Finding:
    """A violation of STYLE.md, with the line and the fix."""

    line: int
    message: str


def main() -> int:
    """Print every problem with its place; the exit code is 1 if there is a problem."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1]
    problems = check(root)
    print("\n".join(problems), end="\n" if problems else "")
    return 1 if problems else 0


def check(root: Path) -> list[str]:
    """Return the problems of a repository."""
    messages = list[str]()
    for path, passages, page in read_repository(root):
        problems = [problem for passage in passages for problem in check_passage(passage)] + check_width(page)
        messages += [f"{path}:{p.line}: {p.message}" for p in sorted(problems, key=lambda p: p.line)]
    return messages


def read_repository(root: Path) -> Iterator[tuple[str, list[Passage], str]]:
    """Yield each file with its passages and, for Markdown, its text, whose lines have to fit into WIDTH."""
    for file in sorted(_files(root, PAGES)):
        path = file.relative_to(root).as_posix()
        text = file.read_text()
        passages = [Passage(1, without_fences(without_tables(text) if path == "STYLE.md" else text))]
        yield path, passages, text
    for file in sorted(_files(root, TEXTS)):
        yield file.relative_to(root).as_posix(), [Passage(1, without_keys(file.read_text()))], ""
    exempt = _files(root, EXEMPT)
    for file in sorted(_files(root, [f"{package}/**/*.py" for package in PACKAGES]) - exempt):
        yield file.relative_to(root).as_posix(), read_python(file.read_text()), ""
    for file in sorted(_files(root, PROGRAMS) - exempt):
        passages = [Passage(p.line, p.text) for p in read_python(file.read_text())]
        yield file.relative_to(root).as_posix(), passages, ""


def check_passage(passage: Passage) -> list[Finding]:
    """Return the problems of one passage: its words, and how it begins if it is a docstring."""
    problems = [Finding(passage.line + line, f"{word!r}: write {use}") for line, word, use in find_words(passage.text)]
    opening = OPENING.match(passage.text) if passage.is_docstring else None
    noun = FUNCTION_OPENING.match(passage.text) if passage.is_function else None
    if noun and not opening:
        problems.append(Finding(passage.line, f"a function's docstring must not begin with {noun[1]}: write a verb"))
    if opening:
        problems.append(Finding(passage.line, f"a docstring must not begin with {opening[1]}: name the subject"))
    return problems


def find_words(text: str) -> list[tuple[int, str, str]]:
    """Return the words that STYLE.md excludes: each with its line, counted from 0, and what to write."""
    text = _blank(_LINK_TARGET, _blank(_BACKTICKS, text))
    return [
        (text.count("\n", 0, match.start()), " ".join(match[0].split()), match.expand(use).lower())
        for pattern, use in _EXCLUDED
        for match in pattern.finditer(text)
    ]


def check_width(text: str) -> list[Finding]:
    """Return the lines of Markdown prose over WIDTH. Tables, code, headings and single long links are exempt."""
    return [
        Finding(number, f"{len(line)} characters: wrap prose at {WIDTH}")
        for number, line in prose_lines(text)
        if len(line) > WIDTH and _can_break(line)
    ]


def prose_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a Markdown page that are prose, with their numbers from 1."""
    fence = previous = ""
    in_list = in_code = False
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        fence, was = _next_fence(fence, stripped), fence
        if stripped and not fence and not was:
            indented = line.startswith(("    ", "\t"))
            in_code = indented and not in_list and (in_code or not previous)
            in_list = bool(_ITEM.match(line)) or (in_list and bool(previous or line.startswith(" ")))
            if not in_code and not _NO_PROSE.match(stripped):
                yield number, line
        previous = stripped


def read_python(source: str) -> list[Passage]:
    """Return the docstrings, strings, comments and names of a Python file."""
    passages = list(_strings(ast.parse(source)))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            passages.append(Passage(token.start[0], token.string))
        elif token.type == tokenize.NAME:
            passages.append(Passage(token.start[0], _split_identifier(token.string)))
    return passages


def without_keys(text: str) -> str:
    """Return a YAML or JSON text with its keys blanked: they are names."""
    return _blank(_KEYS, text)


def without_fences(text: str) -> str:
    """Return a Markdown page with its fences blanked, and the keys between them."""
    lines, fence = list[str](), ""
    for line in text.splitlines():
        fence, was = _next_fence(fence, line.strip()), fence
        lines.append("" if fence != was else without_keys(line) if fence else line)
    return "\n".join(lines)


def without_tables(text: str) -> str:
    """Return a Markdown page with its tables blanked: those of STYLE.md list the words to avoid."""
    return re.sub(r"^\|.*$", "", text, flags=re.MULTILINE)


def _strings(node: ast.AST, public: bool = True, nested: bool = False) -> Iterator[Passage]:
    """Yield docstrings and string literals. A docstring is public if no name on the way to it has an underscore."""
    docstrings: list[ast.Constant] = []
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        for before, statement in zip([None, *node.body], node.body, strict=False):
            match statement:
                case ast.Expr(value=ast.Constant(value=str(text)) as constant):
                    docstrings.append(constant)
                    shown = public and not (before and _is_private(_target(before)))
                    verb = shown and before is None and _is_function(node)
                    yield Passage(constant.lineno, _blank(_ARGUMENTS, text), is_docstring=shown, is_function=verb)
                case _:
                    pass
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.Expr(value=ast.Constant() as constant) if constant in docstrings:
                continue
            case ast.Constant(value=str(text)):
                is_message = bool(re.search(r"\s", text.strip()))
                yield Passage(child.lineno, text if is_message else _split_identifier(text))
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                is_function = not isinstance(child, ast.ClassDef)
                yield from _strings(child, public and not nested and not _is_private(child.name), nested or is_function)
            case _:
                yield from _strings(child, public, nested)


def _target(statement: ast.stmt) -> str:
    match statement:
        case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
            return name
        case _:
            return ""


def _is_function(node: ast.AST) -> bool:
    """Return whether a node is a function or a method, and not a property."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    return not any(ast.unparse(decorator).rpartition(".")[2] in PROPERTIES for decorator in node.decorator_list)


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def _split_identifier(name: str) -> str:
    """Return the words of an identifier with blanks between them."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[_.\-/]+", " ", name)


def _next_fence(fence: str, line: str) -> str:
    """Return the fence of a code block after a line; empty outside of code blocks."""
    if fence:
        return "" if line.startswith(fence) and not line.strip(fence[0]) else fence
    opening = _FENCE.match(line)
    return opening[0] if opening else ""


def _can_break(line: str) -> bool:
    text = re.sub(r"^[\s>]*(?:[-*+]\s|\d+[.)]\s)?\s*", "", line)
    return bool(re.search(r"\s", text.strip()))


def _blank(pattern: re.Pattern[str], text: str) -> str:
    return pattern.sub(lambda match: re.sub(r"[^\n]", "\0", match[0]), text)


def _files(root: Path, patterns: Iterable[str]) -> set[Path]:
    return {file for pattern in patterns for file in root.glob(pattern) if file.is_file()}


if __name__ == "__main__":
    sys.exit(main())
