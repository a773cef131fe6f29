"""How near its centre a row is surely one component's, whatever the others.

C. Elkan, "Using the triangle inequality to accelerate k-means", ICML 2003, lemma 1,
here for norms that differ from component to component.
"""

import numpy as np

# What rounding may take from a distance, and what is left to spare of a reach.
ROUNDING = 1e-12
SPARE = 2.0**-9


def sure_above(whitening, centers, log_norm, margin):
    """Return the joint log density at which component k surely leads by a margin.

    Let a row be r from the centre of k, as k whitens; D the distance of the centre of j
    from it, as j whitens; and g the most by which j whitens stronger. Then by the
    triangle inequality, and while that is positive, the row is ``D - g r`` or more from
    the centre of j. The log density of k exceeds that of j by the margin up to the
    least root of ``(D - g r)**2 - r**2 = margin + log_norm[j] - log_norm[k]``.

    Parameters
    ----------
    whitening, centers : ndarray of shape (K, D)
        Of densities ``log_norm[k] - |whitening[k] * (x - centers[k])|**2``.
    log_norm : ndarray of shape (K,)
    margin : float

    Returns
    -------
    ndarray of shape (K,)
        Infinite where there is no such density.
    """
    with np.errstate(all="ignore"):
        squared = _squared_distances(whitening, centers)
        apart = np.sqrt(squared)
        # By way of a common measure it takes 2 K D quotients, not K K D.
        common = np.sqrt(whitening.min(axis=0)) * np.sqrt(whitening.max(axis=0))
        relative = whitening / common
        stronger = np.outer(1 / relative.min(axis=1), relative.max(axis=1))
        behind = margin + log_norm - log_norm[:, None]
        discriminant = squared + (stronger**2 - 1) * behind
        root = np.sqrt(np.maximum(discriminant, 0.0))
        reach = (squared - behind) / (apart * stronger + root)
        reach = np.minimum(reach, apart / stronger)
        reach[:, log_norm == -np.inf] = np.inf
        np.fill_diagonal(reach, np.inf)
        reach = reach.min(axis=1)
        return np.where(reach > 0, log_norm - ((1 - SPARE) * reach) ** 2, np.inf)


def _squared_distances(whitening, centers):
    """Return how far each centre is from each other as that whitens, at least."""
    precision = whitening**2
    own = centers**2 @ precision.T
    cross = centers @ (precision * centers).T
    total = own + np.diagonal(own)
    return np.maximum((1 - ROUNDING) * total - 2 * cross, 0.0)
