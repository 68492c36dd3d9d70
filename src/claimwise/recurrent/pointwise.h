/* The point-wise part of one recurrent step, forward and backward. Loops run over the hidden units of one row, whose
   gates lie in the first-level cache, and carry no branch: the compiler turns them into vector code. */

#define EACH for (long j = from; j < to; j++)
#define ALL for (long j = 0; j < n; j++)

/* e^x - 1 = 2^k (e^r - 1) + (2^k - 1) with x = k ln 2 + r, |r| <= ln 2 / 2: exact near 0 too. */
INLINE REAL NAME(power)(REAL x, REAL *scale) {
    x = x < (REAL)LOWEST ? (REAL)LOWEST : x;
    x = x > (REAL)HIGHEST ? (REAL)HIGHEST : x;
    REAL shifted = x * (REAL)1.4426950408889634 + (REAL)MAGIC;
    REAL k = shifted - (REAL)MAGIC;
#ifdef DOUBLE
    REAL r = (x - k * 0x1.62e42fefa0000p-1) - k * 0x1.cf79abc9e3b39p-40;
    REAL p = 1.6059043836821613e-10;             /* 1 / 13!, ..., 1 / 2! */
    p = p * r + 2.08767569878681e-09;
    p = p * r + 2.505210838544172e-08;
    p = p * r + 2.755731922398589e-07;
    p = p * r + 2.7557319223985893e-06;
    p = p * r + 2.48015873015873e-05;
    p = p * r + 0.0001984126984126984;
    p = p * r + 0.001388888888888889;
    p = p * r + 0.008333333333333333;
    p = p * r + 0.041666666666666664;
    p = p * r + 0.16666666666666666;
    p = p * r + 0.5;
#else
    REAL r = (x - k * 0x1.62e4p-1f) - k * 0x1.7f7d1cp-20f;
    REAL p = 0.0001984126984126984f;             /* 1 / 7!, ..., 1 / 2! */
    p = p * r + 0.001388888888888889f;
    p = p * r + 0.008333333333333333f;
    p = p * r + 0.041666666666666664f;
    p = p * r + 0.16666666666666666f;
    p = p * r + 0.5f;
#endif
    WORD bits, magic;
    REAL constant = (REAL)MAGIC;
    memcpy(&bits, &shifted, sizeof bits);
    memcpy(&magic, &constant, sizeof magic);
    bits = (bits - magic + BIAS) << MANTISSA;
    memcpy(scale, &bits, sizeof bits);
    return r + r * r * p;
}

INLINE REAL NAME(sigmoid)(REAL x) {
    REAL scale, q = NAME(power)(-x, &scale);
    return 1 / (2 + (scale * q + (scale - 1)));
}

INLINE REAL NAME(tanh)(REAL x) {
    /* beyond 20 it is 1 to rounding; less would leave e^2x - 1 finite too, but not its sum with 2 in double */
    REAL t = x > 20 ? 20 : (x < -20 ? -20 : x);
    REAL scale, q = NAME(power)(2 * t, &scale);
    REAL e = scale * q + (scale - 1);
    return e / (e + 2);
}

/* What a cell is: where its blocks begin in a row of `width` pre-activations (-1: not there), and its switches. */
typedef struct {
    long hidden, width;
    long input, forget, candidate, output;
    long coupled, input_activation, output_activation;
    const REAL *peep_input, *peep_forget, *peep_output;      /* NULL: none */
} NAME(lstm);

