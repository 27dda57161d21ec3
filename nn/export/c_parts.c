/* Parts of the C source that `c_program.py` puts together: each ends where the next begins. */

/* part: layer */
struct layer {
    size_t in_features;
    size_t out_features;
    const float *weights; /* out_features x in_features */
    const float *bias;    /* out_features */
};

/* part: dense */
/* y = W x + b; four sums at a time are faster than one, and round less. */
static void $function(const struct layer *layer, const $type *x, float *y)
{
    const float *weights = layer->weights;
    for (size_t j = 0; j < layer->out_features; j++) {
        float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        size_t i = 0;
        for (; i + 4 <= layer->in_features; i += 4) {
            sums[0] += weights[i] * ${cast}x[i];
            sums[1] += weights[i + 1] * ${cast}x[i + 1];
            sums[2] += weights[i + 2] * ${cast}x[i + 2];
            sums[3] += weights[i + 3] * ${cast}x[i + 3];
        }
        for (; i < layer->in_features; i++) {
            sums[0] += weights[i] * ${cast}x[i];
        }
        y[j] = layer->bias[j] + $scale((sums[0] + sums[1]) + (sums[2] + sums[3]));
        weights += layer->in_features;
    }
}

/* part: activate */
/* $activation */
static void activate(float *y, size_t count)
{
    for (size_t j = 0; j < count; j++) {
        y[j] = $formula;
    }
}

/* part: columns */
struct column {
    double mean;         /* of a number: its feature is (cell - mean) * factor */
    double factor;
    double fill;         /* in place of a missing value */
    const double *codes; /* of a category: cell of each level; NULL for a number */
    size_t num_levels;
    uint8_t has_flag;    /* one more feature: 1 where the value is missing */
};

/* part: standardize */
/* Makes features of the cells of a row. */
static void standardize(const double *cells, float *x)
{
    for (size_t k = 0; k < ${NAME}_INPUTS; k++) {
        const struct column *column = &columns[k];
        int is_missing = cells[k] != cells[k]; /* NaN */
        if (column->codes != NULL) {
            for (size_t level = 0; level < column->num_levels; level++) {
                *x++ = cells[k] == column->codes[level] ? 1.0f : 0.0f;
            }
        } else {
            *x++ = (float)(((is_missing ? column->fill : cells[k]) - column->mean) * column->factor);
        }
        if (column->has_flag) {
            *x++ = is_missing ? 1.0f : 0.0f;
        }
    }
}

/* part: level */
static int level_of(const char *const *levels, int num_levels, const char *text)
{
    for (int code = 0; code < num_levels; code++) {
        const char *a = levels[code];
        const char *b = text;
        while (*a != '\0' && *a == *b) {
            a++;
            b++;
        }
        if (*a == *b) {
            return code;
        }
    }
    return -1;
}

/* part: layer of integers */
/* A sum of products stands for a number: `multipliers` and `shifts` make it the code, 0 to 255, of an activation. */
struct layer {
    size_t in_features;
    size_t out_features;
    const int8_t *weights;      /* out_features x in_features */
    const int32_t *bias;        /* out_features; no sum leaves int32 */
    const int32_t *multipliers; /* out_features; NULL in the last layer */
    const uint8_t *shifts;      /* out_features; NULL in the last layer */
    const uint8_t *table;       /* code of an activation by that of its sum; NULL if they are the same */
    int32_t zero;               /* code of the number 0 */
};

/* part: sum of products */
static int32_t sum_of(const struct layer *layer, size_t j, const uint8_t *x)
{
    const int8_t *weights = layer->weights + j * layer->in_features;
    int32_t sum = layer->bias[j];
    for (size_t i = 0; i < layer->in_features; i++) {
        sum += (int32_t)weights[i] * (int32_t)x[i];
    }
    return sum;
}

/* part: rescale */
/* zero + sum * multiplier / 2^shift, rounded to nearest, within 0 and 255 */
static uint8_t rescale(int32_t sum, int32_t multiplier, uint8_t shift, int32_t zero)
{
    int64_t product = (int64_t)sum * multiplier;
    int64_t half = (int64_t)1 << (shift - 1);
    int64_t code;
    if (product < 0) {
        code = zero - ((half - product$divided) >> shift);
    } else {
        code = zero + ((half + product) >> shift);
    }
    return (uint8_t)(code < 0 ? 0 : code > 255 ? 255 : code);
}

/* part: hidden layer of integers */
/* $activation of W x + b */
static void dense(const struct layer *layer, const uint8_t *x, uint8_t *y)
{
    for (size_t j = 0; j < layer->out_features; j++) {
        uint8_t code = rescale(sum_of(layer, j, x), layer->multipliers[j], layer->shifts[j], layer->zero);
        y[j] = layer->table != NULL ? layer->table[code] : code;
    }
}

/* part: last layer of integers */
static void last(const struct layer *layer, const uint8_t *x, float *outputs)
{
    for (size_t j = 0; j < layer->out_features; j++) {
        outputs[j] = output_scale[j] * (float)sum_of(layer, j, x);
    }
}

/* part: encode numbers */
/* Makes codes, 0 to 255, of features; NaN becomes 0. */
static void encode(const float *x, uint8_t *codes)
{
    for (size_t i = 0; i < $features; i++) {
        float code = (x[i] - input_low[i]) * input_factor[i] + 0.5f;
        codes[i] = (uint8_t)(code >= 255.0f ? 255.0f : code > 0.0f ? code : 0.0f);
    }
}

/* part: encode pixels */
/* Makes codes, 0 to 255, of pixels. */
static void encode(const uint16_t *pixels, uint8_t *codes)
{
    for (size_t i = 0; i < $features; i++) {
        codes[i] = rescale((int32_t)pixels[i], $multiplier, $shift, 0);
    }
}

/* part: softmax */
void ${name}_predict_proba(const $type *$row, float *probabilities)
{
    float largest;
    float sum = 0.0f;
    forward($row, probabilities);
    largest = probabilities[0];
    for (size_t j = 1; j < ${NAME}_OUTPUTS; j++) {
        largest = probabilities[j] > largest ? probabilities[j] : largest;
    }
    for (size_t j = 0; j < ${NAME}_OUTPUTS; j++) {
        probabilities[j] = expf(probabilities[j] - largest);
        sum += probabilities[j];
    }
    for (size_t j = 0; j < ${NAME}_OUTPUTS; j++) {
        probabilities[j] /= sum;
    }
}

int ${name}_predict(const $type *$row)
{
    float outputs[${NAME}_OUTPUTS];
    int best = 0;
    forward($row, outputs);
    for (int j = 1; j < ${NAME}_OUTPUTS; j++) {
        best = outputs[j] > outputs[best] ? j : best;
    }
    return best;
}

/* part: sigmoid */
void ${name}_predict_proba(const $type *$row, float *probabilities)
{
    forward($row, probabilities);
    for (size_t j = 0; j < ${NAME}_OUTPUTS; j++) {
        probabilities[j] = 0.5f + 0.5f * tanhf(0.5f * probabilities[j]);
    }
}

/* part: identity */
void ${name}_predict_values(const $type *$row, float *values)
{
    forward($row, values);
}

/* part: values */
void ${name}_predict_values(const $type *$row, float *values)
{
    forward($row, values);
    for (size_t j = 0; j < ${NAME}_OUTPUTS; j++) {
        values[j] = $value;
    }
}
