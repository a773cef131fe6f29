"""Hidden Markov models with hmmlearn's face."""
