package report

import "github.com/spf13/cobra"

func benfordCommand() *cobra.Command { return &cobra.Command{Use: "benford"} }