/* Units from `from` on; pre: pre-activations, become activations; c_before -> c, y. */
static void NAME(lstm_forward)(
    const NAME(lstm) *cell, long rows, long from, long to, REAL *restrict pre, const REAL *restrict before,
    REAL *restrict after, REAL *restrict out
) {
    const long n = cell->hidden;
    for (long row = 0; row < rows; row++) {
        REAL *restrict a = pre + row * cell->width;
        const REAL *restrict cp = before + row * n;
        REAL *restrict c = after + row * n, *restrict y = out + row * n;
        REAL *restrict z = a + cell->candidate;
        if (cell->input_activation) EACH z[j] = NAME(tanh)(z[j]);
        if (cell->input >= 0) {
            REAL *restrict i = a + cell->input;
            const REAL *restrict p = cell->peep_input;
            if (p) EACH i[j] = NAME(sigmoid)(i[j] + p[j] * cp[j]);
            else EACH i[j] = NAME(sigmoid)(i[j]);
            if (cell->coupled) EACH c[j] = cp[j] + i[j] * (z[j] - cp[j]);
            else EACH c[j] = i[j] * z[j];
        } else EACH c[j] = z[j];
        if (cell->forget >= 0) {
            REAL *restrict f = a + cell->forget;
            const REAL *restrict p = cell->peep_forget;
            if (p) EACH {
                f[j] = NAME(sigmoid)(f[j] + p[j] * cp[j]);
                c[j] += f[j] * cp[j];
            }
            else EACH {
                f[j] = NAME(sigmoid)(f[j]);
                c[j] += f[j] * cp[j];
            }
        } else if (!cell->coupled) EACH c[j] += cp[j];
        if (cell->output_activation) EACH y[j] = NAME(tanh)(c[j]);
        else EACH y[j] = c[j];
        if (cell->output >= 0) {
            REAL *restrict o = a + cell->output;
            const REAL *restrict p = cell->peep_output;
            if (p) EACH {
                o[j] = NAME(sigmoid)(o[j] + p[j] * c[j]);
                y[j] *= o[j];
            }
            else EACH {
                o[j] = NAME(sigmoid)(o[j]);
                y[j] *= o[j];
            }
        }
    }
}

/* Units from `from` on; gates, c, c_before as kept; dy (may be NULL), dh: gradients of y from above and from the next
   step; dc: in place; seen (may be NULL): gradients of the gates from the next step's gates, blocks input, forget,
   output as they are there; d: gradients of the pre-activations. */
static void NAME(lstm_backward)(
    const NAME(lstm) *cell, long rows, long from, long to, const REAL *restrict gates, const REAL *restrict before,
    const REAL *restrict after, const REAL *restrict dys, const REAL *restrict dhs, const REAL *restrict seen,
    long seen_width, REAL *restrict dcs, REAL *restrict ds
) {
    const long n = cell->hidden;
    for (long row = 0; row < rows; row++) {
        const REAL *restrict a = gates + row * cell->width;
        const REAL *restrict cp = before + row * n, *restrict c = after + row * n;
        const REAL *restrict dy = dys ? dys + row * n : 0, *restrict dh = dhs + row * n;
        const REAL *restrict da = seen ? seen + row * seen_width : 0;
        REAL *restrict d = ds + row * cell->width, *restrict dc = dcs + row * n;
        REAL *restrict dz = d + cell->candidate;     /* holds the gradient of y, until its own is there */
        const REAL *restrict z = a + cell->candidate;
        long taken = (cell->input >= 0 ? n : 0) + (cell->forget >= 0 ? n : 0);
        if (dy) EACH dz[j] = dy[j] + dh[j];
        else EACH dz[j] = dh[j];
        if (cell->output >= 0) {
            const REAL *restrict o = a + cell->output;
            REAL *restrict d_o = d + cell->output;
            if (cell->output_activation) EACH {
                REAL h = NAME(tanh)(c[j]);
                d_o[j] = dz[j] * h;
                dc[j] += dz[j] * o[j] * (1 - h * h);
            }
            else EACH {
                d_o[j] = dz[j] * c[j];
                dc[j] += dz[j] * o[j];
            }
            if (da) EACH d_o[j] += da[taken + j];
            EACH d_o[j] *= o[j] * (1 - o[j]);
            const REAL *restrict p = cell->peep_output;
            if (p) EACH dc[j] += p[j] * d_o[j];
        } else if (cell->output_activation) EACH {
            REAL h = NAME(tanh)(c[j]);
            dc[j] += dz[j] * (1 - h * h);
        }
        else EACH dc[j] += dz[j];

        if (cell->input >= 0) {
            const REAL *restrict i = a + cell->input;
            REAL *restrict d_i = d + cell->input;
            EACH dz[j] = dc[j] * i[j];
            if (cell->coupled) EACH d_i[j] = dc[j] * (z[j] - cp[j]);
            else EACH d_i[j] = dc[j] * z[j];
            if (da) EACH d_i[j] += da[j];
            EACH d_i[j] *= i[j] * (1 - i[j]);
        } else EACH dz[j] = dc[j];
        if (cell->input_activation) EACH dz[j] *= 1 - z[j] * z[j];
        if (cell->forget >= 0) {
            const REAL *restrict f = a + cell->forget;
            REAL *restrict d_f = d + cell->forget;
            EACH d_f[j] = dc[j] * cp[j];
            if (da) { const REAL *restrict mine = da + (cell->input >= 0 ? n : 0); EACH d_f[j] += mine[j]; }
            EACH {
                d_f[j] *= f[j] * (1 - f[j]);
                dc[j] *= f[j];
            }
            const REAL *restrict p = cell->peep_forget;
            if (p) EACH dc[j] += p[j] * d_f[j];
        } else if (cell->coupled) {
            const REAL *restrict i = a + cell->input;
            EACH dc[j] *= 1 - i[j];
        }
        if (cell->input >= 0 && cell->peep_input) {
            const REAL *restrict d_i = d + cell->input, *restrict p = cell->peep_input;
            EACH dc[j] += p[j] * d_i[j];
        }
    }
}

