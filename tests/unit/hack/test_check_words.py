"""hack/check_words.py on small repositories: what fails, and what passes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hack import check_words
from tests.paths import ROOT

MODULE = "operator/distillery_operator/decide/canary/canary.py"
VERBS = "pipeline/distillery/shop.py"
LONG = "word " * 21
ADDRESS = f"https://example.com/{'a' * 100}"


def check(folder: Path, path: str, text: str) -> list[str]:
    """Write a file into a repository, and return the repository's problems."""
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return check_words.check(folder)


@pytest.mark.parametrize(
    "text",
    [
        "The newcomer is served.", "Two guests came.", "The incumbent answers.", "Clients told us.", "Name the mend.",
        "It mends itself.", "Whoever asks is served.", "It starts anew.", "It stands beside vLLM.", "The run gets on.",
        "The run goes on.", "It went on.", "The loop goes round.", "It is taken back.", "It is withdrawn.",
        "It was not heard of.", "A round is under way.", "It runs for ever.", "Hints have twins.", "Each ware is sold.",
        "The newcomer's step.", "A run\ngoes\non.",
    ],
)  # fmt: skip
def test_excluded_word_fails_in_markdown(tmp_path: Path, text: str):
    assert len(check(tmp_path, "docs/guide.md", text)) == 1


def test_word_is_reported_with_its_line_and_a_substitute(tmp_path: Path):
    problems = check(tmp_path, "docs/adr/one.md", "# Title\n\nThe newcomer waits.\n")
    assert problems == ["docs/adr/one.md:3: 'newcomer': write canary"]


@pytest.mark.parametrize(
    ("british", "american"),
    [
        ("colours", "colors"), ("behaviour", "behavior"), ("neighbouring", "neighboring"), ("catalogue", "catalog"),
        ("centres", "centers"), ("normalise", "normalize"), ("normalised", "normalized"), ("optimiser", "optimizer"),
        ("initialisation", "initialization"), ("categorised", "categorized"), ("labelled", "labeled"),
        ("analyse", "analyze"), ("learnt", "learned"), ("licence", "license"), ("grey", "gray"),
        ("Judgement", "judgment"), ("artefacts", "artifacts"),
    ],
)  # fmt: skip
def test_british_spelling_fails_with_the_american_one(british: str, american: str):
    assert check_words.find_words(f"A {british}.") == [(0, british, american)]


@pytest.mark.parametrize(
    "text",
    [
        "The canary goes to the next step.", "It is cancelled.", "Go on-call.", "Software and hardware.",
        "He amends it.", "Set `newcomer` to 2.", "``newcomer: the counts``.", "See status.serving.canary.newcomer.",
        "newcomer.py", "Column told_at.", "[The canary](docs/kubernetes.md#a-newcomer).", "https://example.com/a/newcomer",
        "```yaml\nnewcomer: 2\ncanary: {incumbent: 3}\n```",
    ],
)  # fmt: skip
def test_clean_text_and_names_pass_in_markdown(tmp_path: Path, text: str):
    assert check(tmp_path, "README.md", text) == []


def test_comment_in_a_code_block_of_markdown_fails(tmp_path: Path):
    assert len(check(tmp_path, "README.md", "```yaml\nsteps: []  # of a newcomer\n```\n")) == 1


@pytest.mark.parametrize(
    "path",
    ["charts/distillery/values.yaml", "charts/distillery/files/crd.yaml", "examples/demo.yaml", "docs/argocd.yaml"],
)
@pytest.mark.parametrize("text", ["# of the newcomer\na: 1\n", "a: 1  # it goes on\n", "description: It gets on.\n"])
def test_excluded_word_fails_in_yaml(tmp_path: Path, path: str, text: str):
    assert len(check(tmp_path, path, text)) == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [("templates/NOTES.txt", "It goes on."), ("files/dashboard.json", '{"title": "Runs under way"}')],
)
def test_excluded_word_fails_in_other_files_of_the_chart(tmp_path: Path, path: str, text: str):
    assert len(check(tmp_path, f"charts/distillery/{path}", text)) == 1


@pytest.mark.parametrize(
    "text", ["newcomer: 1\n", "- newcomer: 1\n", "a: {newcomer: 1, incumbent: 2}\n", '"told": 1\n']
)
def test_keys_of_yaml_pass(tmp_path: Path, text: str):
    assert check(tmp_path, "charts/distillery/values.yaml", text) == []


