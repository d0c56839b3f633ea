/* hpcml.collectives._limbs: terms cut to a window, added as integers and rounded, as limbs.py does with NumPy.

   Every step up to the rounding is exact, and that takes the same operations in the same order, so both give
   the same bits. Only the stable interface of CPython 3.11 is used. */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#if FLT_EVAL_METHOD != 0
#error "sums in wider registers than a double's would round twice: NumPy does it here"
#endif

enum { TILE = 512 }; /* columns whose sums stay in the first cache while all rows go by */
enum { MISSED = 1, NONFINITE = 2 };

#define LIMB_BITS 38
#define LIMB 0x1p38
#define MAGIC 0x1.8p52 /* added to a number below 2^51, it leaves the nearest integer in the last bits */

struct sums {
    const double *scale;
    int64_t *high, *middle, *low;
    double *largest;
};

#define INLINE static inline __attribute__((always_inline))

INLINE int64_t whole_part(double *x) {
    double moved = *x + MAGIC, magic = MAGIC;
    int64_t bits, zero;
    memcpy(&bits, &moved, 8);
    memcpy(&zero, &magic, 8);
    *x = (*x - (moved - MAGIC)) * LIMB;
    return bits - zero;
}

INLINE int fits(const struct sums *s, const double *x, int64_t n) {
    int64_t outside = 0;
    for (int64_t j = 0; j < n; j++) outside += !(fabs(x[j] * s->scale[j]) < LIMB);
    return !outside;
}

/* A row whose terms all fit, in a form that compilers turn into vectors: nothing overlaps. */
INLINE void add_row(const struct sums *s, const double *restrict x, int64_t n) {
    const double *restrict scale = s->scale;
    double *restrict largest = s->largest;
    int64_t *restrict high = s->high, *restrict middle = s->middle, *restrict low = s->low;
    for (int64_t j = 0; j < n; j++) {
        double scaled = x[j] * scale[j], size = fabs(scaled);
        largest[j] = size > largest[j] ? size : largest[j];
        high[j] += whole_part(&scaled);
        middle[j] += whole_part(&scaled);
        low[j] += whole_part(&scaled);
    }
}

/* A row with terms that do not fit, which are left out. */
static int add_others(const struct sums *s, const double *x, int64_t n) {
    int found = 0;
    for (int64_t j = 0; j < n; j++) {
        struct sums one = {s->scale + j, s->high + j, s->middle + j, s->low + j, s->largest + j};
        if (fits(&one, x + j, 1))
            add_row(&one, x + j, 1);
        else
            found |= isfinite(x[j]) ? MISSED : NONFINITE;
    }
    return found;
}

INLINE int add_rows_as(const struct sums *all, const double *x, int64_t rows, int64_t n) {
    int found = 0;
    for (int64_t first = 0; first < n; first += TILE) {
        int64_t count = n - first < TILE ? n - first : TILE;
        struct sums s = {all->scale + first, all->high + first, all->middle + first, all->low + first,
                         all->largest + first};
        for (int64_t i = 0; i < rows; i++) {
            const double *row = x + i * n + first;
            if (fits(&s, row, count))
                add_row(&s, row, count);
            else
                found |= add_others(&s, row, count);
        }
    }
    return found;
}

/* Wider registers, where the processor has them; the integers are the same. */
#if defined(__x86_64__)
__attribute__((target("avx2"))) static int add_rows_avx2(const struct sums *s, const double *x, int64_t rows,
                                                          int64_t n) {
    return add_rows_as(s, x, rows, n);
}
#endif

static int add_rows(const struct sums *s, const double *x, int64_t rows, int64_t n) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2")) return add_rows_avx2(s, x, rows, n);
#endif
    return add_rows_as(s, x, rows, n);
}

static int take(PyObject *object, Py_buffer *view, int is_float, int ndim, int is_written) {
    int flags = PyBUF_FORMAT | PyBUF_C_CONTIGUOUS | (is_written ? PyBUF_WRITABLE : 0);
    if (PyObject_GetBuffer(object, view, flags)) return 0;
    const char *format = view->format ? view->format : "";
    int is_right = view->itemsize == 8 && view->ndim == ndim && *format && !format[1] &&
                   strchr(is_float ? "d" : "lq", *format);
    if (is_right) return 1;
    PyBuffer_Release(view);
    PyErr_Format(PyExc_TypeError, "a C array of %d dimension(s) and 8-byte %s is wanted", ndim,
                 is_float ? "floats" : "integers");
    return 0;
}

