"""`medzoo card` and `medzoo push`: model cards of training runs, and models onto the Hub."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medzoo.cli.options import parse_overrides
from medzoo.cli.output import Json, print_json, print_text
from medzoo.errors import ConfigError

if TYPE_CHECKING:
    from medzoo.hub.registry import Registry

logger = logging.getLogger(__name__)

PublishedSettings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a sampling or prediction setting that is published."),
]


def card(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished training run.")],
    about: Annotated[Path, typer.Option(help="TOML file with what a run cannot know: title, data, license, limits.")],
    out: Annotated[Path, typer.Option(help="Folder for the card and its weights.")],
    overrides: PublishedSettings = None,
    as_json: Json = False,
) -> None:
    """Write the model card of a training run."""
    import medzoo

    entry = medzoo.write_card(run, out, about, settings=parse_overrides(overrides))
    samples = out / "samples.png"
    look = samples if samples.is_file() else out
    logger.info(f"card written to {out}; check {look}, then add this entry to a registry file:")
    if as_json:
        print_json({"folder": out, "row": entry})
    else:
        print_text(*entry.splitlines())


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
    overrides: PublishedSettings = None,
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
    publish_fingerprints: Annotated[
        bool,
        typer.Option(
            "--publish-fingerprints",
            help="Publish which images it was trained on, as hashes: whoever has an image can then look it up.",
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
    import medzoo
    from medzoo.hub import registry_file as files
    from medzoo.hub.registry import load_registry
    from medzoo.publishing.push import bundled_models

    if bool(given) == everything:
        raise ConfigError("give either a model to push or --all", "medzoo push ID, or medzoo push --all")
    registry = load_registry()
    packages = medzoo.push(
        *([entry.name for entry in bundled_models(registry)] if everything else [given]),
        repo=repo,
        org=org,
        about=about,
        settings=parse_overrides(overrides),
        version=_number(version),
        create=create,
        private=private,
        force=force,
        accept_memorization=accept_memorization,
        publish_fingerprints=publish_fingerprints,
        dry_run=dry_run,
    )
    facts = []
    for package in packages:
        own = {"id": package.id, "repo": package.repo, "tag": package.tag}
        sending = package.entry["files"]
        if dry_run:
            facts.append(own | {"files": sending, "bytes": sum(file["bytes"] for file in sending)})
            if not as_json:
                print_text(f"{package.id} -> {package.repo}" + (f", tag {package.tag}" if package.tag else ""))
                for file in sending:
                    print_text(f"  {file['sha256']}  {file['bytes']:>12,}  {file['name']}")
            continue
        facts.append(own | {"commit": package.commit, "sent": list(package.sent), "row": package.entry_toml})
        if package.sent:
            logger.info(f"{package.id}: sent {', '.join(package.sent)} to {package.repo} as {package.commit}")
        else:
            logger.info(
                f"{package.id}: {package.repo} already has these files, as {package.commit}; no commit was made"
            )
        if update_registry or registry_file is not None:
            path = registry_file or _registry_file(package.id, registry)
            files.update_registry(path, package.entry)
            logger.info(f"its entry is in {path}")
        elif not as_json:
            logger.info("its entry, for a registry file:")
            print_text(*package.entry_toml.splitlines())
    if as_json:
        print_json(facts)
    if dry_run and not as_json:
        logger.info("dry run: nothing was sent; files that the Hub already has will not be sent again")


def _number(version: str) -> int | None:
    """Parse the number in v3. Raises: ConfigError."""
    digits = version.removeprefix("v")
    if version and not (digits.isdigit() and int(digits) > 0):
        raise ConfigError(f"'{version}' is not a version", "write v1, v2 and so on")
    return int(digits) if version else None


def _registry_file(model_id: str, registry: Registry) -> Path:
    """Return the registry file a model's row belongs into: where it is, unless that came with an installed medzoo."""
    from medzoo.storage.paths import bundled_root, config_root

    row = registry.models.get(model_id)
    installed = bundled_root().name == "bundled"
    if row is None or (installed and row.origin == bundled_root() / "registry.toml"):
        return config_root() / "registry.toml"
    return row.origin
