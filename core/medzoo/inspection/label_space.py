"""How a model's labels lie to each other: the numbers behind `medzoo inspect`, from label tokens alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from medzoo.models.labels import label_tensor
from medzoo.models.loading import LoadedModel
from medzoo.protocols import Generator, LabelTokens
from medzoo.seeds import derive_seed

NO_LABEL = "no label"
TSNE_SEEDS = 5

# Below these a plane through the points shows nothing, and neighbourhoods are all the same.
MIN_PCA, MIN_TSNE = 3, 10


@dataclass(frozen=True, kw_only=True)
class Plane:
    """Points (N, 2) on their two principal components, which carry the shares `explained` of their variance."""

    points: np.ndarray
    explained: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Neighbourhoods:
    """t-SNE maps (seeds, N, 2) of the same points, aligned, and their `mean` (N, 2).

    `disparity` is the mean squared distance of the maps to their mean, where every map has a sum of squares of 1: 0 for
    maps that agree, near 1 for maps that have nothing in common.
    """

    maps: np.ndarray
    mean: np.ndarray
    perplexity: float
    disparity: float


@dataclass(frozen=True, kw_only=True)
class LabelSpace:
    """The tokens (labels, tokens, width) of `labels`, the last of which may be "no label", and what follows from them.

    `cosine` and `euclidean` (labels, labels) and `classes_plane` compare labels by their tokens joined to one vector;
    `tokens_plane` and `tsne` place every token by itself, those of the first label first.
    """

    labels: tuple[str, ...]
    tokens: np.ndarray
    cosine: np.ndarray
    euclidean: np.ndarray
    classes_plane: Plane | None
    tokens_plane: Plane | None
    tsne: Neighbourhoods | None

    @property
    def norms(self) -> np.ndarray:
        """The Euclidean length of every token, (labels, tokens)."""
        lengths: np.ndarray = np.linalg.norm(self.tokens.astype(np.float64), axis=2)
        return lengths


def label_space(model: LoadedModel[Generator], *, seed: int) -> LabelSpace:
    """How the labels of a model lie to each other; t-SNE starts from seeds that follow from `seed`."""
    generator = model.model
    assert isinstance(generator, LabelTokens)
    names = model.image.classes
    given = label_tensor(model.image, names)
    if generator.no_label is not None:
        names, given = (*names, NO_LABEL), torch.cat([given, generator.no_label[None].to(given)])
    tokens = generator.label_tokens(given).float().cpu().numpy()
    joined, each = tokens.reshape(len(tokens), -1), tokens.reshape(-1, tokens.shape[-1])
    return LabelSpace(
        labels=names,
        tokens=tokens,
        cosine=cosine_similarities(joined),
        euclidean=euclidean_distances(joined),
        classes_plane=principal_plane(joined),
        tokens_plane=principal_plane(each),
        tsne=neighbourhoods(each, seeds=[derive_seed(seed, "t-SNE", k) % 2**32 for k in range(TSNE_SEEDS)]),
    )


def principal_plane(vectors: np.ndarray) -> Plane | None:
    """Vectors (N, D) on their first two principal components; None where there are too few for it."""
    from sklearn.decomposition import PCA

    if len(vectors) < MIN_PCA or vectors.shape[1] < 2:
        return None
    analysis = PCA(n_components=2, svd_solver="full")
    points = analysis.fit_transform(vectors.astype(np.float64))
    first, second = analysis.explained_variance_ratio_
    return Plane(points=points, explained=(float(first), float(second)))


def neighbourhoods(vectors: np.ndarray, *, seeds: Sequence[int]) -> Neighbourhoods | None:
    """t-SNE of vectors (N, D), one map a seed (van der Maaten & Hinton 2008); None where there are too few for it.

    Maps start at random, so that what they agree on is no work of the start. They are moved, turned, mirrored and
    scaled onto the first one, then onto their mean (generalised Procrustes analysis, Gower 1975).
    """
    from scipy.spatial import procrustes
    from sklearn.manifold import TSNE

    if len(vectors) < MIN_TSNE:
        return None
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    maps = [
        TSNE(perplexity=perplexity, init="random", method="exact", random_state=seed).fit_transform(vectors)
        for seed in seeds
    ]
    reference = maps[0].astype(np.float64)
    for _ in range(2):
        aligned = np.stack([procrustes(reference, own.astype(np.float64))[1] for own in maps])
        reference = aligned.mean(axis=0)
    disparity = float(np.mean([procrustes(reference, own)[2] for own in aligned]))
    return Neighbourhoods(maps=aligned, mean=reference, perplexity=perplexity, disparity=disparity)


def cosine_similarities(vectors: np.ndarray) -> np.ndarray:
    """Cosines (N, N) between vectors (N, D)."""
    from sklearn.metrics.pairwise import cosine_similarity

    similarities: np.ndarray = cosine_similarity(vectors.astype(np.float64))
    return similarities


def euclidean_distances(vectors: np.ndarray) -> np.ndarray:
    """Distances (N, N) between vectors (N, D)."""
    from scipy.spatial.distance import cdist

    distances: np.ndarray = cdist(vectors.astype(np.float64), vectors.astype(np.float64))
    return distances
