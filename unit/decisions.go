// SPDX-License-Identifier: BSD-2-Clause

package unit

import "rcptgate/view"

// decisions shows what was decided since the start.
func (h *Host) decisions() []view.Table {
	if h.Telemetry == nil {
		return nil
	}
	t := view.Table{
		Name: "decisions", Title: "Decisions since the start", Empty: "none yet",
		Columns: view.Columns("action", "Action", "would", "Rehearsed", "reason", "Reason", "source", "Source", "number", "Number"),
	}
	for _, c := range h.Telemetry.Counts() {
		t.Add("", c.Action, c.Would, c.Reason, c.Source, c.N)
	}
	return []view.Table{t}
}
