"""What the Hub answers to each request a push or a pull makes."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qs, quote, unquote

from helpers.hub_store import Blob, Commit, Refusal, Repo, Store, git_hash, is_large


class Hub(Protocol):
    """The state, and the addresses it is served at."""

    store: Store
    url: str
    cdn: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What goes back: JSON, or the bytes of a file with its `etag`."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def error_headers(message: str, code: str = "") -> dict[str, str]:
    """The headers in which the Hub tells its client what is wrong."""
    return {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}


def _json(values: Any, status: int = 200) -> Answer:
    return Answer(status=status, body=json.dumps(values).encode(), headers={"Content-Type": "application/json"})


@dataclass(frozen=True, kw_only=True)
class _Call:
    """One request as the routes see it."""

    hub: Hub
    body: bytes
    query: dict[str, list[str]]
    token: str

    def json(self) -> Any:
        return json.loads(self.body)


def answer(hub: Hub, origin: str, method: str, path: str, query: str, body: bytes, token: str) -> Answer:
    """The answer of the first route that knows the request. Raises: Refusal."""
    call = _Call(hub=hub, body=body, query=parse_qs(query), token=token)
    # A dataset has the routes of a model; here, no two of them share a name.
    path = re.sub(r"^/api/datasets/", "/api/models/", re.sub(r"^/datasets/(?=.+(\.git|/resolve)/)", "/", path))
    wanted = "GET" if method == "HEAD" else method
    for of, verb, pattern, route in _ROUTES:
        if of == origin and verb == wanted and (match := re.fullmatch(pattern, path)):
            return route(call, **{name: unquote(value or "") for name, value in match.groupdict().items()})
    raise Refusal(404, f"no route for {method} {path}")


def _whoami(call: _Call) -> Answer:
    user = call.hub.store.user(call.token)
    if user is None:
        raise Refusal(401, "Invalid username or password.")
    return _json({"type": "user", "name": user.user, "orgs": [], "auth": {"accessToken": {"role": "write"}}})


def _validate_yaml(call: _Call) -> Answer:
    """As the Hub judges a card's front matter: none is a warning, YAML it cannot use an error."""
    import yaml

    content = call.json()["content"]
    match = re.match(r"\s*---\n(.*?)\n---\s*(\n|$)", content, re.DOTALL)
    if match is None:
        return _json({"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]})
    try:
        facts = yaml.safe_load(match[1])
        bad = "" if isinstance(facts, dict) else "metadata must be a mapping"
        if not bad and not isinstance(facts.get("license", ""), str | list):
            bad = '"license" must be a string'
    except yaml.YAMLError as error:
        bad = str(error)
    return _json({"errors": [{"message": bad}] if bad else [], "warnings": []}, 400 if bad else 200)


def _create(call: _Call) -> Answer:
    asked = call.json()
    user = call.hub.store.user(call.token)
    repo_id = f"{asked.get('organization') or (user.user if user else '')}/{asked['name']}"
    url = f"{call.hub.url}/{repo_id}"
    try:
        call.hub.store.create(repo_id, call.token, private=asked.get("visibility") == "private")
    except Refusal as refusal:
        if refusal.status == 409:
            return _json({"error": refusal.message, "url": url}, 409)
        raise
    return _json({"url": url, "name": repo_id})


def _delete(call: _Call) -> Answer:
    asked = call.json()
    repo = call.hub.store.writable(f"{asked['organization']}/{asked['name']}", call.token)
    del call.hub.store.repos[repo.id]
    return _json({})


def _model(call: _Call, repo: str, revision: str) -> Answer:
    found = call.hub.store.readable(repo, call.token)
    commit = found.at(revision or "main")
    siblings = [_sibling(path, blob, full="blobs" in call.query) for path, blob in commit.files.items()]
    facts = {"id": repo, "modelId": repo, "sha": commit.oid, "private": found.private, "siblings": siblings}
    return _json({**facts, "tags": [], "lastModified": f"{commit.date:%Y-%m-%dT%H:%M:%S.000Z}"})


def _sibling(path: str, blob: Blob, *, full: bool) -> dict[str, Any]:
    """A file as a model's facts show it: its name, and in `full` its size and hashes."""
    if not full:
        return {"rfilename": path}
    size = len(blob.data)
    lfs = {"lfs": {"sha256": blob.sha256, "size": size, "pointerSize": len(blob.pointer)}} if blob.lfs else {}
    return {"rfilename": path, "size": size, "blobId": blob.oid, **lfs}


def _facts(path: str, blob: Blob) -> dict[str, Any]:
    """A file as trees and path infos show it."""
    lfs = {"lfs": {"oid": blob.sha256, "size": len(blob.data), "pointerSize": len(blob.pointer)}} if blob.lfs else {}
    return {"type": "file", "path": path, "oid": blob.oid, "size": len(blob.data), **lfs}


def _entries(commit: Commit, folder: str, *, recursive: bool) -> list[dict[str, Any]]:
    """The files of a folder and the folders in it, as a tree shows them."""
    prefix = f"{folder}/" if folder else ""
    entries: dict[str, dict[str, Any]] = {}
    for path, blob in sorted(commit.files.items()):
        if not path.startswith(prefix):
            continue
        *folders, _ = path.removeprefix(prefix).split("/")
        for depth in range(1, len(folders) + 1):
            name = prefix + "/".join(folders[:depth])
            if depth == 1 or recursive:
                entries[name] = {"type": "directory", "path": name, "oid": git_hash(name.encode()), "size": 0}
        if recursive or not folders:
            entries[path] = _facts(path, blob)
    return list(entries.values())


def _tree(call: _Call, repo: str, revision: str, folder: str) -> Answer:
    commit = call.hub.store.readable(repo, call.token).at(revision)
    entries = _entries(commit, folder, recursive=call.query.get("recursive", [""])[0].lower() == "true")
    if folder and not entries:
        raise Refusal(404, "Entry not found", "EntryNotFound")
    return _json(entries)


def _paths_info(call: _Call, repo: str, revision: str) -> Answer:
    files = call.hub.store.readable(repo, call.token).at(revision).files
    paths = parse_qs(call.body.decode()).get("paths", [])
    return _json([_facts(path, files[path]) for path in paths if path in files])


def _refs(call: _Call, repo: str) -> Answer:
    found = call.hub.store.readable(repo, call.token)

    def listed(kind: str, refs: dict[str, str]) -> list[dict[str, str]]:
        return [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": oid} for name, oid in refs.items()]

    return _json({"branches": listed("heads", found.branches), "converts": [], "tags": listed("tags", found.tags)})


def _commits(call: _Call, repo: str, revision: str) -> Answer:
    found = call.hub.store.readable(repo, call.token)
    oids = list(found.commits)
    newest_first = oids[: oids.index(found.at(revision).oid) + 1][::-1]
    return _json([_commit_facts(found.commits[oid]) for oid in newest_first])


def _commit_facts(commit: Commit) -> dict[str, Any]:
    date = f"{commit.date:%Y-%m-%dT%H:%M:%S.000Z}"
    return {"id": commit.oid, "title": commit.title, "message": "", "authors": [], "date": date}


def _tag(call: _Call, repo: str, revision: str) -> Answer:
    found = call.hub.store.writable(repo, call.token)
    tag = call.json()["tag"]
    if tag in found.tags:
        raise Refusal(409, f"Tag {tag} already exists")
    found.tags[tag] = found.at(revision).oid
    return _json({})


def _delete_tag(call: _Call, repo: str, revision: str) -> Answer:
    found = call.hub.store.writable(repo, call.token)
    if found.tags.pop(revision, None) is None:
        raise Refusal(404, f"Tag {revision} does not exist", "RevisionNotFound")
    return _json({})


def _preupload(call: _Call, repo: str, revision: str) -> Answer:
    files = call.hub.store.writable(repo, call.token).at(revision).files
    answers = []
    for file in call.json()["files"]:
        path = file["path"]
        large = is_large(path, base64.b64decode(file["sample"])) or file["size"] > 10_000_000
        known = files[path].etag if path in files else None
        mode = "lfs" if large else "regular"
        answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": known})
    return _json({"files": answers})


def _lfs_batch(call: _Call, repo: str) -> Answer:
    call.hub.store.writable(repo, call.token)
    objects = []
    for item in call.json()["objects"]:
        known = item["oid"] in call.hub.store.objects
        actions = {
            "upload": {"href": f"{call.hub.cdn}/upload/{item['oid']}"},
            "verify": {"href": f"{call.hub.url}/{repo}.git/info/lfs/verify"},
        }
        objects.append({"oid": item["oid"], "size": item["size"], **({} if known else {"actions": actions})})
    return _json({"transfer": "basic", "objects": objects})


def _lfs_upload(call: _Call, oid: str) -> Answer:
    if hashlib.sha256(call.body).hexdigest() != oid:
        raise Refusal(400, "the content does not have that SHA-256")
    call.hub.store.objects[oid] = call.body
    return Answer()


def _lfs_verify(call: _Call, repo: str) -> Answer:
    call.hub.store.writable(repo, call.token)
    item = call.json()
    if len(call.hub.store.objects.get(item["oid"], b"")) != item["size"]:
        raise Refusal(404, "the object was not uploaded")
    return _json({})


def _commit(call: _Call, repo: str, revision: str) -> Answer:
    found = call.hub.store.writable(repo, call.token)
    if revision not in found.branches:
        raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    lines = [json.loads(line) for line in call.body.splitlines()]
    header = next(line["value"] for line in lines if line["key"] == "header")
    if header.get("parentCommit", found.branches[revision]) != found.branches[revision]:
        raise Refusal(412, "A commit has happened since. Please refresh and try again.")
    files = dict(found.at(revision).files)
    for line in lines:
        _apply(line["key"], line["value"], files, call.hub.store)
    oid = call.hub.store.commit(found, files, title=header["summary"], branch=revision)
    url = f"{call.hub.url}/{repo}/commit/{oid}"
    return _json({"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})


def _apply(key: str, value: dict[str, Any], files: dict[str, Blob], store: Store) -> None:
    """Nothing; one line of a commit has changed `files`. Raises: Refusal."""
    match key:
        case "header":
            pass
        case "file":
            data = base64.b64decode(value["content"])
            if is_large(value["path"], data):
                raise Refusal(400, f"{value['path']} must go through large file storage")
            files[value["path"]] = Blob(data=data, lfs=False)
        case "lfsFile":
            if value["oid"] not in store.objects:
                raise Refusal(400, f"the object {value['oid']} was not uploaded")
            files[value["path"]] = Blob(data=store.objects[value["oid"]], lfs=True)
        case "deletedFile":
            if files.pop(value["path"], None) is None:
                raise Refusal(404, "A file with this name doesn't exist", "EntryNotFound")
        case "deletedFolder":
            for path in [path for path in files if path.startswith(f"{value['path'].rstrip('/')}/")]:
                del files[path]
        case _:
            raise Refusal(400, f"unknown operation {key}")


def _resolve(call: _Call, repo: str, revision: str, path: str) -> Answer:
    found: Repo = call.hub.store.readable(repo, call.token)
    commit, blob = found.file(revision, path)
    headers = {"X-Repo-Commit": commit.oid}
    if not blob.lfs:
        return _file(blob, headers)
    call.hub.store.objects[blob.sha256] = blob.data
    headers |= {"X-Linked-Size": str(len(blob.data)), "X-Linked-ETag": f'"{blob.etag}"'}
    signed = f"{call.hub.cdn}/{blob.sha256}/{quote(path)}?signature=1"
    return Answer(status=302, headers={**headers, "Location": signed})


def _object(call: _Call, oid: str, path: str) -> Answer:
    if call.token:
        raise Refusal(400, "a signed address takes no token")
    if oid not in call.hub.store.objects or "signature" not in call.query:
        raise Refusal(403, "AccessDenied")
    return _file(Blob(data=call.hub.store.objects[oid], lfs=True), {})


def _file(blob: Blob, headers: dict[str, str]) -> Answer:
    return Answer(body=blob.data, headers={**headers, "ETag": f'"{blob.etag}"', "Accept-Ranges": "bytes"})


_REPO = r"(?P<repo>[^/]+/[^/]+)"
_API = rf"/api/models/{_REPO}"
_REVISION = r"(?P<revision>[^/]+)"
_ROUTES: tuple[tuple[str, str, str, Callable[..., Answer]], ...] = (
    ("hub", "GET", "/api/whoami-v2", _whoami),
    ("hub", "POST", "/api/validate-yaml", _validate_yaml),
    ("hub", "POST", "/api/repos/create", _create),
    ("hub", "DELETE", "/api/repos/delete", _delete),
    ("hub", "GET", rf"{_API}(/revision/{_REVISION})?", _model),
    ("hub", "GET", rf"{_API}/tree/{_REVISION}(/(?P<folder>.+))?", _tree),
    ("hub", "POST", rf"{_API}/paths-info/{_REVISION}", _paths_info),
    ("hub", "GET", rf"{_API}/refs", _refs),
    ("hub", "GET", rf"{_API}/commits/{_REVISION}", _commits),
    ("hub", "POST", rf"{_API}/tag/{_REVISION}", _tag),
    ("hub", "DELETE", rf"{_API}/tag/{_REVISION}", _delete_tag),
    ("hub", "POST", rf"{_API}/preupload/{_REVISION}", _preupload),
    ("hub", "POST", rf"{_API}/commit/{_REVISION}", _commit),
    ("hub", "POST", rf"/{_REPO}\.git/info/lfs/objects/batch", _lfs_batch),
    ("hub", "POST", rf"/{_REPO}\.git/info/lfs/verify", _lfs_verify),
    ("hub", "GET", rf"/{_REPO}/resolve/{_REVISION}/(?P<path>.+)", _resolve),
    ("cdn", "PUT", r"/upload/(?P<oid>[0-9a-f]{64})", _lfs_upload),
    ("cdn", "GET", r"/(?P<oid>[0-9a-f]{64})/(?P<path>.+)", _object),
)
