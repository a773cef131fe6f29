"""K-means: the limit of mixtures in which rows are wholly of one component."""
