// SPDX-License-Identifier: BSD-2-Clause

package main

import "rcptgate/front/web"

// newWeb is the status page and its neighbours.
func (d *daemon) newWeb() *web.Server {
	d.refusals.HideAddresses(d.config.Listen.HideAddresses)
	return web.New(web.Options{
		Metrics:  d.telemetry.MetricsHandler(),
		Ready:    d.unready,
		Warnings: d.warnings,
		Counts:   d.counts,
		Backends: d.backends.Health,
		Stores:   d.places,
		Tables:   d.tableRows,
		Refusals: d.refusals,
		Hostname: d.hostname,
		Version:  versionText(),
		Log:      d.log,
	})
}

// tableRows describes the MTA's tables in use.
func (d *daemon) tableRows() []web.Table {
	var rows []web.Table
	for _, s := range d.tables.state() {
		row := web.Table{Name: s.Spec.String(), Use: s.Use.String(), Entries: s.Entries, Modified: s.Modified, Since: s.Since}
		if s.Err != nil {
			row.Why = s.Err.Error()
		}
		rows = append(rows, row)
	}
	return rows
}

// unready gives the reasons why no questions are taken.
func (d *daemon) unready() []string {
	if why := d.notReady.Load(); why != nil {
		return []string{*why}
	}
	return nil
}

// warnings tells what is wrong although questions are taken.
func (d *daemon) warnings() []string {
	if t := d.telemetry.Trouble(); t != nil {
		return []string{t.String()}
	}
	return nil
}

// setReady takes "" when questions are taken, else the reason why not.
func (d *daemon) setReady(why string) {
	if why == "" {
		d.notReady.Store(nil)
		return
	}
	d.notReady.Store(&why)
}

func (d *daemon) counts() []web.Count {
	var out []web.Count
	for _, c := range d.telemetry.Counts() {
		out = append(out, web.Count(c))
	}
	return out
}