static PyObject *add(PyObject *self, PyObject *args) {
    (void)self;
    PyObject *objects[4];
    Py_buffer views[4];
    static const int NDIM[4] = {2, 1, 2, 1};
    if (!PyArg_ParseTuple(args, "OOOO", &objects[0], &objects[1], &objects[2], &objects[3])) return NULL;
    int held = 0, found = 0;
    while (held < 4 && take(objects[held], &views[held], held != 2, NDIM[held], held > 1)) held++;
    if (held == 4) {
        int64_t rows = views[0].shape[0], n = views[0].shape[1];
        int64_t *limbs = views[2].buf;
        if (views[1].shape[0] != n || views[2].shape[0] != 3 || views[2].shape[1] != n || views[3].shape[0] != n) {
            PyErr_SetString(PyExc_ValueError, "chunk, scale, limbs and largest have not the same columns");
        } else {
            struct sums s = {views[1].buf, limbs, limbs + n, limbs + 2 * n, views[3].buf};
            Py_BEGIN_ALLOW_THREADS
            found = add_rows(&s, views[0].buf, rows, n);
            Py_END_ALLOW_THREADS
        }
    }
    while (held) PyBuffer_Release(&views[--held]);
    if (PyErr_Occurred()) return NULL;
    return Py_BuildValue("(ii)", (found & MISSED) != 0, (found & NONFINITE) != 0);
}

/* The double next to (high + middle / 2^38 + low / 2^76) 2^(window - 38). */
static double rounded_one(int64_t high, int64_t middle, int64_t low, int64_t window) {
    const int64_t mask = ((int64_t)1 << LIMB_BITS) - 1;
    int is_negative = high + ((middle + (low >> LIMB_BITS)) >> LIMB_BITS) < 0;
    if (is_negative) high = -high, middle = -middle, low = -low;
    middle += low >> LIMB_BITS;
    high += middle >> LIMB_BITS;
    double below = (double)(middle & mask) * 0x1p-38 + (double)(low & mask) * 0x1p-76;
    double upper = (double)(high & ~(((int64_t)1 << 31) - 1)), lower = (double)(high & (((int64_t)1 << 31) - 1));
    double first = upper + lower, rest = lower - (first - upper);
    double size = first + (rest + below);
    return ldexp(is_negative ? -size : size, (int)window - LIMB_BITS);
}

static PyObject *rounded(PyObject *self, PyObject *args) {
    (void)self;
    PyObject *objects[3];
    Py_buffer views[3];
    static const int NDIM[3] = {2, 1, 1};
    if (!PyArg_ParseTuple(args, "OOO", &objects[0], &objects[1], &objects[2])) return NULL;
    int held = 0;
    while (held < 3 && take(objects[held], &views[held], held == 2, NDIM[held], held == 2)) held++;
    if (held == 3) {
        int64_t n = views[1].shape[0];
        const int64_t *limbs = views[0].buf, *window = views[1].buf;
        double *total = views[2].buf;
        if (views[0].shape[0] != 3 || views[0].shape[1] != n || views[2].shape[0] != n)
            PyErr_SetString(PyExc_ValueError, "limbs, window and total have not the same columns");
        else
            for (int64_t j = 0; j < n; j++)
                total[j] = rounded_one(limbs[j], limbs[n + j], limbs[2 * n + j], window[j]);
    }
    while (held) PyBuffer_Release(&views[--held]);
    if (PyErr_Occurred()) return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef METHODS[] = {
    {"add", add, METH_VARARGS, "add(chunk, scale, limbs, largest) -> (missed, nonfinite)"},
    {"rounded", rounded, METH_VARARGS, "rounded(limbs, window, total)"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_limbs", NULL, 0, METHODS, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__limbs(void) { return PyModuleDef_Init(&MODULE); }
