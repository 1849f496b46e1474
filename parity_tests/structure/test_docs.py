"""The component pages tell the truth: their configs load, their tables are those of the classes, their pictures are drawn."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from jax_transformer import config
from jax_transformer.config.load import load_config
from jax_transformer.config.strict_yaml import dump_yaml, parse_value, parse_yaml
from jax_transformer.config.tree import fields, kind_of, nodes
from parity_tests.structure.sources import ROOT, label

PAGES = sorted((ROOT / "docs/components").glob("*.md"))
PICTURES = ROOT / "docs/components/pictures"
WALK = ROOT / "docs/adding_a_component.md"

ATTENTION = {"kind": "softmax", "num_heads": 8, "head_dim": 64}
BLOCK = {"attention": ATTENTION, "ffn": {"kind": "mlp", "hidden_dim": 512}, "norm": {"kind": "rms_norm"}}
TOWER = {"stack": {"num_layers": 2, "pattern": [BLOCK]}, "final_norm": {"kind": "rms_norm"}}
READER = {"stack": {"num_layers": 2, "pattern": [BLOCK | {"cross_attention": {"num_heads": 8, "head_dim": 64}}]}}
SIZES = {"vocab_size": 300, "d_model": 256, "max_length": 64}
BASES = {
    "decoder": {"kind": "decoder", **SIZES, **TOWER},
    "encoder": {"kind": "encoder", **SIZES, **TOWER},
    "encoder_decoder": {
        "kind": "encoder_decoder",
        **SIZES,
        "max_source_length": 64,
        "encoder": TOWER,
        "decoder": TOWER | READER,
    },
}
RUN = {"data": {"sequence_length": 32}, "train": {"steps": 200, "batch_size": 8}}


class Example(NamedTuple):
    """A YAML block of a page: where in a model (or a run) it stands, and what it says."""

    page: str
    path: str
    base: str
    text: str


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def example(page: str, text: str) -> Example:
    found = re.match(r"# ([\w.\[\]]+)(?:, in an (\w+))?\n", text)
    assert found, f"{page}: the first line of a YAML block says where it stands, as in `# stack.pattern[0].norm`:\n{text}"
    return Example(page, found[1], found[2] or "decoder", text)


EXAMPLES = [example(path.name, text) for path in PAGES for text in blocks(path, "yaml")]


def put(tree: Any, keys: list[Any], value: Any) -> Any:
    """``tree`` with the value at a key path replaced or added."""
    if not keys:
        return value
    key, rest = keys[0], keys[1:]
    if isinstance(tree, list):
        return [put(item, rest, value) if index == key else item for index, item in enumerate(tree)]
    return tree | {key: put(tree.get(key, {}), rest, value)}


def load(case: Example, folder: Path) -> config.Config:
    """What the real loader makes of the block: the node at its path, in a file with a small valid model around it."""
    value = parse_yaml(case.text, case.page).tree
    keys = [int(key) if key.isdigit() else key for key in re.findall(r"\w+", case.path)]
    tree = BASES[case.base]
    if keys[0] == "objective":
        tree = RUN | {"model": tree, "objective": value}
    else:
        tree = value if keys == ["model"] else put(tree, keys, value)
    file = folder / "model.yaml"
    file.write_text(dump_yaml(tree), encoding="utf-8")
    node: Any = load_config(file)
    for key in [] if keys == ["model"] else keys:
        node = node[key] if isinstance(key, int) else getattr(node, key)
    assert node.model_dump(mode="json", exclude_unset=True) == value
    return node


@pytest.mark.parametrize("case", EXAMPLES, ids=lambda case: f"{case.page}-{case.path}")
def test_every_yaml_block_loads_where_it_says_that_it_stands(case: Example, tmp_path: Path):
    load(case, tmp_path)


def test_every_class_of_a_model_stands_in_a_yaml_block(tmp_path: Path):
    shown = {type(node) for case in EXAMPLES for node in nodes(load(case, tmp_path))}
    assert not {owner.__name__ for _, owner, _ in fields(config.Model)} - {cls.__name__ for cls in shown}


def sections() -> dict[str, str]:
    """Class name -> the text below the heading that ends with it in parentheses, up to the next heading."""
    found = {}
    for path in PAGES:
        text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        for name, body in re.findall(r"^#+ [^\n]*\(`(\w+)`\)\n(.*?)(?=^#|\Z)", text, re.DOTALL | re.MULTILINE):
            assert name not in found, f"{name} has two sections"
            found[name] = body
    return found


def rows(section: str) -> dict[str, str]:
    """Field -> default, of the section's table ``| field | default | meaning |``."""
    table = section.partition("| field | default | meaning |\n|---|---|---|\n")[2].partition("\n\n")[0]
    cells = [line.split("|")[1:3] for line in table.splitlines()]
    return {name: default.strip().strip("`") for names, default in cells for name in re.findall(r"`(\w+)`", names)}


