// Activations and their derivatives in terms of their own output y, as backends/activations.py has them.
#pragma once

__device__ __forceinline__ REAL identity(REAL x) { return x; }
__device__ __forceinline__ REAL identity_backward(REAL grad_y, REAL) { return grad_y; }

__device__ __forceinline__ REAL relu(REAL x) { return x > 0 ? x : x != x ? x : REAL(0); }  // NaN stays NaN
__device__ __forceinline__ REAL relu_backward(REAL grad_y, REAL y) { return y > 0 ? grad_y : REAL(0); }

__device__ __forceinline__ REAL leaky_relu(REAL x) { return x > 0 ? x : REAL(LEAKY_SLOPE) * x; }
__device__ __forceinline__ REAL leaky_relu_backward(REAL grad_y, REAL y) {
    return y > 0 ? grad_y : REAL(LEAKY_SLOPE) * grad_y;
}

__device__ __forceinline__ REAL hyperbolic_tangent(REAL x) { return tanh(x); }
__device__ __forceinline__ REAL hyperbolic_tangent_backward(REAL grad_y, REAL y) { return grad_y * (1 - y * y); }

__device__ __forceinline__ REAL sigmoid(REAL x) { return REAL(0.5) + REAL(0.5) * tanh(REAL(0.5) * x); }
__device__ __forceinline__ REAL sigmoid_backward(REAL grad_y, REAL y) { return grad_y * (y * (1 - y)); }

#define JOINED_(a, b) a##b
#define JOINED(a, b) JOINED_(a, b)

// The activation of layer l: the last layer's outputs are logits.
__device__ __forceinline__ REAL activation(int l, REAL x) { return l == LAYERS ? x : ACTIVATION(x); }
__device__ __forceinline__ REAL activation_backward(REAL grad_y, REAL y) {
    return JOINED(ACTIVATION, _backward)(grad_y, y);
}