/* sums += gradients of the peepholes of units from `from` on, for the gates that are there: input, forget, output. */
static void NAME(lstm_peepholes)(
    const NAME(lstm) *cell, long rows, long from, long to, const REAL *restrict ds, const REAL *restrict before,
    const REAL *restrict after, REAL *restrict sums
) {
    const long n = cell->hidden, where[3] = {cell->input, cell->forget, cell->output};
    for (long row = 0; row < rows; row++) {
        REAL *sum = sums;
        for (int gate = 0; gate < 3; gate++) if (where[gate] >= 0) {
            const REAL *restrict d = ds + row * cell->width + where[gate];
            const REAL *restrict seen = (gate == 2 ? after : before) + row * n;
            EACH sum[j] += d[j] * seen[j];
            sum += n;
        }
    }
}

/* GRU, reset after the product. a: blocks reset, update, product of the candidate (with its bias), candidate's input;
   they become r, u, that product, candidate. */
void NAME(gru_forward)(long rows, long n, REAL *restrict as, const REAL *restrict before, REAL *restrict out) {
    for (long row = 0; row < rows; row++) {
        REAL *restrict r = as + row * 4 * n, *restrict u = r + n, *restrict q = u + n, *restrict c = q + n;
        const REAL *restrict h = before + row * n;
        REAL *restrict y = out + row * n;
        ALL r[j] = NAME(sigmoid)(r[j]);
        ALL u[j] = NAME(sigmoid)(u[j]);
        ALL c[j] = NAME(tanh)(c[j] + r[j] * q[j]);
        ALL y[j] = c[j] + u[j] * (h[j] - c[j]);
    }
}

