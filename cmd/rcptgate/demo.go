// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"context"
	"io"
	"os"

	"github.com/spf13/cobra"

	"rcptgate/demo"
	"rcptgate/unit"
)

func (p *program) demo() *cobra.Command {
	var once bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "demonstrate the gate on one machine, without an MTA",
		Long: `demo starts a small mail server with a few users, the gate in front of it, and a client
that talks to the gate over the milter protocol as an MTA would. Everything runs on
this machine and in a temporary directory that is removed at the end. Afterwards the demo
stays up, with its status page, until it is interrupted.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return demo.Run(cmd.Context(), demo.Options{Out: cmd.OutOrStdout(), Once: once, Program: os.Args[0], Start: p.startFile})
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "exit after the demonstration")
	return cmd
}

// startFile begins a gate with the configuration file at path.
func (p *program) startFile(ctx context.Context, path string, log io.Writer) (demo.Gate, error) {
	c, err := unit.Load(p.schema, path)
	if err != nil {
		return nil, err
	}
	return p.start(ctx, c, unit.Options{Stderr: log})
}
