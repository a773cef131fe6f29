"""Speed and result of KMeans, which seeds the mixtures."""

from fastem import KMeans

from .mixture import N_COMPONENTS, blobs, setup_cache  # noqa: F401 - asv calls it


class Seeding:
    def setup(self):
        self.X, _ = blobs()
        self.first_rows = self.X[:N_COMPONENTS]
        self.time_plus_plus()
        self.time_ten_iterations()

    def time_plus_plus(self):
        KMeans(N_COMPONENTS, n_init=1, max_iter=1, random_state=0).fit(self.X)

    def time_ten_iterations(self):
        self._fit_ten_iterations()

    def track_inertia(self):
        return self._fit_ten_iterations().inertia_ / len(self.X)

    track_inertia.unit = "per row"

    def _fit_ten_iterations(self):
        model = KMeans(N_COMPONENTS, init=self.first_rows, n_init=1, max_iter=10, tol=0)
        return model.fit(self.X)
