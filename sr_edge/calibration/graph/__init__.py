"""The float graph as calibration sees it: quantizable operators, im2col, instrumented graphs."""
