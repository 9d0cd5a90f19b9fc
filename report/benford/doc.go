// SPDX-License-Identifier: BSD-2-Clause

// Package benford compares the leading digits of numbers with Benford's law: in many sets of
// numbers that span several orders of magnitude, d is the first digit of log(1+1/d) of them.
//
// It has the law for bases 3 to 36 and for the first digit, the second, and the first two
// together; the measures that are in use (mean absolute deviation, chi-square,
// Kolmogorov-Smirnov, a Z for each digit); and their graphs. The verdict is by mean absolute
// deviation: with hundreds of thousands of numbers the other tests call every real set
// different from the law. With too few numbers even a perfect set deviates by chance; how
// much is said (the noise floor), and below it there is no verdict.
//
// Sources: M. Nigrini, Benford's Law (2012), chapters 5 to 7, for the bounds of the mean
// absolute deviation; R. Cerqueti and C. Lupi, arXiv:2202.05237, for excess power; Abramowitz
// and Stegun 6.5 for the incomplete gamma function.
package benford
