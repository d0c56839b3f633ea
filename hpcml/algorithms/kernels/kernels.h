/* What the module hands to a kernel, and the table of kernels that each instruction set fills. */
#ifndef HPCML_KERNELS_H
#define HPCML_KERNELS_H

#include <stddef.h>
#include <stdint.h>

enum { CHUNK = 64 }; /* rows whose link terms are kept at a time */

enum kind { SQUARED, LOGISTIC, POISSON, GAMMA, TWEEDIE, HUBER, SQUARED_HINGE, N_KINDS };

/* A loss: a and b are what its formula leaves open (losses.h). */
struct loss {
    enum kind kind;
    double a, b;
};

/* Dense rows (x, stride in bytes), or CSR rows (x, indices, indptr). */
struct rows {
    const char *x;
    ptrdiff_t stride;
    const int32_t *indices;
    const void *indptr;
    int is_single; /* x is float32, else float64 */
    int is_wide;   /* indptr is int64, else int32 */
    int64_t n, d;
};

/* Rows cut into pieces (blocks), every border of a shard being one of a piece. */
struct borders {
    const int64_t *shards, *pieces;
    int64_t n_shards, n_pieces;
};

/* coef is followed by zeros up to a multiple of 16. y, weight and offset may be NULL. */
struct model {
    struct loss loss;
    const double *coef, *y, *weight, *offset;
    double intercept;
};

/* A model of k classes: labels and intercepts of each, coef (k, d). y and weight may be NULL. With `known`
   probabilities (n, k) the sums are those of the product of the Hessian with coef. */
struct classes {
    int64_t k;
    const double *labels, *coef, *intercept, *y, *weight, *known;
};

/* A quadratic of n weights: its Hessian, (n, n), l1 strengths and bounds. */
struct sweep {
    int64_t n;
    const double *H, *l1, *lower, *upper;
};

/* Of a walk: rows a step, its length, and of each feature what follows from its scale (sgd.h). */
struct steps {
    int64_t rows;
    double step;
    int has_intercept;
    const double *mean, *metric, *shrink;
};

/* Columns of X that a Hessian is wanted of, in rising order. */
struct columns {
    const int64_t *at;
    int64_t n;
};

/* Centres of a k-means pass (centers.py): in doubles, (k, width) with zeros after d columns, and as panels of 16
   places, each (d + 2, 16), about `middle` and times `scale`. Groups are runs of `group_panels` panels. */
struct centers {
    int64_t k, width, n_panels, n_groups, group_panels;
    const double *at, *middle;
    const float *panels, *first;
    const int32_t *label, *place; /* of each place its centre, and of each centre its place */
    double scale;
    int is_tame; /* floats reach */
};

/* Of each row its centre, the squared distance to it and, for each group, what no other centre is nearer than, in
   scaled units, plus the way that the group's farthest mover had gone by then. Each may be NULL. With `lower` come
   `ways`, how far it is now, and labels, -1 where a row is not known; 16 numbers after `lower` may be read. */
struct found {
    int32_t *labels;
    double *distances;
    float *lower;
    const float *ways;
};

/* The last m moves of n weights and the changes of their gradients, (m, n) each, the oldest first. */
struct history {
    int64_t m, n;
    const double *moves, *changes;
};

struct kernels {
    const char *name;
    /* `hessian` may be NULL. One row of out, `width` numbers, a shard; 0, or -1 where memory is short. */
    int (*sums)(const struct rows *, const struct borders *, const struct model *, const struct columns *hessian,
                double *out, int64_t width);
    void (*predict)(const struct rows *, const double *coef, double intercept, double *z);
    void (*terms)(const struct loss *, int64_t n, const double *z, const double *y, double *value,
                  double *slope, double *curvature);
    double (*read)(const char *x, int64_t n_bytes);
    int (*softmax_sums)(const struct rows *, const struct borders *, const struct classes *, double *out);
    int (*softmax_scores)(const struct rows *, const struct classes *, double *z);
    /* d + 1 numbers of out a shard; 0, or -1 where memory is short. */
    int (*walk)(const struct rows *, const struct borders *, const struct model *, const struct steps *,
                double *out);
    void (*sweep)(const struct sweep *, double *v, double *slope);
    /* d numbers of out a shard; 0, or -1 where memory is short. center is followed by zeros as coef is. */
    int (*squares)(const struct rows *, const struct borders *, const double *weight, const double *center,
                   double *out);
    /* k (d + 1) + 1 numbers of out a shard, which may be NULL; 0, or -1 where memory is short. */
    int (*nearest)(const struct rows *, const struct borders *, const double *weight, const struct centers *,
                   const struct found *, double *out);
    void (*cluster_sums)(const struct rows *, const struct borders *, const double *weight, int64_t k,
                         const int32_t *labels, const double *distances, double *out);
    void (*inverse_product)(const struct history *, double *work, double *q);
};

extern const struct kernels hpcml_avx2, hpcml_avx512, hpcml_neon;

#endif
