/* hpcml.algorithms.kernels._compiled: buffers in, kernels without the interpreter's lock, numbers out.

   Every array comes by the buffer protocol and is checked here for type, shape and length; what CSR rows
   point to is not. Only the stable interface of CPython 3.11 is used, so one build serves later ones. */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

#include "buffers.h"

/* Instruction sets that this processor has, the widest first. */
static int usable(const struct kernels **found) {
    int n = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
            found[n++] = &hpcml_avx512;
        found[n++] = &hpcml_avx2;
    }
#elif defined(__aarch64__)
    found[n++] = &hpcml_neon;
#endif
    return n;
}

static const struct kernels *named(const char *name) {
    const struct kernels *found[4];
    for (int i = 0, n = usable(found); i < n; i++)
        if (strcmp(found[i]->name, name) == 0) return found[i];
    PyErr_Format(PyExc_ValueError, "instruction set '%s' is not there", name);
    return NULL;
}

static int run_sums(const struct kernels *k, const struct rows *X, const struct borders *b,
                    const struct model *m, const struct columns *hessian, const Py_buffer *out) {
    int64_t width = 2 + X->d + (hessian ? 1 + hessian->n + hessian->n * (hessian->n + 1) / 2 : 0);
    if (out->shape[0] != b->n_shards || out->shape[1] != width || out->len != b->n_shards * width * 8)
        return refuse("out");
    int failed;
    Py_BEGIN_ALLOW_THREADS
    failed = k->sums(X, b, m, hessian, out->buf, width);
    Py_END_ALLOW_THREADS
    if (failed) PyErr_NoMemory();
    return !failed;
}

/* Rising columns of X, or n = -1 for None. */
static int take_columns(struct held *held, PyObject *object, int64_t d, struct columns *columns) {
    columns->n = -1;
    if (object == Py_None) return 1;
    Py_buffer *view = take(held, object, "l", 1, 0);
    if (!view) return 0;
    *columns = (struct columns){view->buf, view->shape[0]};
    int64_t least = 0;
    for (int64_t i = 0; i < columns->n; i++) {
        if (columns->at[i] < least || columns->at[i] >= d) return refuse("columns");
        least = columns->at[i] + 1;
    }
    return 1;
}

static PyObject *done(struct held *held, int is_good) {
    release(held);
    if (!is_good) return NULL;
    Py_RETURN_NONE;
}

static PyObject *sums(PyObject *self, PyObject *args) {
    (void)self;
    const char *name;
    PyObject *rows, *y, *weight, *offset, *shards, *pieces, *loss, *coef, *hessian, *out;
    struct held held = {.n = 0};
    struct rows X;
    struct borders b;
    struct model m;
    struct columns columns;
    if (!PyArg_ParseTuple(args, "sO(OOO)(OO)O(Od)OO", &name, &rows, &y, &weight, &offset, &shards, &pieces, &loss,
                          &coef, &m.intercept, &hessian, &out))
        return NULL;
    const struct kernels *k = named(name);
    int good = k && take_rows(&held, rows, &X) && take_borders(&held, shards, pieces, X.n, &b) &&
               take_vector(&held, y, "d", X.n, "y", (const void **)&m.y) &&
               take_vector(&held, weight, "d", X.n, "weight", (const void **)&m.weight) &&
               take_vector(&held, offset, "d", X.n, "offset", (const void **)&m.offset) &&
               take_loss(loss, &m.loss) && take_columns(&held, hessian, X.d, &columns);
    Py_buffer *to = good ? take(&held, out, "d", 2, 1) : NULL;
    double *w = to ? padded(&held, coef, X.d) : NULL;
    m.coef = w;
    good = w && run_sums(k, &X, &b, &m, columns.n < 0 ? NULL : &columns, to);
    free(w);
    return done(&held, good);
}

static PyObject *predict(PyObject *self, PyObject *args) {
    (void)self;
    const char *name;
    PyObject *rows, *coef, *out;
    struct held held = {.n = 0};
    struct rows X;
    double intercept;
    if (!PyArg_ParseTuple(args, "sOOdO", &name, &rows, &coef, &intercept, &out)) return NULL;
    const struct kernels *k = named(name);
    int good = k && take_rows(&held, rows, &X);
    Py_buffer *z = good ? take(&held, out, "d", 1, 1) : NULL;
    good = z && (z->shape[0] == X.n || refuse("out"));
    double *w = good ? padded(&held, coef, X.d) : NULL;
    if (w) {
        Py_BEGIN_ALLOW_THREADS
        k->predict(&X, w, intercept, z->buf);
        Py_END_ALLOW_THREADS
    }
    free(w);
    return done(&held, w != NULL);
}

