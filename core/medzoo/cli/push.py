"""`medzoo push`: models onto the Hub."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medzoo.cli.options import parse_overrides
from medzoo.cli.output import Json, print_json, print_text
from medzoo.errors import ConfigError

if TYPE_CHECKING:
    from medzoo.hub.registry import Registry
    from medzoo.publishing.package import Package
    from medzoo.publishing.push import Published

logger = logging.getLogger(__name__)


def push(
    given: Annotated[
        str, typer.Argument(metavar="ID|RUN|DIR", help="A model, a finished training run, or a card folder.")
    ] = "",
    everything: Annotated[bool, typer.Option("--all", help="All models that came with medzoo.")] = False,
    repo: Annotated[str, typer.Option(metavar="ORG/NAME", help="Repository.  [default: the one in the registry]")] = "",
    org: Annotated[str, typer.Option(help="User or organization; the repository is named after the model.")] = "",
    about: Annotated[
        Path | None, typer.Option(help="TOML file of title, data, license and limits, as for `medzoo card`.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A sampling or prediction setting that is published."),
    ] = None,
    version: Annotated[str, typer.Option(metavar="vN", help="Version of the model and tag in the repository.")] = "",
    create: Annotated[bool, typer.Option("--create", help="Create the repository if missing.")] = False,
    private: Annotated[bool, typer.Option("--private", help="Make the new repository private.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a newer card on the Hub.")] = False,
    accept_memorization: Annotated[
        bool,
        typer.Option(
            "--accept-memorization", help="Publish a model that failed its memorization check; the card states it."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the model and list what would be sent, without sending it.")
    ] = False,
    update_registry: Annotated[
        bool, typer.Option("--update-registry", help="Write the registry entry instead of printing it.")
    ] = False,
    registry_file: Annotated[
        Path | None,
        typer.Option("--registry", metavar="FILE", help="Registry file to write.  [default: the entry's own]"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a model, upload it, and print its registry entry."""
    from medzoo.hub.registry import load_registry
    from medzoo.plugins.lookup import load_plugins
    from medzoo.publishing.card import About
    from medzoo.publishing.package import Request, build_package, bundled_models
    from medzoo.publishing.push import publish

    _check_options(given, everything=everything, repo=repo, about=about, private=private, create=create)
    plugins = load_plugins()
    registry = load_registry(plugins=plugins)
    facts = About.read(about) if about is not None else None
    requests = [
        Request(
            given=name,
            repo=repo,
            org=org,
            about=facts,
            overrides=parse_overrides(overrides),
            version=_number(version),
            accept_memorization=accept_memorization,
        )
        for name in ([row.name for row in bundled_models(registry)] if everything else [given])
    ]
    packages = []
    for request in requests:
        logger.info(f"checking {request.given} and samples of its weights")
        packages.append(build_package(request, registry=registry, plugins=plugins))
    if dry_run:
        _print_packages(packages, as_json=as_json)
        return
    rows = []
    for package in packages:
        published = publish(package, create=create, private=private, force=force)
        rows.append(_report(published, registry, update=update_registry, file=registry_file, as_json=as_json))
    if as_json:
        print_json(rows)


def _check_options(given: str, *, everything: bool, repo: str, about: Path | None, private: bool, create: bool) -> None:
    if bool(given) == everything:
        raise ConfigError(
            "give either a model to push or --all",
            "medzoo push ID, or medzoo push --all",
        )
    if everything and (repo or about is not None):
        raise ConfigError("--all takes neither --repo nor --about: each model has its own", "pass --org ORG")
    if private and not create:
        raise ConfigError("--private applies only to a new repository", "add --create")


def _number(version: str) -> int | None:
    """Parse the number in v3. Raises: ConfigError."""
    digits = version.removeprefix("v")
    if version and not (digits.isdigit() and int(digits) > 0):
        raise ConfigError(f"'{version}' is not a version", "write v1, v2 and so on")
    return int(digits) if version else None


def _print_packages(packages: list[Package], *, as_json: bool) -> None:
    """Print what would be sent."""
    if as_json:
        print_json(
            [{"id": package.id, "repo": package.repo, "tag": package.tag, **_row(package)} for package in packages]
        )
        return
    for package in packages:
        print_text(f"{package.id} -> {package.repo}" + (f", tag {package.tag}" if package.tag else ""))
        for file in package.entry["files"]:
            print_text(f"  {file['sha256']}  {file['bytes']:>12,}  {file['name']}")
    logger.info("dry run: nothing was sent; files that the Hub already has will not be sent again")


def _row(package: Package) -> dict[str, Any]:
    return {"files": package.entry["files"], "bytes": sum(file["bytes"] for file in package.entry["files"])}


def _report(
    published: Published, registry: Registry, *, update: bool, file: Path | None, as_json: bool
) -> dict[str, Any]:
    """Log what was published, print or write its registry entry, and return both for JSON output."""
    from medzoo.hub.registry_file import entry_toml, update_registry

    package, row = published.package, published.entry
    if published.sent:
        logger.info(f"{package.id}: sent {', '.join(published.sent)} to {package.repo} as {published.commit}")
    else:
        logger.info(f"{package.id}: {package.repo} already has these files, as {published.commit}; no commit was made")
    if update or file is not None:
        path = file or _registry_file(package.id, registry)
        update_registry(path, row)
        logger.info(f"its entry is in {path}")
    elif not as_json:
        logger.info("its entry, for a registry file:")
        print_text(entry_toml(row))
    return {
        "id": package.id,
        "repo": package.repo,
        "commit": published.commit,
        "tag": package.tag,
        "sent": list(published.sent),
        "row": entry_toml(row),
    }


def _registry_file(model_id: str, registry: Registry) -> Path:
    """Return the registry file a model's row belongs into: where it is, unless that came with an installed medzoo."""
    from medzoo.storage.paths import bundled_root, config_root

    row = registry.models.get(model_id)
    installed = bundled_root().name == "bundled"
    if row is None or (installed and row.origin == bundled_root() / "registry.toml"):
        return config_root() / "registry.toml"
    return row.origin
