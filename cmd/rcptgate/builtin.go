// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"rcptgate/check/alias"
	"rcptgate/check/antivirus"
	"rcptgate/check/blocklist"
	"rcptgate/check/callahead"
	"rcptgate/check/harvest"
	"rcptgate/check/quota"
	"rcptgate/check/rules"
	"rcptgate/check/script"
	"rcptgate/check/syntax"
	"rcptgate/check/trusted"
	"rcptgate/doctor"
	"rcptgate/front/admin"
	"rcptgate/front/dns"
	"rcptgate/front/milter"
	"rcptgate/front/socketmap"
	"rcptgate/front/web"
	"rcptgate/gossip"
	"rcptgate/names"
	"rcptgate/quotad"
	"rcptgate/report"
	"rcptgate/unit"
)

// units is THE list of checks, fronts and background jobs. Checks stand in the order in
// which a recipient passes them: it matters, and users would get it wrong.
func units() []unit.Unit {
	return []unit.Unit{
		syntax.Unit(),
		blocklist.Unit(),
		rules.Unit(),
		antivirus.Unit(),
		script.Unit(),
		trusted.Unit(),
		harvest.Unit(),
		alias.Unit(),
		callahead.Unit(),
		quota.Unit(),

		milter.Unit(),
		admin.Unit(),
		web.Unit(),
		socketmap.Unit(),
		dns.Unit(),

		names.Unit(),
		gossip.Unit(),

		quotad.Unit(),

		report.Unit(),
		doctor.Unit(),
	}
}