@pytest.mark.parametrize(
    "source",
    [
        '"""A newcomer."""\n',
        'class Canary:\n    """A newcomer."""\n',
        'class Canary:\n    round: int = 0\n    """The newcomer\'s round."""\n',
        'class Canary:\n    def begun(self) -> bool:\n        """Begin a newcomer."""\n',
        'async def run() -> None:\n    """Run for ever."""\n',
        'print("the newcomer waits")\n',
        'def _private() -> None:\n    print(f"the newcomer {1} waits")\n',
    ],
)
def test_excluded_word_fails_in_public_docstring_or_message(tmp_path: Path, source: str):
    assert len(check(tmp_path, MODULE, source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "# the newcomer waits\n",
        "newcomer = 1\n",
        "class NewcomerStep: ...\n",
        'x = "newcomer"\n',
        'def _private() -> None:\n    """The newcomer waits."""\n',
        'class _Private:\n    def public(self) -> None:\n        """The newcomer waits."""\n',
        'def public() -> None:\n    def nested() -> None:\n        """The newcomer waits."""\n',
        '_LIMIT = 1\n"""What the newcomer gets."""\n',
    ],
)
@pytest.mark.parametrize("path", [MODULE, "tests/unit/test_canary.py", "hack/canary.py", "models/micro/canary.py"])
def test_excluded_word_fails_in_private_code_and_names(tmp_path: Path, path: str, source: str):
    (problem,) = check(tmp_path, path, source)
    assert "newcomer': write canary" in problem.lower()


def test_argument_names_of_a_docstring_pass(tmp_path: Path):
    source = 'def f(**options: int) -> None:\n    """Return it.\n\n    Args:\n        newcomer: the canary.\n    """\n'
    assert check(tmp_path, MODULE, source) == []


@pytest.mark.parametrize("word", ["What", "Whoever", "Whether", "Where"])
def test_public_docstring_fails_when_it_begins_with_a_clause(tmp_path: Path, word: str):
    problems = check(tmp_path, MODULE, f'def f() -> None:\n    """{word} is served."""\n')
    assert any(f"must not begin with {word}" in problem for problem in problems)


@pytest.mark.parametrize(
    "text", ["The price.", "A hint.", "All hints.", "Every task.", "Those that fit.", "Who won.", "How it ends."]
)
def test_function_docstring_fails_when_it_begins_with_a_noun(tmp_path: Path, text: str):
    source = f'class Shop:\n    def price(self) -> int:\n        """{text}"""\n'
    assert check(tmp_path, VERBS, source) == [
        f"{VERBS}:3: a function's docstring must not begin with {text.split()[0]}: write a verb"
    ]


@pytest.mark.parametrize(
    "source",
    [
        '"""The prices."""\n',
        'class Shop:\n    """The shop."""\n    size: int = 0\n    """The size."""\n',
        'class Shop:\n    @property\n    def price(self) -> int:\n        """The price."""\n',
        'class Shop:\n    @functools.cached_property\n    def price(self) -> int:\n        """The price."""\n',
        'def _price() -> int:\n    """The price."""\n',
        'def price() -> int:\n    """Return the price."""\n',
        'def price() -> int:\n    """Thereby return the price."""\n',
    ],
)
def test_nouns_of_classes_properties_and_private_code_pass(tmp_path: Path, source: str):
    assert check(tmp_path, VERBS, source) == []


@pytest.mark.parametrize("text", ["Whatever.", "Return what is served.", "When it starts."])
def test_other_openings_of_a_docstring_pass(tmp_path: Path, text: str):
    assert check(tmp_path, MODULE, f'"""{text}"""\n') == []


@pytest.mark.parametrize(
    "text", [LONG, f"- {LONG}", f"- item\n  {LONG}", f"- item\n\n    {LONG}", f"> {LONG}", f"see {ADDRESS}"]
)
def test_long_prose_fails_in_markdown(tmp_path: Path, text: str):
    assert len(check(tmp_path, "README.md", text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "w" * 100, f"| {LONG} |", f"# {LONG}", f"```\n{LONG}\n```", f"~~~~\n```\n{LONG}\n~~~~", f"text\n\n    {LONG}",
        ADDRESS, f"- [link]({ADDRESS})", f"[link]: {ADDRESS}", f'<img src="{ADDRESS}" alt="a loop">',
    ],
)  # fmt: skip
def test_tables_code_headings_and_long_links_are_exempt_from_wrapping(tmp_path: Path, text: str):
    assert check(tmp_path, "README.md", text) == []


def test_style_guide_may_list_words_in_tables_only(tmp_path: Path):
    assert check(tmp_path, "STYLE.md", "| canary | newcomer |\n\nThe newcomer waits.\n") == [
        "STYLE.md:3: 'newcomer': write canary"
    ]


def test_every_excluded_word_of_a_test_is_reported(tmp_path: Path):
    assert len(check(tmp_path, "tests/test_one.py", "# told\ntold = 'the newcomer'\n")) == 3


@pytest.mark.parametrize("path", check_words.EXEMPT)
def test_exempt_file_is_not_checked(tmp_path: Path, path: str):
    assert check(tmp_path, path.replace("*", "0001_initial"), "told = 'the newcomer'\n") == []


@pytest.mark.parametrize(("text", "code"), [("The canary waits.\n", 0), ("The newcomer waits.\n", 1)])
def test_exit_code_follows_the_problems(tmp_path: Path, text: str, code: int):
    (tmp_path / "README.md").write_text(text)
    command = [sys.executable, ROOT / "hack/check_words.py", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "README.md:1:" in done.stdout) == (code, bool(code)), done.stdout