static PyObject *terms(PyObject *self, PyObject *args) {
    (void)self;
    const char *name;
    PyObject *tuple, *arrays[5];
    struct held held = {.n = 0};
    struct loss loss;
    if (!PyArg_ParseTuple(args, "sOOO(OOO)", &name, &tuple, &arrays[0], &arrays[1], &arrays[2], &arrays[3],
                          &arrays[4]))
        return NULL;
    const struct kernels *k = named(name);
    int good = k && take_loss(tuple, &loss);
    double *at[5];
    for (int i = 0; good && i < 5; i++) {
        Py_buffer *view = take(&held, arrays[i], "d", 1, i > 1);
        good = view && (view->shape[0] == held.views[0].shape[0] || refuse("z, y or out"));
        at[i] = good ? view->buf : NULL;
    }
    if (good) {
        Py_BEGIN_ALLOW_THREADS
        k->terms(&loss, held.views[0].shape[0], at[0], at[1], at[2], at[3], at[4]);
        Py_END_ALLOW_THREADS
    }
    return done(&held, good);
}

/* A matrix of n rows of k doubles, one after another; NULL in `to` for None. */
static int take_matrix(struct held *held, PyObject *object, int64_t n, int64_t k, int is_written, const char *what,
                       double **to) {
    *to = NULL;
    if (object == Py_None) return 1;
    Py_buffer *view = take(held, object, "d", 2, is_written);
    if (!view) return 0;
    *to = view->buf;
    int is_whole = n < 2 || view->strides[0] == k * (Py_ssize_t)sizeof(double);
    return view->shape[0] == n && view->shape[1] == k && is_whole ? 1 : refuse(what);
}

/* (labels, coef, intercept) */
static int take_classes(struct held *held, PyObject *tuple, int64_t d, struct classes *m) {
    PyObject *labels, *coef, *intercept;
    if (!PyArg_ParseTuple(tuple, "OOO", &labels, &coef, &intercept)) return 0;
    Py_buffer *view = take(held, labels, "d", 1, 0);
    if (!view) return 0;
    m->labels = view->buf;
    m->k = view->shape[0];
    return take_matrix(held, coef, m->k, d, 0, "coef", (double **)&m->coef) &&
           take_vector(held, intercept, "d", m->k, "intercept", (const void **)&m->intercept) &&
           ((m->coef && m->intercept) || refuse("coef or intercept"));
}

static PyObject *softmax_sums(PyObject *self, PyObject *args) {
    (void)self;
    const char *name;
    PyObject *rows, *y, *weight, *known, *shards, *pieces, *classes, *out;
    struct held held = {.n = 0};
    struct rows X;
    struct borders b;
    struct classes m;
    double *to = NULL;
    if (!PyArg_ParseTuple(args, "sO(OOO)(OO)OO", &name, &rows, &y, &weight, &known, &shards, &pieces, &classes, &out))
        return NULL;
    const struct kernels *k = named(name);
    int good = k && take_rows(&held, rows, &X) && take_borders(&held, shards, pieces, X.n, &b) &&
               take_classes(&held, classes, X.d, &m) &&
               take_vector(&held, y, "d", X.n, "y", (const void **)&m.y) &&
               take_vector(&held, weight, "d", X.n, "weight", (const void **)&m.weight) &&
               take_matrix(&held, known, X.n, m.k, 0, "known", (double **)&m.known) &&
               take_matrix(&held, out, b.n_shards, 1 + m.k * (1 + X.d), 1, "out", &to) && (to || refuse("out"));
    int failed = 0;
    if (good) {
        Py_BEGIN_ALLOW_THREADS
        failed = k->softmax_sums(&X, &b, &m, to);
        Py_END_ALLOW_THREADS
    }
    if (failed) PyErr_NoMemory();
    return done(&held, good && !failed);
}

static PyObject *softmax_scores(PyObject *self, PyObject *args) {
    (void)self;
    const char *name;
    PyObject *rows, *classes, *out;
    struct held held = {.n = 0};
    struct rows X;
    struct classes m = {.y = NULL};
    double *z = NULL;
    if (!PyArg_ParseTuple(args, "sOOO", &name, &rows, &classes, &out)) return NULL;
    const struct kernels *k = named(name);
    int good = k && take_rows(&held, rows, &X) && take_classes(&held, classes, X.d, &m) &&
               take_matrix(&held, out, X.n, m.k, 1, "out", &z) && (z || refuse("out"));
    int failed = 0;
    if (good) {
        Py_BEGIN_ALLOW_THREADS
        failed = k->softmax_scores(&X, &m, z);
        Py_END_ALLOW_THREADS
    }
    if (failed) PyErr_NoMemory();
    return done(&held, good && !failed);
}