/* dh: gradient of the output from the next step, becomes the part that u carries on; d: blocks as above. */
void NAME(gru_backward)(
    long rows, long n, const REAL *restrict as, const REAL *restrict before, const REAL *restrict dys,
    REAL *restrict dhs, REAL *restrict ds
) {
    for (long row = 0; row < rows; row++) {
        const REAL *restrict r = as + row * 4 * n, *restrict u = r + n, *restrict q = u + n, *restrict c = q + n;
        const REAL *restrict h = before + row * n, *restrict dy = dys ? dys + row * n : 0;
        REAL *restrict dh = dhs + row * n;
        REAL *restrict d_r = ds + row * 4 * n, *restrict d_u = d_r + n;
        REAL *restrict d_q = d_u + n, *restrict d_c = d_q + n;
        if (dy) ALL dh[j] += dy[j];
        ALL {
            REAL g = dh[j] * (1 - u[j]) * (1 - c[j] * c[j]);
            d_c[j] = g;
            d_q[j] = g * r[j];
            d_r[j] = g * q[j] * r[j] * (1 - r[j]);
            d_u[j] = dh[j] * (h[j] - c[j]) * u[j] * (1 - u[j]);
            dh[j] *= u[j];
        }
    }
}

/* GRU, reset before the product, in two parts around it. a: blocks reset, update, candidate. */
void NAME(gru_before_gates)(
    long rows, long n, REAL *restrict as, const REAL *restrict before, REAL *restrict reset_states
) {
    for (long row = 0; row < rows; row++) {
        REAL *restrict r = as + row * 3 * n, *restrict u = r + n, *restrict s = reset_states + row * n;
        const REAL *restrict h = before + row * n;
        ALL {
            r[j] = NAME(sigmoid)(r[j]);
            s[j] = r[j] * h[j];
        }
        ALL u[j] = NAME(sigmoid)(u[j]);
    }
}

void NAME(gru_before_forward)(long rows, long n, REAL *restrict as, const REAL *restrict before, REAL *restrict out) {
    for (long row = 0; row < rows; row++) {
        REAL *restrict u = as + row * 3 * n + n, *restrict c = u + n;
        const REAL *restrict h = before + row * n;
        REAL *restrict y = out + row * n;
        ALL {
            c[j] = NAME(tanh)(c[j]);
            y[j] = c[j] + u[j] * (h[j] - c[j]);
        }
    }
}

void NAME(gru_before_backward)(
    long rows, long n, const REAL *restrict as, const REAL *restrict before, const REAL *restrict dys,
    REAL *restrict dhs, REAL *restrict ds
) {
    for (long row = 0; row < rows; row++) {
        const REAL *restrict u = as + row * 3 * n + n, *restrict c = u + n;
        const REAL *restrict h = before + row * n, *restrict dy = dys ? dys + row * n : 0;
        REAL *restrict dh = dhs + row * n, *restrict d_u = ds + row * 3 * n + n, *restrict d_c = d_u + n;
        if (dy) ALL dh[j] += dy[j];
        ALL {
            d_c[j] = dh[j] * (1 - u[j]) * (1 - c[j] * c[j]);
            d_u[j] = dh[j] * (h[j] - c[j]) * u[j] * (1 - u[j]);
            dh[j] *= u[j];
        }
    }
}

/* dss: gradient of the reset states r h. */
void NAME(gru_before_reset)(
    long rows, long n, const REAL *restrict as, const REAL *restrict before, const REAL *restrict dss,
    REAL *restrict dhs, REAL *restrict ds
) {
    for (long row = 0; row < rows; row++) {
        const REAL *restrict r = as + row * 3 * n, *restrict h = before + row * n, *restrict d_s = dss + row * n;
        REAL *restrict dh = dhs + row * n, *restrict d_r = ds + row * 3 * n;
        ALL {
            d_r[j] = d_s[j] * h[j] * r[j] * (1 - r[j]);
            dh[j] += d_s[j] * r[j];
        }
    }
}

/* For tests of accuracy. */
void NAME(elementwise)(long to, const REAL *restrict x, REAL *restrict sigmoids, REAL *restrict tanhs) {
    const long from = 0;
    EACH {
        sigmoids[j] = NAME(sigmoid)(x[j]);
        tanhs[j] = NAME(tanh)(x[j]);
    }
}

#undef EACH
#undef ALL
