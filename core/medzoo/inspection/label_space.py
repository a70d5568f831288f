"""How similar a model's labels are to each other, computed from its label tokens alone."""

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
TSNE_RUNS = 5

# With fewer points, any two components explain everything, and all points are each other's neighbors.
MIN_PCA, MIN_TSNE = 3, 10


@dataclass(frozen=True, kw_only=True)
class PrincipalComponents:
    """Points (N, 2) on their first two principal components, and the shares of variance these explain."""

    points: np.ndarray
    explained: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class TsneEmbedding:
    """t-SNE embeddings (runs, N, 2) of the same points, aligned to each other, and their `mean` (N, 2).

    `disparity` is the mean squared distance of the runs from their mean, with each run scaled to a sum of squares of
    1: 0 where all runs agree, near 1 where they have nothing in common.
    """

    runs: np.ndarray
    mean: np.ndarray
    perplexity: float
    disparity: float


@dataclass(frozen=True, kw_only=True)
class LabelSpace:
    """The tokens (labels, tokens, width) of `labels`, the last of which may be "no label", and their similarities.

    `cosine` and `euclidean` (labels, labels) and `pca_labels` compare labels by their concatenated tokens;
    `pca_tokens` and `tsne` place every token by itself, those of the first label first.
    """

    labels: tuple[str, ...]
    tokens: np.ndarray
    cosine: np.ndarray
    euclidean: np.ndarray
    pca_labels: PrincipalComponents | None
    pca_tokens: PrincipalComponents | None
    tsne: TsneEmbedding | None

    @property
    def norms(self) -> np.ndarray:
        """The Euclidean norm of every token, (labels, tokens)."""
        norms: np.ndarray = np.linalg.norm(self.tokens.astype(np.float64), axis=2)
        return norms


def label_space(model: LoadedModel[Generator], *, seed: int) -> LabelSpace:
    """Compare the labels of a model that has label tokens; the seeds of t-SNE derive from `seed`."""
    from scipy.spatial.distance import cdist
    from sklearn.metrics.pairwise import cosine_similarity

    generator = model.model
    assert isinstance(generator, LabelTokens)
    names = model.image.classes
    labels = label_tensor(model.image, names)
    if generator.no_label is not None:
        names, labels = (*names, NO_LABEL), torch.cat([labels, generator.no_label[None].to(labels)])
    tokens = generator.label_tokens(labels).float().cpu().numpy()
    joined, single = tokens.reshape(len(tokens), -1).astype(np.float64), tokens.reshape(-1, tokens.shape[-1])
    return LabelSpace(
        labels=names,
        tokens=tokens,
        cosine=cosine_similarity(joined),
        euclidean=cdist(joined, joined),
        pca_labels=principal_components(joined),
        pca_tokens=principal_components(single),
        tsne=tsne_embedding(single, seeds=[derive_seed(seed, "t-SNE", run) % 2**32 for run in range(TSNE_RUNS)]),
    )


def principal_components(vectors: np.ndarray) -> PrincipalComponents | None:
    """Project vectors (N, D) on their first two principal components; return None for too few of them."""
    from sklearn.decomposition import PCA

    if len(vectors) < MIN_PCA or vectors.shape[1] < 2:
        return None
    pca = PCA(n_components=2, svd_solver="full")
    points = pca.fit_transform(vectors.astype(np.float64))
    first, second = pca.explained_variance_ratio_
    return PrincipalComponents(points=points, explained=(float(first), float(second)))


def tsne_embedding(vectors: np.ndarray, *, seeds: Sequence[int]) -> TsneEmbedding | None:
    """Embed vectors (N, D) by t-SNE, once per seed (van der Maaten & Hinton 2008); return None for too few of them.

    Runs start from random positions, so that their agreement owes nothing to the start. They are aligned to the first
    run, then to their mean, by translation, rotation, reflection and scaling (generalized Procrustes analysis, Gower
    1975).
    """
    from scipy.spatial import procrustes
    from sklearn.manifold import TSNE

    if len(vectors) < MIN_TSNE:
        return None
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    runs = [
        TSNE(perplexity=perplexity, init="random", method="exact", random_state=seed).fit_transform(vectors)
        for seed in seeds
    ]
    reference = runs[0].astype(np.float64)
    for _ in range(2):
        aligned = np.stack([procrustes(reference, run.astype(np.float64))[1] for run in runs])
        reference = aligned.mean(axis=0)
    disparity = float(np.mean([procrustes(reference, run)[2] for run in aligned]))
    return TsneEmbedding(runs=aligned, mean=reference, perplexity=perplexity, disparity=disparity)
