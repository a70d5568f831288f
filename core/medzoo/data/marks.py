"""Marks inside image files that say what made them: written into medzoo's own PNGs, read from any program's files.

The IPTC's digital source type is what the EU's AI Act, the C2PA and search engines look for. Its terms are defined at
http://cv.iptc.org/newscodes/digitalsourcetype/.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

TRAINED = "trainedAlgorithmicMedia"
"""Created using generative AI: sampled from a model."""
EDITED = "compositeWithTrainedAlgorithmicMedia"
"""Edited using generative AI: a real image that a model varied."""
COMPOSITE = "compositeSynthetic"
"""Composite with elements of generative AI: a sheet of images."""
ALGORITHMIC = "algorithmicMedia"
"""Made by an algorithm that was not trained."""
ALTERED = "algorithmicallyEnhanced"
"""Altered by an algorithm that was not trained: a real image resized, turned, or of other contrast."""

SYNTHETIC_SOURCES = frozenset({TRAINED, EDITED, COMPOSITE, ALGORITHMIC})
KEYWORD = "medzoo"
"""Of the text chunk of a PNG in which medzoo keeps what made it, as JSON."""
URI = "http://cv.iptc.org/newscodes/digitalsourcetype/"

# A packet as XMP Part 1 defines it; bytes of the header are those of every packet.
_XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:CreatorTool="medzoo" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    f'Iptc4xmpExt:DigitalSourceType="{URI}{{}}"/>'
    '</rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
)
_XMP_KEYWORD = b"XML:com.adobe.xmp"
_HEADER_END = 8 + 25  # the signature, then IHDR, which comes first

# Text chunks in which programs for diffusion models keep their settings: what is within, and the programs.
_CHUNKS = {
    "parameters": ("Steps: ", "Stable Diffusion web UI"),
    "prompt": ('"class_type"', "ComfyUI"),
    "sd-metadata": ("", "InvokeAI"),
    "invokeai_metadata": ("", "InvokeAI"),
    "invokeai_graph": ("", "InvokeAI"),
    "Dream": ("", "InvokeAI"),
}
# In a JPEG or WebP, these programs keep the same text in EXIF's UserComment, as a rule in UTF-16.
_COMMENT = ("Steps: ", "Seed: ")
# Of the terms, those that call an image synthetic or altered are found however they are written, others as URIs.
_TERM = re.compile(
    rb"composite(?:WithTrainedAlgorithmicMedia|Synthetic)|(?:trainedA|a)lgorithmic(?:Media|allyEnhanced)"
)
_STATED = re.compile(rb"(?:digitalsourcetype/|digsrctype:)([A-Za-z]+)")
_MANIFEST_TAG = 52545  # of a TIFF with a C2PA manifest
_CREATOR = re.compile(rb"CreatorTool(?:>|=\")([^<\"]{1,80})")


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What made an image: the IPTC's term, and the generator with all that determines its pixels.

    Nothing in it changes from one run to the next, so the same seed gives the same file; neither the name of a real
    image, which may identify a patient, nor the version of medzoo, which run.json states, is part of it.
    """

    source_type: str
    generator: str = ""
    weights_sha256: str | None = None
    seed: int | None = None
    label: str = ""
    strength: float = 1.0

    def facts(self) -> dict[str, Any]:
        """Return what is known, for JSON; the strength only where it is below 1."""
        found = {
            "source_type": self.source_type,
            "generator": self.generator,
            "weights_sha256": self.weights_sha256,
            "seed": self.seed,
            "label": self.label,
            "strength": self.strength if self.strength < 1.0 else None,
        }
        return {key: value for key, value in found.items() if value not in ("", None)}


@dataclass(frozen=True, kw_only=True)
class FoundMarks:
    """What a file's header says of its making: the IPTC's term or "", in which marks, and what made it."""

    source_type: str = ""
    marks: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def synthetic(self) -> bool:
        """Whether a generative model, or an algorithm alone, made or edited the image."""
        return self.source_type in SYNTHETIC_SOURCES

    @property
    def altered(self) -> bool:
        """Whether it is a real image that an algorithm altered."""
        return self.source_type == ALTERED


def png_chunks(mark: Mark) -> bytes:
    """Return the chunks of a PNG that hold a mark: an XMP packet, and medzoo's facts as JSON."""
    packet = xmp_packet(mark.source_type).encode()
    return _chunk(b"iTXt", _XMP_KEYWORD + b"\0\0\0\0\0" + packet) + _chunk(
        b"tEXt", f"{KEYWORD}\0{json.dumps(mark.facts())}".encode("ascii")
    )


