// SPDX-License-Identifier: BSD-2-Clause

package setting

import (
	"fmt"
	"os"
	"strconv"
)

// FileMode is the permissions of a unix socket, written in octal: "0660".
type FileMode os.FileMode

// String writes the mode in octal with a leading 0.
func (m FileMode) String() string { return fmt.Sprintf("0%03o", uint32(m)) }

// MarshalText writes m as String does.
func (m FileMode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads an octal number.
func (m *FileMode) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 8, 32)
	if err != nil || n == 0 || n > 0o777 {
		return fmt.Errorf("%q is not a file mode; expected an octal number from \"0001\" to \"0777\", as in \"0660\"", text)
	}
	*m = FileMode(n)
	return nil
}