static PyObject *sweep(PyObject *self, PyObject *args) {
    (void)self;
    const char *name;
    PyObject *H, *parts[5];
    const double *at[5];
    struct held held = {.n = 0};
    if (!PyArg_ParseTuple(args, "sO(OOO)OO", &name, &H, &parts[0], &parts[1], &parts[2], &parts[3], &parts[4]))
        return NULL;
    const struct kernels *k = named(name);
    Py_buffer *matrix = k ? take(&held, H, "d", 2, 0) : NULL;
    int64_t n = matrix ? matrix->shape[0] : 0;
    int good = matrix && (matrix->len == n * n * 8 && matrix->shape[1] == n ? 1 : refuse("H"));
    if (good && n > 1 && matrix->strides[0] != n * 8) good = refuse("a row of H");
    for (int i = 0; good && i < 5; i++) {
        Py_buffer *view = take(&held, parts[i], "d", 1, i > 2);
        good = view && (view->shape[0] == n || refuse("l1, lower, upper, v or slope"));
        at[i] = good ? view->buf : NULL;
    }
    if (good) {
        struct sweep s = {n, matrix->buf, at[0], at[1], at[2]};
        Py_BEGIN_ALLOW_THREADS
        k->sweep(&s, (double *)at[3], (double *)at[4]);
        Py_END_ALLOW_THREADS
    }
    return done(&held, good);
}

static PyObject *inverse_product(PyObject *self, PyObject *args) {
    (void)self;
    const char *name;
    PyObject *parts[4];
    struct held held = {.n = 0};
    if (!PyArg_ParseTuple(args, "sOOOO", &name, &parts[0], &parts[1], &parts[2], &parts[3])) return NULL;
    const struct kernels *k = named(name);
    Py_buffer *q = k ? take(&held, parts[3], "d", 1, 1) : NULL, *work = q ? take(&held, parts[2], "d", 1, 1) : NULL;
    struct history h = {.m = work ? work->shape[0] : 0, .n = work ? q->shape[0] : 0};
    int good = work && take_matrix(&held, parts[0], h.m, h.n, 0, "moves", (double **)&h.moves) &&
               take_matrix(&held, parts[1], h.m, h.n, 0, "changes", (double **)&h.changes) &&
               ((h.moves && h.changes) || refuse("moves or changes"));
    if (good) {
        Py_BEGIN_ALLOW_THREADS
        k->inverse_product(&h, work->buf, q->buf);
        Py_END_ALLOW_THREADS
    }
    return done(&held, good);
}

static PyObject *walk(PyObject *self, PyObject *args) {
    (void)self;
    const char *name;
    PyObject *rows, *y, *weight, *offset, *shards, *pieces, *loss, *arrays[4], *out;
    struct held held = {.n = 0};
    struct rows X;
    struct borders b;
    struct model m;
    struct steps how;
    long long n_rows;
    if (!PyArg_ParseTuple(args, "sO(OOO)(OO)O(Od)(LdpOOO)O", &name, &rows, &y, &weight, &offset, &shards, &pieces, &loss,
                          &arrays[0], &m.intercept, &n_rows, &how.step, &how.has_intercept, &arrays[1], &arrays[2],
                          &arrays[3], &out))
        return NULL;
    how.rows = n_rows;
    const struct kernels *k = named(name);
    int good = k && (n_rows > 0 || refuse("a step")) && take_rows(&held, rows, &X) &&
               take_borders(&held, shards, pieces, X.n, &b) &&
               take_vector(&held, y, "d", X.n, "y", (const void **)&m.y) &&
               take_vector(&held, weight, "d", X.n, "weight", (const void **)&m.weight) &&
               take_vector(&held, offset, "d", X.n, "offset", (const void **)&m.offset) && take_loss(loss, &m.loss);
    double *own[4] = {NULL, NULL, NULL, NULL};
    for (int i = 0; good && i < 4; i++) good = (own[i] = padded(&held, arrays[i], X.d)) != NULL;
    m.coef = own[0];
    how.mean = own[1], how.metric = own[2], how.shrink = own[3];
    Py_buffer *to = good ? take(&held, out, "d", 2, 1) : NULL;
    good = to && ((to->shape[0] == b.n_shards && to->len == b.n_shards * (X.d + 1) * 8) || refuse("out"));
    if (good) {
        Py_BEGIN_ALLOW_THREADS
        good = !k->walk(&X, &b, &m, &how, to->buf);
        Py_END_ALLOW_THREADS
        if (!good) PyErr_NoMemory();
    }
    for (int i = 0; i < 4; i++) free(own[i]);
    return done(&held, good);
}

