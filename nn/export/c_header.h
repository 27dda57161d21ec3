/* Parts of the header that `c_header.py` puts together: each ends where the next begins. */

/* part: head */
/* $about
 *
 * $memory
 */

#ifndef ${NAME}_H
#define ${NAME}_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ${NAME}_INPUTS $inputs
#define ${NAME}_OUTPUTS $outputs

/* part: pixels */
/* $row: ${NAME}_INPUTS whole numbers, $order, from 0 to $largest; they are scaled inside. */

/* part: numbers */
/* $row: ${NAME}_INPUTS finite numbers, scaled as the rows of the training were. */

/* part: cells */
/* $row: ${NAME}_INPUTS numbers as in the table, at these indices; they are standardized inside. NaN (NAN of <math.h>)
 * stands for a missing value, where one may be: compile without -ffast-math.
 */
$columns

/* part: levels */
/* Cells by the text in column $column; -1 for any other text, which counts for no level. */
$levels
int $function(const char *text);

/* part: softmax */
/* Predicts ${NAME}_OUTPUTS probabilities, which sum to 1. */
void ${name}_predict_proba(const $type *$row, float *probabilities);

/* Predicts the index of the most probable class. */
int ${name}_predict(const $type *$row);

/* part: sigmoid */
/* Predicts ${NAME}_OUTPUTS probabilities, independent of each other: the labels are those above 1/2. */
void ${name}_predict_proba(const $type *$row, float *probabilities);

/* part: values */
/* Predicts ${NAME}_OUTPUTS values, in the units of the training labels. */
void ${name}_predict_values(const $type *$row, float *values);

/* part: names */
/* Names of the outputs in UTF-8:
$names
 */
extern const char *const ${name}_class_names[${NAME}_OUTPUTS];

/* part: end */
#ifdef __cplusplus
}
#endif

#endif
