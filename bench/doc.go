// SPDX-License-Identifier: BSD-2-Clause

// Package bench measures how fast and how large the gate is, for "rcptgate bench".
//
// Every figure comes from the program as it is used: "rcptgate serve" in a process of its own, configured by a file, its
// log, trace and metrics as by default (the log goes through a pipe and is counted, so that a gate that logs nothing
// would show), loaded over its milter socket by package load. Behind it is a simulated mail server (package
// backend/sim). What is compared with is measured in the same run and in turns, A B B A and so on, and the medians of
// the ratios count: a machine is never the same twice, two programs in one minute on it are alike.
//
// The measure of speed is an echo milter in a process of its own, which negotiates the same events and answers
// "continue" to everything: nothing that does something can be faster. The figures for milter-ahead, which cannot be
// had here, are its ratios to an echo milter in an earlier measurement (docs/performance.md).
//
// Limits: Linux; the generator, the gate and the backend share one machine, which is why the generator's own share is
// printed. It is no test: nothing fails for being slow unless "rcptgate bench --strict" is asked.
package bench
