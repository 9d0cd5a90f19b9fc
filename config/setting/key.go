// SPDX-License-Identifier: BSD-2-Clause

package setting

import "fmt"

// KeyError is what a section's Validate method returns about one of its options, so
// that the line of that option can be added to it.
type KeyError struct {
	Key string // within the section; "valid.expire" for an inner table
	Err error
}

// Keyf makes a KeyError; the text says what is wrong and what is allowed.
func Keyf(key, format string, args ...any) error {
	return &KeyError{Key: key, Err: fmt.Errorf(format, args...)}
}

// Error writes "key: text".
func (e *KeyError) Error() string { return e.Key + ": " + e.Err.Error() }

// Unwrap gives the error without the key.
func (e *KeyError) Unwrap() error { return e.Err }
