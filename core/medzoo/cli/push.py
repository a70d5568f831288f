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
    repo: Annotated[str, typer.Option(metavar="ORG/NAME", help="Repository; default: what the registry says.")] = "",
    org: Annotated[str, typer.Option(help="User or organization, for a repository called as the model.")] = "",
    about: Annotated[
        Path | None, typer.Option(help="TOML file with what a run cannot know, as for `medzoo card`.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of sampling or prediction to publish a run with."),
    ] = None,
    version: Annotated[str, typer.Option(metavar="vN", help="Number of the model's version, and tag there.")] = "",
    create: Annotated[bool, typer.Option("--create", help="Make the repository if it is not there.")] = False,
    private: Annotated[bool, typer.Option("--private", help="Make it a private one.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Put this card over a newer one on the Hub.")] = False,
    accept_memorization: Annotated[
        bool,
        typer.Option(
            "--accept-memorization", help="Publish what failed its memorization check; the card then says so."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check, say what would be sent, and send nothing.")
    ] = False,
    update_registry: Annotated[
        bool, typer.Option("--update-registry", help="Write the row instead of printing it.")
    ] = False,
    registry_file: Annotated[
        Path | None, typer.Option("--registry", metavar="FILE", help="Where; default: the file that has the row now.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a model, send it to the Hub, and print its registry row."""
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
        logger.info(f"checking {request.given}, and what its weights make")
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
        raise ConfigError("say what to push", "medzoo push ID, or --all for all models that came with medzoo")
    if everything and (repo or about is not None):
        raise ConfigError("--all goes to one repository a model", "--org ORG, without --repo and --about")
    if private and not create:
        raise ConfigError("--private is for a repository that is made now", "add --create")


def _number(version: str) -> int | None:
    """Parse the number in v3. Raises: ConfigError."""
    digits = version.removeprefix("v")
    if version and not (digits.isdigit() and int(digits) > 0):
        raise ConfigError(f"'{version}' is no version", "v1, v2 and so on")
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
    logger.info("nothing was sent; files the Hub has already are not sent again")


def _row(package: Package) -> dict[str, Any]:
    return {"files": package.entry["files"], "bytes": sum(file["bytes"] for file in package.entry["files"])}


def _report(
    published: Published, registry: Registry, *, update: bool, file: Path | None, as_json: bool
) -> dict[str, Any]:
    """Log what was published, print or write its registry row, and return both for JSON output."""
    from medzoo.hub.registry_file import entry_toml, update_registry

    package, row = published.package, published.entry
    if published.sent:
        logger.info(f"{package.id}: sent {', '.join(published.sent)} to {package.repo} as {published.commit}")
    else:
        logger.info(f"{package.id}: {package.repo} has all of this already, as {published.commit}; no commit was made")
    if update or file is not None:
        path = file or _registry_file(package.id, registry)
        update_registry(path, row)
        logger.info(f"its row is in {path}")
    elif not as_json:
        logger.info("its row, for a registry file:")
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
