"""Who may write to a repository on the Hub."""

from collections.abc import Mapping
from typing import Any


def check_write_access(user: Mapping[str, Any], hub_model_id: str) -> None:
    """Refuse a token that may not write to a repository, as far as the Hub says it beforehand.

    Args:
        user (`Mapping`): What `whoami` says of the token.
        hub_model_id (`str`): `ORG/NAME` or `USER/NAME`.

    Raises:
        ValueError: If it may not.
    """
    owner = hub_model_id.split("/")[0]
    orgs = [org["name"] for org in user.get("orgs", ())]
    if owner not in (user["name"], *orgs):
        there_are = ", ".join([user["name"], *orgs])
        raise ValueError(f"{user['name']} is no member of {owner}; give a `hub_model_id` under one of: {there_are}")
    token = user.get("auth", {}).get("accessToken", {})
    if not _may_write(token, {owner, hub_model_id}):
        raise ValueError(
            f"the token {token.get('displayName', '')!r} may not write to {hub_model_id}; "
            "make one that may at https://huggingface.co/settings/tokens"
        )


def _may_write(token: Mapping[str, Any], names: set[str]) -> bool:
    """Whether a token's role allows to write, for a fine-grained one to a repository or an owner of these names."""
    if token.get("role") != "fineGrained":
        return token.get("role") != "read"
    scopes = token.get("fineGrained", {}).get("scoped", ())
    writable = {scope["entity"].get("name") for scope in scopes if "repo.write" in scope["permissions"]}
    return not names.isdisjoint(writable)
