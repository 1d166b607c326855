"""The names that the Hugging Face Hub has for licences."""

import difflib

ADVICE = "name it as https://huggingface.co/docs/hub/repositories-licenses does, such as mit; what is not there is other"

HUB_LICENSES = {
    "afl-3.0", "agpl-3.0", "apache-2.0", "apple-amlr", "apple-ascl", "artistic-2.0", "bigcode-openrail-m",
    "bigscience-bloom-rail-1.0", "bigscience-openrail-m", "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear",
    "bsl-1.0", "c-uda", "cc", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0",
    "cc-by-nc-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0",
    "cc-by-nd-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0",
    "cdla-sharing-1.0", "creativeml-openrail-m", "deepfloyd-if-license", "ecl-2.0", "epl-1.0", "epl-2.0", "etalab-2.0",
    "eupl-1.1", "eupl-1.2", "fair-noncommercial-research-license", "gemma", "gfdl", "gpl", "gpl-2.0", "gpl-3.0",
    "grok2-community", "h-research", "intel-research", "isc", "lgpl", "lgpl-2.1", "lgpl-3.0", "lgpl-lr", "llama2", "llama3",
    "llama3.1", "llama3.2", "llama3.3", "llama4", "lppl-1.3c", "mit", "mpl-2.0", "ms-pl", "ncsa", "odbl", "odc-by", "ofl-1.1",
    "openmdw-1.0", "openrail", "openrail++", "osl-3.0", "other", "pddl", "postgresql", "unknown", "unlicense", "wtfpl",
    "zlib",
}  # fmt: skip
"""Those of https://huggingface.co/docs/hub/repositories-licenses; of a card with another one the Hub refuses the commit."""


def check_license_name(license: str) -> None:
    """Refuse a licence that the Hub does not know by this name.

    Args:
        license (`str`): The licence.

    Raises:
        ValueError: If the Hub would refuse a card with it.
    """
    if license not in HUB_LICENSES:
        close = difflib.get_close_matches(license[:40].lower().replace(" ", "-"), HUB_LICENSES, n=1)
        hint = f"did you mean {close[0]!r}?" if close else ADVICE
        raise ValueError(f"the Hub knows no licence {license[:40]!r}; {hint}")
