/* [X, 1]' diag(h) [X, 1] of dense rows, in register blocks of MR x NR; only blocks that touch the upper
   triangle. A chunk is packed as panels of x, MR columns wide, and of h x, NR columns wide. Each element
   is summed over rows in order, so the size of a block leaves no trace. */

#if W == 8
enum { MR = 8, NR = 24 };
#else
enum { MR = 4, NR = 12 };
#endif
enum { NV = NR / W };

struct gram {
    int64_t rows, columns; /* d + 1 in whole panels of MR, and of NR */
    double *left, *right;  /* packed chunks */
    double *blocks;        /* (columns / NR, rows / MR) of MR x NR */
};

INLINE int64_t whole(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

static int64_t gram_size(int64_t d) {
    int64_t rows = whole(d + 1, NR), columns = rows; /* NR is a multiple of MR */
    return (rows + columns) * CHUNK + rows * columns;
}

static struct gram make_gram(int64_t d, double *work) {
    int64_t rows = whole(d + 1, NR), columns = whole(d + 1, NR);
    double *right = work + rows * CHUNK;
    return (struct gram){rows, columns, work, right, right + columns * CHUNK};
}

INLINE void pack_vector(const struct gram *G, int64_t j, int k, vec x, vec hx) {
    vstore(G->left + j / MR * MR * CHUNK + k * MR + j % MR, x);
    vstore(G->right + j / NR * NR * CHUNK + k * NR + j % NR, hx);
}

INLINE void pack_as(const struct rows *X, int64_t row, int n, const double *h, const struct gram *G,
                    int is_single) {
    int64_t d = X->d, whole_d = d / W * W;
    double unit[W] = {0.0};
    unit[d - whole_d] = 1.0;
    part m = part_of(d - whole_d);
    vec one = vload(unit);
    for (int k = 0; k < n; k++) {
        const char *x = X->x + (row + k) * X->stride;
        vec hk = vset(h[k]);
        for (int64_t j = 0; j < whole_d; j += W) {
            vec v = row_load(x, j, is_single);
            pack_vector(G, j, k, v, v * hk);
        }
        vec v = row_part(x, whole_d, m, is_single) + one;
        pack_vector(G, whole_d, k, v, v * hk);
    }
}

/* `many` blocks that lie below each other, of them the first `vectors` of each row. */
INLINE void multiply_as(const double *left, const double *right, int n, double *block, int many,
                        int vectors) {
    vec sum[2 * MR][NV];
    UNROLL for (int i = 0; i < many * MR; i++) UNROLL for (int v = 0; v < vectors; v++)
        sum[i][v] = vload(block + i * NR + v * W);
    for (int k = 0; k < n; k++, left += MR, right += NR) {
        vec b[NV];
        UNROLL for (int v = 0; v < vectors; v++) b[v] = vload(right + v * W);
        UNROLL for (int i = 0; i < many * MR; i++) {
            vec a = vset(left[i / MR * MR * CHUNK + i % MR]);
            UNROLL for (int v = 0; v < vectors; v++) sum[i][v] = vfma(a, b[v], sum[i][v]);
        }
    }
    UNROLL for (int i = 0; i < many * MR; i++) UNROLL for (int v = 0; v < vectors; v++)
        vstore(block + i * NR + v * W, sum[i][v]);
}

/* Columns j and on of rows below `last`; a panel of one vector takes two blocks at a time. */
INLINE void multiply_panel(const struct gram *G, int n, int64_t j, int64_t last, int many, int vectors) {
    const double *right = G->right + j * CHUNK;
    double *column = G->blocks + j * G->rows;
    for (int64_t i = 0; i < last; i += many * MR)
        multiply_as(G->left + i * CHUNK, right, n, column + i * NR, many, vectors);
}

static void add_gram(const struct rows *X, int64_t row, int n, const double *h, const struct gram *G) {
    if (X->is_single)
        pack_as(X, row, n, h, G, 1);
    else
        pack_as(X, row, n, h, G, 0);
    int64_t used = X->d + 1;
    for (int64_t j = 0; j < used; j += NR) {
        int64_t vectors = (used - j + W - 1) / W;
        if (vectors == 1)
            multiply_panel(G, n, j, used, 2, 1);
        else if (vectors == 2)
            multiply_panel(G, n, j, used, 1, 2);
        else
            multiply_panel(G, n, j, j + NR < used ? j + NR : used, 1, NV);
    }
}

static void clear_gram(const struct gram *G) {
    for (int64_t j = 0; j < G->columns; j += NR)
        memset(G->blocks + j * G->rows, 0, (size_t)(j + NR) * NR * sizeof(double));
}

/* Where element (i, j) of the sum lies, i <= j; the rest of its row follows up to the end of a panel. */
INLINE const double *gram_at(const struct gram *G, int64_t i, int64_t j) {
    return G->blocks + j / NR * NR * G->rows + i * NR + j % NR;
}
