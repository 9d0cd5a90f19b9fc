// SPDX-License-Identifier: BSD-2-Clause

package unit

import "rcptgate/view"

// decisions shows what was decided since the start.
func (h *Host) decisions() []view.Table {
	if h.Telemetry == nil {
		return nil
	}
	t := decisionsTable()
	for _, c := range h.Telemetry.Counts() {
		t.Add("", c.Action, c.Would, c.Reason, c.Source, c.N)
	}
	return []view.Table{t}
}

// decisionsTable is the table "decisions" without rows.
func decisionsTable() view.Table {
	return view.Table{
		Name: "decisions", Title: "Decisions since the start", Empty: "none yet",
		Doc: "what was decided about recipients and messages, counted in groups that are alike",
		Columns: view.Explained(
			"action", "Action", "what the MTA was told",
			"would", "Rehearsed", "what it would have been told if the gate were not rehearsing",
			"reason", "Reason", "why, in one word: the log and \"rcptgate check\" use the same words",
			"source", "Source", "where the answer came from: ram, disk, memcached, probe, alias, rule and so on",
			"number", "Number", "how many",
		),
	}
}
