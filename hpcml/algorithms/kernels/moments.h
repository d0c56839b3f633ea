/* Of each column, sum s (x - c)^2 over the rows of a shard. */

INLINE void square_panel(const char *x, ptrdiff_t stride, int n, const double *s, const double *center, double *g,
                         int vectors, int is_part, part m, struct ahead *ahead, int is_single) {
    vec even[V], odd[V], c[V];
    UNROLL for (int v = 0; v < vectors; v++) {
        even[v] = vload(g + v * W);
        odd[v] = vset(0.0);
        c[v] = vload(center + v * W);
    }
    int i = 0;
    for (; i + 2 <= n; i += 2, x += 2 * stride) {
        vec s0 = vset(s[i]), s1 = vset(s[i + 1]);
        fetch(ahead, is_single ? 2 : 4);
        UNROLL for (int v = 0; v < vectors; v++) {
            vec a = panel_load(x, v, vectors, is_part, m, is_single) - c[v];
            vec b = panel_load(x + stride, v, vectors, is_part, m, is_single) - c[v];
            even[v] = vfma(a * a, s0, even[v]);
            odd[v] = vfma(b * b, s1, odd[v]);
        }
    }
    if (i < n) {
        vec s0 = vset(s[i]);
        UNROLL for (int v = 0; v < vectors; v++) {
            vec a = panel_load(x, v, vectors, is_part, m, is_single) - c[v];
            even[v] = vfma(a * a, s0, even[v]);
        }
    }
    UNROLL for (int v = 0; v < vectors; v++) vstore(g + v * W, even[v] + odd[v]);
}

INLINE void last_square_panel(const char *x, ptrdiff_t stride, int n, const double *s, const double *center,
                              double *g, int64_t columns, struct ahead *ahead, int is_single) {
    int64_t vectors = (columns + W - 1) / W;
    part m = part_of(columns - (vectors - 1) * W);
#define CASE(n_vectors) \
    case n_vectors: square_panel(x, stride, n, s, center, g, n_vectors, 1, m, ahead, is_single); break;
    switch (vectors) {
        CASE(1)
        CASE(2)
#if W <= 4
        CASE(3)
        CASE(4)
#endif
#if W <= 2
        CASE(5)
        CASE(6)
        CASE(7)
        CASE(8)
#endif
    }
#undef CASE
}

/* A tile of rows, while the next one is asked for. */
INLINE void square_tile(const struct rows *X, const char *x, int n, const double *s, const double *center,
                        double *g, int is_single) {
    int64_t j = 0, size = is_single ? 4 : 8, panels = (X->d + PANEL - 1) / PANEL;
    struct ahead ahead = {x + n * X->stride, 2 * X->stride / (panels > 0 ? panels : 1)};
    for (; j + PANEL <= X->d; j += PANEL)
        square_panel(x + j * size, X->stride, n, s, center + j, g + j, V, 0, part_of(0), &ahead, is_single);
    if (j < X->d)
        last_square_panel(x + j * size, X->stride, n, s, center + j, g + j, X->d - j, &ahead, is_single);
}

static void dense_squares(const struct rows *X, const double *weight, int64_t start, int64_t stop,
                          const double *center, double *g) {
    double ones[CHUNK];
    for (int i = 0; i < CHUNK; i++) ones[i] = 1.0;
    int step = tile_rows(X->d * (X->is_single ? 4 : 8));
    for (int64_t row = start; row < stop; row += step) {
        int n = stop - row < step ? (int)(stop - row) : step;
        const char *x = X->x + row * X->stride;
        const double *s = weight ? weight + row : ones;
        if (X->is_single)
            square_tile(X, x, n, s, center, g, 1);
        else
            square_tile(X, x, n, s, center, g, 0);
    }
}

/* What is stored, and the weight and number of the rows that store it: zeros are added by those that are left. */
static void sparse_squares(const struct rows *X, const double *weight, int64_t start, int64_t stop,
                           const double *center, double *g, double *there, double *count) {
    double total = 0.0;
    for (int64_t row = start; row < stop; row++) {
        double s = weight ? weight[row] : 1.0;
        total += s;
        for (int64_t k = pointer(X, row), last = pointer(X, row + 1); k < last; k++) {
            int32_t j = X->indices[k];
            double away = entry(X, k, X->is_single) - center[j];
            g[j] = __builtin_fma(away * away, s, g[j]);
            there[j] += s;
            count[j] += 1.0;
        }
    }
    for (int64_t j = 0; j < X->d; j++) {
        double absent = count[j] == (double)(stop - start) || total < there[j] ? 0.0 : total - there[j];
        g[j] = __builtin_fma(absent * center[j], center[j], g[j]);
    }
}

static int squares(const struct rows *X, const struct borders *b, const double *weight, const double *center,
                   double *out) {
    int64_t size = whole(X->d, PANEL), all = X->indices ? 3 * size : size;
    double *g = zeros(all);
    if (!g) return -1;
    for (int64_t shard = 0; shard < b->n_shards; shard++, out += X->d) {
        memset(g, 0, (size_t)all * sizeof(double));
        if (X->indices)
            sparse_squares(X, weight, b->shards[shard], b->shards[shard + 1], center, g, g + size, g + 2 * size);
        else
            dense_squares(X, weight, b->shards[shard], b->shards[shard + 1], center, g);
        memcpy(out, g, (size_t)X->d * sizeof(double));
    }
    free(g);
    return 0;
}
