"""`medzoo card` and `medzoo push`: model cards of training runs, and models onto the Hub."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medzoo.cli.options import complete_models, parse_overrides
from medzoo.cli.output import Json, megabytes, print_json, print_table, print_text
from medzoo.errors import ConfigError

if TYPE_CHECKING:
    from medzoo.hub.registry import Registry
    from medzoo.publishing.dataset import DatasetPackage
    from medzoo.publishing.push import Package

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
        str,
        typer.Argument(
            metavar="ID|RUN|DIR",
            help="A model, a finished training run, or a card folder; with --dataset, an augmented folder.",
            autocompletion=complete_models,
        ),
    ] = "",
    dataset: Annotated[bool, typer.Option("--dataset", help="Publish an augmented folder as a dataset.")] = False,
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
    license: Annotated[
        str, typer.Option(metavar="ID", help="--dataset: its license.  [default: the generators', if they agree]")
    ] = "",
    title: Annotated[str, typer.Option(help="--dataset: title of its card.  [default: NAME]")] = "",
    format: Annotated[str, typer.Option(metavar="parquet|imagefolder", help="--dataset: kind of files.")] = "parquet",
    include_originals: Annotated[
        bool, typer.Option("--include-originals", help="--dataset: publish the real images too.")
    ] = False,
    originals_license: Annotated[
        str, typer.Option(metavar="ID", help="--dataset: license under which the real images may be shared.")
    ] = "",
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
    """Check and upload a model, or an augmented folder as a dataset."""
    import medzoo
    from medzoo.hub.registry import load_registry
    from medzoo.publishing.push import bundled_models

    if dataset:
        wrong = {
            "--all": everything, "--org": org, "--about": about, "--set": overrides, "--version": version,
            "--publish-fingerprints": publish_fingerprints, "--update-registry": update_registry,
            "--registry": registry_file,
        }  # fmt: skip
        _check_absent(wrong, because="--dataset publishes images and no model")
        published = medzoo.push_dataset(
            given,
            repo=repo,
            license=license,
            title=title,
            format=format,
            include_originals=include_originals,
            originals_license=originals_license,
            accept_memorization=accept_memorization,
            create=create,
            private=private,
            force=force,
            dry_run=dry_run,
        )
        _show_dataset(published, dry_run=dry_run, as_json=as_json)
        return
    only_images = {
        "--license": license, "--title": title, "--include-originals": include_originals,
        "--originals-license": originals_license, "--format": format != "parquet",
    }  # fmt: skip
    _check_absent(only_images, because="it publishes an augmented folder, with --dataset")
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
    _show_models(
        packages,
        registry,
        update=update_registry or registry_file is not None,
        registry_file=registry_file,
        dry_run=dry_run,
        as_json=as_json,
    )


def _show_models(
    packages: Sequence[Package],
    registry: Registry,
    *,
    update: bool,
    registry_file: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Print what was sent, or would be, and write registry entries to a file if asked to `update` one."""
    from medzoo.hub import registry_file as files

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
        if update:
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


def _check_absent(options: Mapping[str, object], *, because: str) -> None:
    """Raise ConfigError for the first option that was given."""
    if wrong := next((option for option, value in options.items() if value), None):
        raise ConfigError(f"{wrong} does not apply: {because}", "leave it out, see `medzoo push --help`")


def _show_dataset(package: DatasetPackage, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        sizes = {name: len(data) for name, data in package.files.items()}
        print_json(
            {"repo": package.repo, "counts": package.counts, "files": sizes, "commit": package.commit}
            | {"sent": list(package.sent)}
        )
        return
    origins = sorted({origin for own in package.counts.values() for origin in own}, reverse=True)
    rows = [(name, *(own.get(origin, 0) for origin in origins)) for name, own in package.counts.items()]
    print_table(("class", *origins), rows, right=origins)
    if dry_run:
        size = megabytes(sum(map(len, package.files.values())))
        logger.info(f"dry run: nothing was sent to {package.repo}; {len(package.files)} files of {size} MB")
    elif package.sent:
        logger.info(f"sent {len(package.sent)} files to the dataset {package.repo} as {package.commit}")
    else:
        logger.info(f"{package.repo} already has these files, as {package.commit}; no commit was made")


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
