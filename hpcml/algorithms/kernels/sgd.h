/* Walks of stochastic gradient descent: one over each shard, all from the same start. */

/* mean, metric (1 / scale^2) and l2 are of each feature, followed by zeros as coef is. */
INLINE double lane_dot(const double *a, const double *b, int64_t d) {
    vec s[P];
    UNROLL for (int p = 0; p < P; p++) s[p] = vset(0.0);
    for (int64_t j = 0; j < d; j += LANES)
        UNROLL for (int p = 0; p < P; p++)
            s[p] = vfma(vload(a + j + p * W), vload(b + j + p * W), s[p]);
    return sum_lanes(s);
}

/* sum r and, in g, X' r of some rows at m. */
static double slopes(const struct rows *X, const struct model *m, int64_t start, int64_t stop, double *g) {
    struct chunk c;
    struct lanes sums;
    UNROLL for (int p = 0; p < P; p++) sums.value[p] = sums.slope[p] = vset(0.0);
    memset(g, 0, (size_t)whole(X->d, PANEL) * sizeof(double));
    for (int64_t row = start; row < stop; row += CHUNK) {
        int n = stop - row < CHUNK ? (int)(stop - row) : CHUNK;
        if (X->indices)
            sparse_chunk(X, m, row, n, &c, g, &sums);
        else
            dense_chunk(X, m, row, n, &c, g, &sums);
    }
    return sum_lanes(sums.slope);
}

/* The weighted average of the iterates over the rows of a shard: d weights, then the centred intercept. */
static void walk_shard(const struct rows *X, struct model m, int64_t start, int64_t stop, const struct steps *how,
                       double *w, double *g, double *out) {
    int64_t d = X->d;
    double intercept = m.intercept + lane_dot(how->mean, w, d);
    m.coef = w;
    for (int64_t t = 0; start < stop; start += how->rows, t++) {
        int64_t last = stop - start < how->rows ? stop : start + how->rows;
        m.intercept = intercept - lane_dot(how->mean, w, d);
        double total = slopes(X, &m, start, last, g), share = 2.0 / ((double)t + 2.0);
        if (how->has_intercept) intercept -= how->step * total;
        for (int64_t j = 0; j < d; j++) {
            w[j] -= how->step * (g[j] - how->mean[j] * total) * how->metric[j] + how->shrink[j] * w[j];
            out[j] += share * (w[j] - out[j]);
        }
        out[d] += share * (intercept - out[d]);
    }
}

static int walk(const struct rows *X, const struct borders *b, const struct model *m, const struct steps *how,
                double *out) {
    int64_t d = X->d, size = whole(d, PANEL) + 16;
    double *g = zeros(size), *w = zeros(size);
    for (int64_t shard = 0; g && w && shard < b->n_shards; shard++, out += d + 1) {
        memcpy(w, m->coef, (size_t)d * sizeof(double));
        memcpy(out, w, (size_t)d * sizeof(double));
        out[d] = m->intercept + lane_dot(how->mean, w, d);
        walk_shard(X, *m, b->shards[shard], b->shards[shard + 1], how, w, g, out);
    }
    int failed = g && w ? 0 : -1;
    free(g);
    free(w);
    return failed;
}
