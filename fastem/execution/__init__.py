"""Where the statistics of rows are computed: in this process or on a cluster."""
