// SPDX-License-Identifier: BSD-2-Clause

// Package unsteady has tests that fail on purpose: once, always, or at their end. test/steady.sh runs them.
package unsteady