def xmp_packet(source_type: str) -> str:
    """Return an XMP packet with one of the IPTC's terms."""
    return _XMP.format(source_type)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def with_mark(png: bytes, mark: Mark) -> bytes:
    """Return a PNG's bytes with a mark behind its header; the pixels' bytes are left as they are."""
    return png[:_HEADER_END] + png_chunks(mark) + png[_HEADER_END:]


def is_marked(png: bytes, mark: Mark) -> bool:
    """Return whether a PNG holds this mark."""
    return png_chunks(mark) in png


def read_marks(image: Image) -> FoundMarks:
    """Return what an opened image's header says of its making.

    Known are the digital source type in XMP or C2PA, medzoo's own text, and settings of diffusion programs.
    """
    info, segments = image.info, getattr(image, "applist", ())
    if not (info or segments or getattr(image, "private_chunks", ()) or hasattr(image, "tag_v2")):
        return FoundMarks()
    xmp = [_as_bytes(value) for key, value in info.items() if "xmp" in str(key).lower()]
    xmp += [segment for name, segment in segments if name == "APP1"]
    manifests = [segment for name, segment in segments if name == "APP11"]
    manifests += [content for kind, content, *_ in getattr(image, "private_chunks", ()) if kind == b"caBX"]
    manifests += [_as_bytes(getattr(image, "tag_v2", {}).get(_MANIFEST_TAG))]
    own, program = _own_facts(info.get(KEYWORD)), _program(info)
    stated = {
        "XMP": _term(b" ".join(xmp), others=True),
        "C2PA": _term(b" ".join(manifests)),
        KEYWORD: str(own.get("source_type", "")),
        "settings": TRAINED if program else "",
    }
    stated = {mark: term for mark, term in stated.items() if term}
    facts: dict[str, Any] = {"program": "medzoo", **own} if own else {}
    facts.pop("source_type", None)
    creator = _CREATOR.search(b" ".join(xmp))
    if name := program or (creator[1].decode(errors="replace") if stated and creator else ""):
        facts.setdefault("program", name)
    return FoundMarks(source_type=leading_term(stated.values()), marks=tuple(stated), facts=facts)


def describe_mark(mark: Mark) -> str:
    """Return a mark as a text, for formats without chunks or XMP: DICOM's DerivationDescription."""
    made = "Real image altered by" if mark.source_type == ALTERED else "Synthetic image made by"
    return f"{made} {KEYWORD} {json.dumps(mark.facts(), ensure_ascii=False)}"


def read_description(text: str) -> FoundMarks:
    """Return the mark of a text of `describe_mark`; no marks for any other text."""
    own = _own_facts(text[text.find("{") :]) if f" by {KEYWORD} " in text else {}
    if not own:
        return FoundMarks()
    term = str(own.pop("source_type"))
    return FoundMarks(source_type=term, marks=(KEYWORD,), facts={"program": KEYWORD, **own})


def leading_term(terms: Iterable[str]) -> str:
    """Return the term that counts where marks disagree: one of generative AI, else the first stated; "" for none."""
    return min(filter(None, terms), key=lambda term: term not in SYNTHETIC_SOURCES, default="")


def _as_bytes(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode(errors="replace")
    return value if isinstance(value, bytes) else b""


def _term(text: bytes, *, others: bool = False) -> str:
    """Return the IPTC's term that a text states, one of generative AI first; with `others`, one of real images too."""
    found = (*_TERM.findall(text), *(_STATED.findall(text) if others else ()))
    return leading_term(match.decode() for match in found)


def _own_facts(text: object) -> dict[str, Any]:
    """Return the facts of medzoo's text chunk; {} where there is none, or another program's."""
    try:
        facts = json.loads(text) if isinstance(text, str) else {}
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) and "source_type" in facts else {}


def _program(info: Mapping[Any, Any]) -> str:
    """Return the diffusion program whose settings a file holds, or ""."""
    for key, (within, program) in _CHUNKS.items():
        if isinstance(info.get(key), str) and within in info[key]:
            return program
    exif = _as_bytes(info.get("exif"))
    for encoding in ("ascii", "utf-16-be", "utf-16-le"):
        if exif and all(text.encode(encoding) in exif for text in _COMMENT):
            return "Stable Diffusion web UI"
    return ""
