"""Write the table of timm's weights: python build_support/timm_table.py > ITS_PLACE.

Its place is d2ext/model_zoo/timm_models.csv; a test compares the two.
"""

import csv
import sys
from collections.abc import Iterator, Sequence
from typing import TextIO

import timm
from timm.models import PretrainedCfg, get_pretrained_cfg, list_pretrained

from d2ext.model_zoo.timm_models import COLUMNS, address_of_hub, rgb


def main() -> None:
    write(sys.stdout)


def write(file: TextIO) -> None:
    """Write the table, in the first line the version of timm that it is of."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([f"timm {timm.__version__}"])
    writer.writerow(COLUMNS)
    writer.writerows(rows())


def rows() -> Iterator[Sequence[str]]:
    """Yield the rows, by name; of one architecture the weights that timm prefers come first."""
    names = list_pretrained()
    for architecture in dict.fromkeys(name.partition(".")[0] for name in names):
        first = get_pretrained_cfg(architecture)
        tags = [n for n in names if n.partition(".")[0] == architecture]
        for name in sorted(tags, key=lambda n: n != _name(first)):
            facts = get_pretrained_cfg(name)
            yield name, facts.license or "", rgb(facts.mean), rgb(facts.std), _address(facts, name)


def _name(facts: PretrainedCfg) -> str:
    return f"{facts.architecture}.{facts.tag}" if facts.tag else str(facts.architecture)


def _address(facts: PretrainedCfg, name: str) -> str:
    """Return the address; "" for the usual one."""
    if not facts.hf_hub_id:
        return str(facts.url or "")
    url = address_of_hub(facts.hf_hub_id, facts.hf_hub_filename or "model.safetensors")
    return "" if url == address_of_hub(f"timm/{name}") else url


if __name__ == "__main__":
    main()
