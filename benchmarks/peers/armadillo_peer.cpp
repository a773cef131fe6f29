// EM by Armadillo, from a given start for a given number of iterations.
//
//     armadillo_peer FOLDER ROWS FEATURES full|diag ITERATIONS
//
// FOLDER holds raw doubles: data, weights, means, covariances. The last three are
// replaced by the fit. Prints the seconds of one iteration with its set-up and of all,
// the mean log-likelihood that the last iteration started from, and the bytes by which
// EM raised the peak of this process (-1: unknown).
#include <armadillo>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <string>
using arma::uword;

template <class Array>
Array load(const std::string& path) {
  Array array;
  if (!array.load(path, arma::raw_binary)) throw std::runtime_error("no " + path);
  return array;
}

double peak_bytes() {  // of resident memory since it was last reset; Linux alone tells
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;)
    if (double kilobytes; word == "VmHWM:" && status >> kilobytes)
      return 1024 * kilobytes;
  return -1;
}

// A variance floor of zero stands for the smallest normal number: no floor, in effect.
// Distances between means play no part where neither seeding nor k-means is asked for.
template <class Model>
double seconds_to_learn(Model& model, const arma::mat& data, uword n_iter) {
  const auto start = std::chrono::steady_clock::now();
  const bool learnt = model.learn(data, model.n_gaus(), arma::eucl_dist,
                                  arma::keep_existing, 0, n_iter, 0.0, false);
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  if (!learnt) throw std::runtime_error("learn() failed");
  return taken.count();
}

// Iterations are asked for one by one: learn() ends early once two log-likelihoods are
// equal to the last bit, which well separated blobs reach in two or three iterations.
// What learn() takes with no iteration at all, its checks and copies, is taken off.
template <class Model>
void measure(Model& model, const arma::mat& data, uword n_iter) {
  std::ofstream("/proc/self/clear_refs") << 5 << std::flush;
  const double bytes = peak_bytes();
  const double one_seconds = seconds_to_learn(model, data, 1);
  const double set_up_seconds = seconds_to_learn(model, data, 0);
  double all_seconds = one_seconds, log_likelihood = 0;
  for (uword i = 1; i < n_iter; ++i) {
    if (i + 1 == n_iter) log_likelihood = model.sum_log_p(data) / double(data.n_cols);
    all_seconds += seconds_to_learn(model, data, 1) - set_up_seconds;
  }
  std::printf("%.17g %.17g %.17g %.17g\n", one_seconds, all_seconds, log_likelihood,
              bytes < 0 ? -1 : peak_bytes() - bytes);
}

int main(int argc, char** argv) {
  if (argc == 1)  // asked for its version alone
    return std::printf("Armadillo %s", arma::arma_version::as_string().c_str()) < 0;
  const std::string folder = argv[1] + std::string("/");
  const uword n_rows = std::stoull(argv[2]), n_features = std::stoull(argv[3]);

  arma::mat data = load<arma::mat>(folder + "data");
  data.reshape(n_features, n_rows);
  const arma::rowvec weights = load<arma::vec>(folder + "weights").t();
  arma::mat means = load<arma::mat>(folder + "means");
  means.reshape(n_features, weights.n_elem);
  arma::vec start = load<arma::vec>(folder + "covariances");

  const auto fit = [&](auto& model, const auto& covariances) {
    model.set_params(means, covariances, weights);
    measure(model, data, std::stoull(argv[5]));
    model.hefts.save(folder + "weights", arma::raw_binary);
    model.means.save(folder + "means", arma::raw_binary);
  };
  if (std::string(argv[4]) == "full") {
    arma::gmm_full model;
    fit(model, arma::cube(start.memptr(), n_features, n_features, weights.n_elem));
    model.fcovs.save(folder + "covariances", arma::raw_binary);
  } else {
    arma::gmm_diag model;
    fit(model, arma::mat(start.memptr(), n_features, weights.n_elem));
    model.dcovs.save(folder + "covariances", arma::raw_binary);
  }
}
