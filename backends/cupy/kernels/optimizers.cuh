// One step of an optimizer, as backends/optimizers.py has them. One of SGD, RMSPROP and ADAM is defined, with its
// settings by their names there, but for those that Rates has.
//
// state (1 + slots, PARAMETERS): the parameters, then each of the optimizer's slots in the same order.
#pragma once

// Of one step: the learning rate, what Adam divides its two means by, the strength of the penalty, and what is added to a
// root.
struct Rates {
    REAL learning_rate, mean_correction, square_correction, l2, epsilon;
};

__device__ __forceinline__ void take_step(REAL* state, int64 i, REAL grad, bool is_weight, const Rates& rates) {
    const int64 count = PARAMETERS;
    const REAL p = state[i], rate = rates.learning_rate;
    if (is_weight) grad += rates.l2 * p;
#if defined(SGD)
    if (MOMENTUM == 0) {
        state[i] = p - rate * grad;
    } else {
        const REAL velocity = REAL(MOMENTUM) * state[count + i] + grad;
        state[count + i] = velocity;
        state[i] = p - rate * (NESTEROV ? grad + REAL(MOMENTUM) * velocity : velocity);
    }
#elif defined(RMSPROP)
    const REAL square = REAL(DECAY) * state[count + i] + REAL(1 - DECAY) * grad * grad;
    state[count + i] = square;
    state[i] = p - rate * grad / (sqrt(square) + rates.epsilon);
#elif defined(ADAM)
    const REAL mean = REAL(BETA_1) * state[count + i] + REAL(1 - BETA_1) * grad;
    const REAL square = REAL(BETA_2) * state[2 * count + i] + REAL(1 - BETA_2) * grad * grad;
    state[count + i] = mean;
    state[2 * count + i] = square;
    const REAL decayed = p * (1 - rate * REAL(WEIGHT_DECAY));  // 0 but for AdamW
    state[i] = decayed - rate * (mean / rates.mean_correction) / (sqrt(square / rates.square_correction) + rates.epsilon);
#endif
}
