/* Matrix products of a recurrent step: few rows on one side, a weight matrix that stays the same on the other.

   The weights are packed once a sweep into panels of COLUMNS columns, (k, COLUMNS) each, so that the inner loop reads
   them in order. It keeps a tile of at most TILE_ROWS x COLUMNS sums in registers. Every sum adds its k products in
   one order whatever the number of rows: a sequence gets the same result in any batch. */

typedef REAL NAME(vector) __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));
_Static_assert(sizeof(NAME(vector)) == VECTOR_BYTES, "this compiler has no vectors");

#define LANES ((long)(VECTOR_BYTES / sizeof(REAL)))
#define COLUMNS (2 * LANES)
#define TILE_ROWS 6
#define DEPTH 256                    /* so many rows of a panel at a time: they stay in the first-level cache */
#define BLOCK_ROWS 72                /* so many rows of the other side: they stay in the second-level cache */
#define FEW 40000                    /* numbers that stay there beside the weights which pass */
#define LEAST(a, b) ((a) < (b) ? (a) : (b))

static long NAME(panels)(long columns) { return (columns + COLUMNS - 1) / COLUMNS; }

/* How many numbers a packed (k, columns) matrix takes. */
static long NAME(packed)(long k, long columns) { return NAME(panels)(columns) * k * COLUMNS; }

/* Packs b (k, columns), whose element (m, j) is at b[m * row + j * column]; columns that are missing become 0. */
static void NAME(pack)(long k, long columns, const REAL *b, long row, long column, REAL *restrict to) {
    for (long start = 0; start < columns; start += COLUMNS, to += k * COLUMNS, b += COLUMNS * column) {
        const long n = LEAST(COLUMNS, columns - start);
        if (n < COLUMNS) memset(to, 0, sizeof(REAL) * k * COLUMNS);
        if (column == 1)
            for (long m = 0; m < k; m++) memcpy(to + m * COLUMNS, b + m * row, sizeof(REAL) * n);
        else for (long begin = 0; begin < k; begin += 16) {      /* a line of each of the columns at a time */
            const long end = LEAST(begin + 16, k);
            for (long j = 0; j < n; j++) {
                const REAL *from = b + j * column;
                for (long m = begin; m < end; m++) to[m * COLUMNS + j] = from[m * row];
            }
        }
    }
}

/* c (rows, panels * COLUMNS) += a (rows, k) b: element (r, m) of a at a[r * row + m * depth], panels `panel` apart.
   rows and panels are constants where this is called: at most 12 sums, which live in registers. */
INLINE void NAME(tile)(
    const int rows, const int panels, long k, const REAL *a, long row, long depth, const REAL *b, long panel, REAL *c,
    long c_row
) {
    NAME(vector) sums[TILE_ROWS * 2];
    for (int i = 0; i < rows * panels * 2; i++) sums[i] = (NAME(vector)){0};
    for (long m = 0; m < k; m++)
        for (int p = 0; p < panels; p++) {
            const NAME(vector) b0 = *(const NAME(vector) *)(b + p * panel + m * COLUMNS);
            const NAME(vector) b1 = *(const NAME(vector) *)(b + p * panel + m * COLUMNS + LANES);
            for (int r = 0; r < rows; r++) {
                const REAL x = a[r * row + m * depth];
                sums[(r * panels + p) * 2] += x * b0;
                sums[(r * panels + p) * 2 + 1] += x * b1;
            }
        }
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < panels * 2; i++) *(NAME(vector) *)(c + r * c_row + i * LANES) += sums[r * panels * 2 + i];
}

INLINE void NAME(tiles)(
    long rows, long k, const REAL *a, long row, long depth, const REAL *b, REAL *c, long c_row
) {
    switch (rows) {
    case 1: NAME(tile)(1, 1, k, a, row, depth, b, 0, c, c_row); break;
    case 2: NAME(tile)(2, 1, k, a, row, depth, b, 0, c, c_row); break;
    case 3: NAME(tile)(3, 1, k, a, row, depth, b, 0, c, c_row); break;
    case 4: NAME(tile)(4, 1, k, a, row, depth, b, 0, c, c_row); break;
    case 5: NAME(tile)(5, 1, k, a, row, depth, b, 0, c, c_row); break;
    case 6: NAME(tile)(6, 1, k, a, row, depth, b, 0, c, c_row); break;
    }
}

/* A tile of one panel; where the panel sticks out over the last column, it is computed beside. */
INLINE void NAME(any_tile)(
    long rows, long columns, long k, const REAL *a, long row, long depth, const REAL *b, REAL *c, long c_row
) {
    if (columns >= COLUMNS) {
        NAME(tiles)(rows, k, a, row, depth, b, c, c_row);
        return;
    }
    REAL whole[TILE_ROWS * COLUMNS] = {0};
    NAME(tiles)(rows, k, a, row, depth, b, whole, COLUMNS);
    for (long r = 0; r < rows; r++)
        for (long j = 0; j < columns; j++) c[r * c_row + j] += whole[r * COLUMNS + j];
}

