// SPDX-License-Identifier: BSD-2-Clause

package script

import (
	"github.com/spf13/cobra"

	"rcptgate/unit"
)

func commands(cli *unit.CLI) []*cobra.Command { return nil }
