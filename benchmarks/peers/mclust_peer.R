# EM by mclust, from a given start for a given number of iterations.
#
#     Rscript mclust_peer.R FOLDER ROWS FEATURES VVV|VVI|VII|EEE ITERATIONS
#
# FOLDER holds raw doubles: data (column after column), weights, means, covariances. The
# last three are replaced by the fit. Prints the seconds of one iteration with its set-up,
# the seconds of all but the last, the mean log-likelihood that the last started from,
# and the bytes by which EM raised the peak of this process (-1 where that is unknown).
suppressPackageStartupMessages(library(mclust))

arguments <- commandArgs(trailingOnly = TRUE)
folder <- arguments[1]
n_rows <- as.integer(arguments[2])
n_features <- as.integer(arguments[3])
n_iter <- as.integer(arguments[5])
model <- arguments[4]

load_raw <- function(name) {
  path <- file.path(folder, name)
  readBin(path, "double", file.size(path) / 8)
}
save_raw <- function(array, name) writeBin(as.vector(array), file.path(folder, name))

# The peak of resident memory since it was last reset, which only Linux tells.
clear_refs <- "/proc/self/clear_refs"
peak_bytes <- function() {
  line <- grep("^VmHWM:", readLines("/proc/self/status"), value = TRUE)
  as.numeric(gsub("[^0-9]", "", line)) * 1024
}

data <- load_raw("data")
dim(data) <- c(n_rows, n_features)
weights <- load_raw("weights")
n_components <- length(weights)
means <- matrix(load_raw("means"), n_features)
covariances <- load_raw("covariances")
square <- c(n_features, n_features, n_components)
per_component <- c(n_features, n_components)
shape_and_scale <- function(variances) {
  scale <- exp(colMeans(log(variances)))
  list(scale = scale, shape = sweep(variances, 2, scale, "/"))
}
variance <- switch(model,
  VVV = list(cholsigma = array(apply(array(covariances, square), 3, chol), square)),
  EEE = list(cholSigma = chol(matrix(covariances, n_features))),
  VVI = shape_and_scale(array(covariances, per_component)),
  VII = list(sigmasq = covariances)
)
variance <- c(list(modelName = model, d = n_features, G = n_components), variance)
start <- list(pro = weights, mean = means, variance = variance)

# A tolerance of zero would end EM once two log-likelihoods are equal to the last bit;
# emControl() refuses a negative one.
timed_em <- function(iterations) {
  control <- emControl(itmax = iterations)
  control$tol <- c(-1, -1)
  began <- Sys.time()
  fit <- em(data, model, start, control = control)
  fit$seconds <- as.numeric(difftime(Sys.time(), began, units = "secs"))
  # It is negated where the limit ended EM, as it should.
  if (attr(fit, "info")[["iterations"]] != -iterations) stop("EM ended early")
  fit
}

added <- -1
invisible(gc())
if (file.exists(clear_refs)) {
  cat("5", file = clear_refs)
  before <- peak_bytes()
}
one_seconds <- timed_em(1)$seconds
invisible(gc())
fit <- timed_em(max(n_iter - 1, 1))
if (file.exists(clear_refs)) added <- peak_bytes() - before

fitted <- mstep(data, model, fit$z)$parameters # the last iteration's
variance <- fitted$variance
save_raw(fitted$pro, "weights")
save_raw(fitted$mean, "means")
save_raw(switch(model,
  VVV = variance$sigma,
  EEE = variance$Sigma,
  VVI = sweep(variance$shape, 2, variance$scale, "*"),
  VII = variance$sigmasq
), "covariances")
cat(sprintf("%.17g", c(one_seconds, fit$seconds, fit$loglik / n_rows, added)), "\n")