/* c += a (rows, k) times panels first to end - 1 of a packed matrix of so many columns, `panel` apart. */
static void NAME(add_panels)(
    long rows, long k, long first, long end, long columns, const REAL *a, long a_row, const REAL *b, long panel,
    REAL *c, long c_row
) {
    const long whole = LEAST(end, columns / COLUMNS), tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
    long p = first;
    /* A sum waits for its last addition: of few rows several panels at once keep the processor busy. */
    for (; rows == 1 && p + 4 <= whole; p += 4)
        NAME(tile)(1, 4, k, a, a_row, 1, b + p * panel, panel, c + p * COLUMNS, c_row);
    for (; rows == 2 && p + 3 <= whole; p += 3)
        NAME(tile)(2, 3, k, a, a_row, 1, b + p * panel, panel, c + p * COLUMNS, c_row);
    for (; rows == 3 && p + 2 <= whole; p += 2)
        NAME(tile)(3, 2, k, a, a_row, 1, b + p * panel, panel, c + p * COLUMNS, c_row);
    for (; p < end; p++)
        for (long i = 0, r = 0, n; i < tiles; i++, r += n) {
            n = (rows - r + tiles - i - 1) / (tiles - i);      /* tiles as even as can be */
            NAME(any_tile)(
                n, columns - p * COLUMNS, k, a + r * a_row, a_row, 1, b + p * panel, c + r * c_row + p * COLUMNS, c_row
            );
        }
}

/* c (rows, columns) += a (rows, k) b, b packed. */
static void NAME(add_product)(
    long rows, long k, long columns, const REAL *a, long a_row, const REAL *b, REAL *c, long c_row
) {
    const long panels = NAME(panels)(columns), panel = k * COLUMNS;
    if (rows <= BLOCK_ROWS && rows * k <= FEW) {         /* large weights are read from their beginning to their end */
        const long group = rows < 4 ? 12 : 1;            /* what several panels at once divide */
        for (long p = 0; p < panels; p += group)
            for (long m = 0; m < k; m += DEPTH)
                NAME(add_panels)(
                    rows, LEAST(DEPTH, k - m), p, LEAST(p + group, panels), columns, a + m, a_row, b + m * COLUMNS,
                    panel, c, c_row
                );
        return;
    }
    for (long m = 0; m < k; m += DEPTH)
        for (long r = 0; r < rows; r += BLOCK_ROWS)
            NAME(add_panels)(
                LEAST(BLOCK_ROWS, rows - r), LEAST(DEPTH, k - m), 0, panels, columns, a + r * a_row + m, a_row,
                b + m * COLUMNS, panel, c + r * c_row, c_row
            );
}

/* Numbers of room that add_outer needs. */
static long NAME(outer_room)(long columns) { return NAME(packed)(DEPTH, columns) + DEPTH * BLOCK_ROWS; }

/* c (n, columns) += the transpose of a (rows, n) times b (rows, columns); row r of b is at rows_of_b[r]. */
static void NAME(add_outer)(
    long rows, long n, long columns, const REAL *a, long a_row, const REAL *const *rows_of_b, REAL *c, REAL *room
) {
    REAL *packed_a = room + NAME(packed)(DEPTH, columns);
    for (long begin = 0; begin < rows; begin += DEPTH) {
        const long depth = LEAST(DEPTH, rows - begin);
        for (long m = 0; m < depth; m++) {
            const REAL *from = rows_of_b[begin + m];
            REAL *to = room + m * COLUMNS;
            long j = 0;
            for (; j + COLUMNS <= columns; j += COLUMNS, to += depth * COLUMNS)
                memcpy(to, from + j, sizeof(REAL) * COLUMNS);
            if (j < columns) for (long i = 0; i < COLUMNS; i++) to[i] = j + i < columns ? from[j + i] : 0;
        }
        for (long top = 0; top < n; top += BLOCK_ROWS) {
            const long block = LEAST(BLOCK_ROWS, n - top), tiles = (block + TILE_ROWS - 1) / TILE_ROWS;
            for (long m = 0; m < depth; m++) {
                const REAL *from = a + (begin + m) * a_row + top;
                REAL *to = packed_a + m * TILE_ROWS;
                long j = 0;
                for (; j + TILE_ROWS <= block; j += TILE_ROWS, to += depth * TILE_ROWS)
                    memcpy(to, from + j, sizeof(REAL) * TILE_ROWS);
                for (long i = 0; j + i < block; i++) to[i] = from[j + i];
            }
            for (long p = 0; p < NAME(panels)(columns); p++)
                for (long i = 0; i < tiles; i++)
                    NAME(any_tile)(
                        LEAST(TILE_ROWS, block - i * TILE_ROWS), columns - p * COLUMNS, depth,
                        packed_a + i * depth * TILE_ROWS, 1, TILE_ROWS, room + p * depth * COLUMNS,
                        c + (top + i * TILE_ROWS) * columns + p * COLUMNS, columns
                    );
        }
    }
}

/* COLUMNS stays: a sweep shares out panels. */
#undef TILE_ROWS
#undef DEPTH
#undef BLOCK_ROWS
#undef FEW
#undef LEAST
