// SPDX-License-Identifier: BSD-2-Clause

package unit

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestACommandWithoutItsParent: a command is never dropped without a word.
func TestACommandWithoutItsParent(t *testing.T) {
	root := &cobra.Command{Use: "rcptgate"}
	child := Under("config", &cobra.Command{Use: "show"})
	if err := Attach(root, []*cobra.Command{child}); err == nil || !strings.Contains(err.Error(), `"show" belongs below "config"`) {
		t.Errorf("without its parent: %v", err)
	}
	parent := &cobra.Command{Use: "config"}
	if err := Attach(root, []*cobra.Command{child, parent}); err != nil || child.Parent() != parent {
		t.Errorf("with its parent: %v", err)
	}
}
