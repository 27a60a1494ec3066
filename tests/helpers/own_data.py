"""The recipes for own data."""

from d2ext.config import load_config
from d2ext.config.paths import config_root, project_root


def own_data_recipes() -> list[str]:
    """Return the configs whose values follow from the data and the machine."""
    files = [*config_root().rglob("*.yaml"), *project_root().glob("*/configs/*.yaml")]
    whole = [file for file in files if not file.name.startswith("base_")]  # parts need PLUGINS
    return sorted(str(f) for f in whole if "DATALOADER.NUM_WORKERS" in load_config(f).AUTO)