static PyObject *squares(PyObject *self, PyObject *args) {
    (void)self;
    const char *name;
    PyObject *rows, *weight, *shards, *center, *out;
    struct held held = {.n = 0};
    struct rows X;
    struct borders b;
    const double *s;
    double *to = NULL;
    if (!PyArg_ParseTuple(args, "sOOOOO", &name, &rows, &weight, &shards, &center, &out)) return NULL;
    const struct kernels *k = named(name);
    int good = k && take_rows(&held, rows, &X) && take_borders(&held, shards, shards, X.n, &b) &&
               take_vector(&held, weight, "d", X.n, "weight", (const void **)&s) &&
               take_matrix(&held, out, b.n_shards, X.d, 1, "out", &to) && (to || refuse("out"));
    double *c = good ? padded(&held, center, X.d) : NULL;
    if (c) {
        Py_BEGIN_ALLOW_THREADS
        good = !k->squares(&X, &b, s, c, to);
        Py_END_ALLOW_THREADS
        if (!good) PyErr_NoMemory();
    }
    free(c);
    return done(&held, c && good);
}

#include "clusters.h"

static PyObject *read_bytes(PyObject *self, PyObject *args) {
    (void)self;
    const char *name;
    PyObject *x;
    struct held held = {.n = 0};
    if (!PyArg_ParseTuple(args, "sO", &name, &x)) return NULL;
    const struct kernels *k = named(name);
    Py_buffer *view = k ? take(&held, x, "fd", 2, 0) : NULL;
    double total = 0.0;
    if (view) {
        Py_BEGIN_ALLOW_THREADS
        total = k->read(view->buf, view->len);
        Py_END_ALLOW_THREADS
    }
    release(&held);
    return view ? PyFloat_FromDouble(total) : NULL;
}

static PyObject *instruction_sets(PyObject *self, PyObject *args) {
    (void)self;
    (void)args;
    const struct kernels *found[4];
    int n = usable(found);
    PyObject *names = PyTuple_New(n);
    for (int i = 0; names && i < n; i++) PyTuple_SetItem(names, i, PyUnicode_FromString(found[i]->name));
    return names;
}

static PyMethodDef METHODS[] = {
    {"sums", sums, METH_VARARGS,
     "sums(set, rows, (y, weight, offset), (shards, pieces), loss, (coef, intercept), columns, out)"},
    {"predict", predict, METH_VARARGS, "predict(set, rows, coef, intercept, out)"},
    {"terms", terms, METH_VARARGS, "terms(set, loss, z, y, (value, slope, curvature))"},
    {"softmax_sums", softmax_sums, METH_VARARGS,
     "softmax_sums(set, rows, (y, weight, probabilities), (shards, pieces), (labels, coef, intercept), out)"},
    {"softmax_scores", softmax_scores, METH_VARARGS,
     "softmax_scores(set, rows, (labels, coef, intercept), out)"},
    {"sweep", sweep, METH_VARARGS, "sweep(set, H, (l1, lower, upper), v, slope)"},
    {"inverse_product", inverse_product, METH_VARARGS, "inverse_product(set, moves, changes, work, q)"},
    {"walk", walk, METH_VARARGS,
     "walk(set, rows, (y, weight, offset), (shards, pieces), loss, (coef, intercept), (rows, step, has_intercept, mean, "
     "metric, shrink), out)"},
    {"squares", squares, METH_VARARGS, "squares(set, rows, weight, shards, center, out)"},
    {"nearest", nearest, METH_VARARGS,
     "nearest(set, rows, shards, weight, centers, (labels, distances, lower, ways), out)"},
    {"cluster_sums", cluster_sums, METH_VARARGS,
     "cluster_sums(set, rows, shards, weight, labels, distances, k, out)"},
    {"read", read_bytes, METH_VARARGS, "read(set, X): a plain read, for benchmarks"},
    {"instruction_sets", instruction_sets, METH_NOARGS, "Names of the sets that run here, the widest first."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_compiled", NULL, 0, METHODS, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__compiled(void) { return PyModuleDef_Init(&MODULE); }