def default_of(cls: type[config.Config], name: str, text: str) -> Any:
    """The default that a table states, as the class would hold it."""
    want, value = cls.model_fields[name].get_default(), parse_value(text, name)
    if isinstance(want, config.Config) and isinstance(value, dict):
        return type(want)(**value)
    return tuple(value) if isinstance(value, list) else value


CLASSES = sorted(
    {owner for root in (config.Model, config.Objective) for _, owner, _ in fields(root)}, key=lambda cls: cls.__name__
)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_class_has_a_section_with_its_fields_and_defaults(cls: type[config.Config]):
    section = sections().get(cls.__name__)
    assert section is not None, f"no heading of docs/components ends with (`{cls.__name__}`)"
    stated = rows(section)
    assert stated.keys() == cls.model_fields.keys() - {"kind"}
    for name, text in stated.items():
        required = cls.model_fields[name].is_required()
        assert (text == "required") == required, name
        assert required or default_of(cls, name, text) == cls.model_fields[name].get_default(), name


def test_every_kind_is_on_the_first_page():
    text = (ROOT / "docs/components/index.md").read_text(encoding="utf-8")
    kinds = {kind_of(owner) for _, owner, _ in fields(config.Model)} - {None}
    assert not {kind for kind in kinds if f"`{kind}`" not in text}


def test_the_script_draws_every_picture_that_the_pages_use(tmp_path: Path):
    used = {name for path in PAGES for name in re.findall(r"!\[.*?\]\(pictures/(.+?)\)", path.read_text(encoding="utf-8"))}
    subprocess.run([sys.executable, str(ROOT / "scripts/draw_pictures.py"), str(tmp_path)], check=True, cwd=ROOT)
    assert used == {path.name for path in tmp_path.iterdir()}
    assert used == {path.name for path in PICTURES.iterdir()}


def test_the_code_of_the_walk_through_is_the_code():
    for text in blocks(WALK, "python"):
        first, _, rest = text.partition("\n")
        path = ROOT / first.removeprefix("# ").strip()
        source = path.read_text(encoding="utf-8")
        for part in re.split(r"^ *\.\.\.$", rest, flags=re.MULTILINE):
            assert part.strip("\n") in source, f"{path.relative_to(ROOT)} has no such lines:\n{part}"


def test_the_walk_through_names_every_file_that_knows_its_component():
    listed = re.search(r"^## Files touched\n\n((?:    .+\n)+)", WALK.read_text(encoding="utf-8"), re.MULTILINE)
    assert listed is not None
    folders = ("jax_transformer", "torch_reference", "parity_tests", "scripts", "configs", "docs")
    texts = [
        path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".md", ".json", ".yaml")
    ]
    knows = re.compile("ScaleNorm|scale_norm")
    found = {label(path) for path in [*texts, ROOT / "README.md"] if knows.search(path.read_text(encoding="utf-8"))}
    assert found - {label(WALK), label(Path(__file__))} == set(listed[1].split())
